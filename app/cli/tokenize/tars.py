"""WebDataset shards: the images in a tar file, in their order, and what is wrong with the file.

`tarfile` ends a listing silently at a header that it can't read and at the first end mark. Here
what follows either is looked for, and said.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import posixpath
import shutil
import tarfile
import tempfile
import zlib
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast

from app.cli.tokenize.entries import (
    BEHIND_END_MARK,
    CUT_TAR,
    DAMAGED_TAR,
    DANGLING,
    EMPTY_TAR,
    HIDDEN,
    IMAGE_ENDINGS,
    LOOP,
    NO_END_MARK,
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

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from app.cli.tokenize.storage import Storage

_BLOCK = tarfile.BLOCKSIZE
_COMPRESSIONS = ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\0", lzma.open))
_STREAM_ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError)
# What parsing of a header that lies may raise, besides tarfile's own errors.
_HEADER_ERRORS = (tarfile.HeaderError, tarfile.ReadError, ValueError, IndexError, KeyError)
_MOST_LINKS = 40


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
        except _STREAM_ERRORS as error:
            yield Skipped(tar, UNREADABLE, _reason(error))


@dataclass(slots=True)
class _Sample:
    """The members of one sample, which follow each other.

    Attributes:
        images: its images.
        kept: what is kept of it, by ending.
        others: the same as what they are if it has no image.
        sidecars: what else belongs to it, if it has one.
    """

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
        self._links: _Links | None = None
        self._images = 0

    def entries(self) -> Iterator[Image | Skipped]:
        stream, size = _opened(self._storage, self._tar, self._stack)
        file = self._stack.enter_context(_Headers(fileobj=stream))
        sample, group = "", _Sample()
        for member in _members(file, size, self._tar):
            if isinstance(member, Skipped):
                yield member
                continue
            if member.isdir():
                continue
            name = posixpath.normpath(member.name)
            if key_of(name) != sample:
                yield from group.entries()
                sample, group = key_of(name), _Sample()
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
                self._links = self._stack.enter_context(_Links(self._storage, self._tar))
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
    except _STREAM_ERRORS as error:
        return b"", _reason(error)


class _Headers(tarfile.TarFile):
    """A tar file whose headers `_members` reads, one after the other."""

    offset: int

    def next(self) -> None:
        """Read nothing: opening would read the first header, and fail where it is damaged."""
        return


def _members(file: _Headers, size: int | None, tar: str) -> Iterator[tarfile.TarInfo | Skipped]:
    """The members behind all readable headers, and what is wrong between them.

    Args:
        file: from its first header on.
        size: of the file in bytes; None if it is compressed, and only reading it would tell.
        tar: what the file is called.
    """
    stream: Any = file.fileobj
    found = ended = damaged = False
    last = ""
    while True:
        position = file.offset
        try:
            stream.seek(position)
            reached = stream.tell() if size is None else min(position, size)
            member = tarfile.TarInfo.fromtarfile(file)
            if file.offset <= position:
                raise tarfile.InvalidHeaderError("a member's size is negative")  # type: ignore[attr-defined]
        except tarfile.EmptyHeaderError:  # type: ignore[attr-defined]
            break
        except tarfile.TruncatedHeaderError:  # type: ignore[attr-defined]
            if not ended and not damaged:
                yield Skipped(tar, CUT_TAR, f"it ends in the header at byte {position:,}")
            return
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            ended = True
            file.offset = position + _BLOCK
        except _HEADER_ERRORS:
            if not damaged:
                detail = f"the header at byte {position:,} is damaged, and its member lost"
                yield Skipped(tar, DAMAGED_TAR, detail)
            damaged = True
            file.offset = position + _BLOCK
        except _STREAM_ERRORS as error:
            kind = CUT_TAR if isinstance(error, EOFError) else DAMAGED_TAR
            where = f"after {last}" if last else "from its beginning on"
            yield Skipped(tar, kind, f"it can't be read {where}: {_reason(error)}")
            return
        else:
            if ended:
                detail = f"what follows byte {position:,} is read too: two tar files joined?"
                yield Skipped(tar, BEHIND_END_MARK, detail)
            found, ended, damaged, last = True, False, False, member.name
            yield member
    if not found and not damaged:
        yield Skipped(tar, EMPTY_TAR, "it has no member")
    elif reached < position:
        yield Skipped(tar, CUT_TAR, f"it ends in {last}")
    elif not ended and not damaged:
        yield Skipped(tar, NO_END_MARK, f"it ends after {last}: it may have been cut there")


class _Links:
    """What the links in a tar file lead to; a compressed one is unpacked once to look there.

    Attributes:
        file: where the members that links lead to can be read.
    """

    def __init__(self, storage: Storage, tar: str) -> None:
        self._stack = ExitStack()
        stream, size = _opened(storage, tar, self._stack)
        if size is None:
            unpacked = self._stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
            with suppress(*_STREAM_ERRORS):  # what is lost, the walk itself says
                shutil.copyfileobj(stream, unpacked)
            unpacked.seek(0)
            stream = unpacked
        self.file = self._stack.enter_context(_Headers(fileobj=stream))
        self._members: dict[str, tarfile.TarInfo] = {}
        for member in _members(self.file, size, tar):
            if not isinstance(member, Skipped):
                self._members.setdefault(posixpath.normpath(member.name), member)

    def __enter__(self) -> _Links:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def target(self, member: tarfile.TarInfo, name: str) -> tarfile.TarInfo | str:
        """The file that a link leads to, or the kind of what is wrong with it."""
        for _ in range(_MOST_LINKS):
            # A hard link names a member; a symbolic one a file beside it.
            beside = posixpath.dirname(name) if member.issym() else ""
            name = posixpath.normpath(posixpath.join(beside, member.linkname))
            found = self._members.get(name)
            if found is None:
                return DANGLING
            if found.isreg():
                return found
            if not (found.issym() or found.islnk()):
                return SPECIAL
            member = found
        return LOOP


def _opened(storage: Storage, tar: str, stack: ExitStack) -> tuple[IO[bytes], int | None]:
    """A tar file from its beginning on, unpacked if it is compressed, and its size if it isn't."""
    file = stack.enter_context(storage.open(tar))
    start = file.read(8)
    file.seek(0)
    for magic, opening in _COMPRESSIONS:
        if start.startswith(magic):
            return stack.enter_context(cast("IO[bytes]", opening(file, "rb"))), None
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    return file, size


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
