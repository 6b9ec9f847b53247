"""WebDataset shards: the images in a tar file, in their order, and what else it holds."""

from __future__ import annotations

import posixpath
import tarfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from typing import IO, TYPE_CHECKING, NamedTuple

from app.cli.tokenize.entries import (
    HIDDEN,
    IMAGE_ENDINGS,
    OTHER_ENDINGS,
    SIDECAR,
    SNIFFED_BYTES,
    SPECIAL,
    UNREADABLE,
    Skipped,
    ending_of,
    is_hidden,
    is_image,
    key_of,
    other,
)
from app.cli.tokenize.tar_headers import STREAM_ERRORS, Headers, Links, members, opened, reason

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from app.cli.tokenize.storage import Storage


class Image(NamedTuple):
    """An image in a tar file.

    Attributes:
        name: of the member.
        content: the image file; None if contents weren't asked for.
        fault: why the content can't be had; empty if it can.
        kept: what is kept of its sample, by ending.
    """

    name: str
    content: bytes | None
    fault: str = ""
    kept: Mapping[str, bytes] = {}


def images(
    storage: Storage, tar: str, start: int, end: int, keep: tuple[str, ...] = ()
) -> Iterator[Image]:
    """The images from the one at `start` to the one before `end`, with their contents."""
    listed = (entry for entry in scan(storage, tar, keep, start) if isinstance(entry, Image))
    yield from islice(listed, start, end)


def scan(
    storage: Storage, tar: str, keep: tuple[str, ...] = (), contents_from: int | None = None
) -> Iterator[Image | Skipped]:
    """All entries of a tar file in their order, but for folders.

    Args:
        storage: where the source's files are.
        tar: name of the file.
        keep: endings of the members that are kept of each image's sample.
        contents_from: the index of the first image whose content is wanted; None wants none, and
            then an uncompressed file's headers alone are read.
    """
    with ExitStack() as stack:
        try:
            yield from _Scan(storage, tar, keep, contents_from, stack).entries()
        except STREAM_ERRORS as error:
            yield Skipped(tar, UNREADABLE, reason(error))


@dataclass(slots=True)
class _Sample:
    """The members of one sample, which follow each other.

    Attributes:
        names: names of the members.
        images: its images.
        kept: what is kept of it, by ending.
        others: the same as what they are if it has no image.
        sidecars: what else belongs to it, if it has one.
    """

    names: set[str] = field(default_factory=set)
    images: list[Image] = field(default_factory=list)
    kept: dict[str, bytes] = field(default_factory=dict)
    others: list[Skipped] = field(default_factory=list)
    sidecars: list[Skipped] = field(default_factory=list)

    def entries(self) -> Iterator[Image | Skipped]:
        if not self.images:
            yield from (*self.others, *self.sidecars)
        else:
            yield from (image._replace(kept=self.kept) for image in self.images)
            yield from (one._replace(kind=SIDECAR) for one in self.sidecars)


class _Scan:
    """One walk through a tar file."""

    def __init__(
        self,
        storage: Storage,
        tar: str,
        keep: tuple[str, ...],
        contents_from: int | None,
        stack: ExitStack,
    ) -> None:
        self._storage = storage
        self._keep = keep
        self._tar = tar
        self._contents_from = contents_from
        self._stack = stack
        self._links: Links | None = None
        self._images = 0

    def entries(self) -> Iterator[Image | Skipped]:
        stream, size = opened(self._storage, self._tar, self._stack)
        file = self._stack.enter_context(Headers(fileobj=stream))
        sample, group = "", _Sample()
        for member in members(file, size, self._tar):
            if isinstance(member, Skipped):
                yield member
                continue
            if member.isdir():
                continue
            name = posixpath.normpath(member.name)
            # A name that comes again begins another sample: its caption is not the first one's.
            if key_of(name) != sample or name in group.names:
                yield from group.entries()
                sample, group = key_of(name), _Sample()
            group.names.add(name)
            if ending_of(name) in self._keep and member.isreg() and not is_hidden(name):
                handle = file.extractfile(member)
                assert handle is not None  # noqa: S101
                content, _ = _read(handle, -1) if self._contents_from is not None else (b"", "")
                group.kept[ending_of(name)] = content
                group.others.append(other(f"{self._tar}/{name}"))
                continue
            entry = self._entry(file, member, name)
            if isinstance(entry, Image):
                self._images += 1
                group.images.append(entry)
            elif name.lower().endswith(OTHER_ENDINGS) and entry.kind.startswith("."):
                group.sidecars.append(entry)
            else:
                yield entry
        yield from group.entries()

    def _entry(self, file: tarfile.TarFile, member: tarfile.TarInfo, name: str) -> Image | Skipped:
        shown = f"{self._tar}/{name}"
        if is_hidden(name):
            return Skipped(shown, HIDDEN)
        if member.issym() or member.islnk():
            if self._links is None:
                self._links = self._stack.enter_context(Links(self._storage, self._tar))
            found = self._links.target(member, name)
            if isinstance(found, str):
                return Skipped(shown, found, f"to {member.linkname}")
            file, member = self._links.file, found
        elif not member.isreg():
            return Skipped(shown, SPECIAL)
        return self._file(file, member, name, shown)

    def _file(
        self, file: tarfile.TarFile, member: tarfile.TarInfo, name: str, shown: str
    ) -> Image | Skipped:
        wanted = self._contents_from is not None and self._images >= self._contents_from
        lowered = name.lower()
        known = lowered.endswith(IMAGE_ENDINGS)
        if not known and lowered.endswith(OTHER_ENDINGS):
            return other(shown)
        if known and not wanted:
            return Image(name, None)
        handle = file.extractfile(member)
        assert handle is not None  # noqa: S101
        # In two steps, so that what is an image doesn't depend on whether all of it is wanted.
        start, fault = _read(handle, SNIFFED_BYTES)
        if not known and not is_image(start):
            return other(shown, start)
        if not wanted or fault:
            return Image(name, None, fault)
        rest, fault = _read(handle, -1)
        return Image(name, start + rest, fault)


def _read(handle: IO[bytes], size: int) -> tuple[bytes, str]:
    """So many bytes of a member, and why they can't be read."""
    try:
        return handle.read(size), ""
    except tarfile.ReadError:
        return b"", "the tar file ends in it"
    except STREAM_ERRORS as error:
        return b"", reason(error)
