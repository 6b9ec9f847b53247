"""Where images to be tokenized are: a folder, or WebDataset shards (tar files).

Either has one order, the same every time, so that an interrupted run can go on where it stopped.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from app.cli.failures import CommandFailed
from app.cli.tokenize import tars
from app.cli.tokenize.entries import (
    DANGLING,
    FOLDER_LINK,
    HIDDEN,
    IMAGE_ENDINGS,
    LOOP,
    OTHER_ENDINGS,
    SIDECAR,
    SNIFFED_BYTES,
    SPECIAL,
    TAR_ENDINGS,
    UNREADABLE,
    Skipped,
    ending_of,
    is_image,
    key_of,
    other,
    stored_name,
)
from app.errors import ImageCorrupt
from app.service.preprocessing import ImageInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from imaging.image_file import ImageFile

_LINK_FAULTS = {errno.ENOENT: DANGLING, errno.ENOTDIR: DANGLING, errno.ELOOP: LOOP}


class Found(NamedTuple):
    """An image file or a tar file.

    Attributes:
        name: relative to the source.
        size: in bytes.
        modified_ns: when it was last written to.
        kept: of each file of its sample that is kept, ending, size and when it was written to.
    """

    name: str
    size: int
    modified_ns: int
    kept: tuple[tuple[str, int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Stored(ImageInput):
    """An image that is read when it is decoded, in the thread that decodes it.

    Attributes:
        read: returns the file's bytes.
        kept: the text of what is kept of its sample, by ending.
    """

    read: Callable[[], bytes] = bytes
    kept: Mapping[str, str] = field(default_factory=dict)

    def inspect(self, max_pixels: int) -> ImageFile | NDArray[np.uint8]:
        """As `ImageInput.inspect`.

        Raises:
            ImageCorrupt: the file can't be read.
            TesseraError: what `ImageInput.inspect` refuses.
        """
        try:
            content = self.read()
        except OSError as error:
            raise ImageCorrupt(f"the file can't be read: {error.strerror or error}") from error
        return ImageInput(content, self.name).inspect(max_pixels)


def survey(path: Path, keep: tuple[str, ...] = ()) -> tuple[Path, Iterator[Found | Skipped]]:
    """The folder that a source's names are relative to, and what it holds, in its order.

    What is found is either all images or all tar files, and at least one. No more names are held
    at a time than one folder has, however many there are.

    Args:
        path: a folder, with the folders below it, or a tar file. Links to folders aren't
            followed.
        keep: endings of the files that are kept of each image's sample.

    Raises:
        CommandFailed: while it is listed: there is nothing, or images and tar files are mixed.
    """
    if path.is_file() and is_tar(path.name):
        status = path.stat()
        return path.parent, iter([Found(path.name, status.st_size, status.st_mtime_ns)])
    if not path.is_dir():
        raise CommandFailed(f"{path}: is neither a folder nor a tar file")
    try:
        os.scandir(path).close()
    except OSError as error:
        raise CommandFailed(f"{path}: can't be listed: {error.strerror}") from error
    return path, _of_one_kind(path, keep)


def is_tar(name: str) -> bool:
    """Whether a name is of a tar file."""
    return name.lower().endswith(TAR_ENDINGS)


def stored_file(root: Path, name: str, kept: Sequence[str]) -> Stored:
    """An image that is a file.

    Args:
        root: what its name is relative to.
        name: of the file.
        kept: endings of the files of its sample that are kept.
    """
    texts = {ending: (root / f"{key_of(name)}.{ending}").read_bytes() for ending in kept}
    return Stored(b"", stored_name(name), (root / name).read_bytes, _as_text(texts))


def stored_members(
    root: Path, tar: str, start: int, end: int, keep: tuple[str, ...]
) -> Iterator[Stored]:
    """The images of a tar file in their order, from the one at `start` to the one before `end`."""
    for image in tars.images(root, tar, start, end, keep):
        name = stored_name(f"{tar}/{image.name}")
        read = _giving(image.content or b"", image.fault)
        yield Stored(b"", name, read, _as_text(image.kept))


def _as_text(kept: Mapping[str, bytes]) -> dict[str, str]:
    """What is kept, as text; what isn't UTF-8 has U+FFFD for its bytes."""
    return {ending: content.decode("utf-8", "replace") for ending, content in kept.items()}


def _giving(content: bytes, fault: str) -> Callable[[], bytes]:
    def read() -> bytes:
        if fault:
            raise OSError(fault)
        return content

    return read


def _of_one_kind(path: Path, keep: tuple[str, ...]) -> Iterator[Found | Skipped]:
    kind = None
    for entry in _files_below(path, keep):
        if isinstance(entry, Found):
            tar = is_tar(entry.name)
            if kind not in {None, tar}:
                raise CommandFailed(
                    f"{path}: holds both images and tar files; say which, by a folder"
                )
            kind = tar
        yield entry
    if kind is None:
        raise CommandFailed(f"{path}: holds no image and no tar file")


def _files_below(
    folder: Path, keep: tuple[str, ...], prefix: str = ""
) -> Iterator[Found | Skipped]:
    """What a folder holds, with names relative to the source, in their order as text.

    A folder stands among its neighbours as its name with a slash: so the names below it come out
    in order without being sorted all together.
    """
    try:
        with os.scandir(folder) as entries:
            there = sorted(
                entries, key=lambda entry: entry.name + "/" * entry.is_dir(follow_symlinks=False)
            )
    except OSError as error:
        yield Skipped(prefix, UNREADABLE, error.strerror or "")
        return
    looked_at = {entry.name: _looked_at(entry, prefix) for entry in there if not _is_folder(entry)}
    samples = {key_of(found.name) for found in looked_at.values() if isinstance(found, Found)}
    for entry in there:
        if _is_folder(entry):
            yield from _files_below(folder / entry.name, keep, f"{prefix}{entry.name}/")
            continue
        found = looked_at[entry.name]
        if isinstance(found, Found):
            yield found._replace(kept=_kept(folder, entry.name, keep)) if keep else found
        elif ending_of(found.name) in keep and key_of(found.name) in samples:
            continue  # it goes with its image
        elif _is_sidecar(found, samples):
            yield found._replace(kind=SIDECAR)
        else:
            yield found


def _kept(folder: Path, image: str, keep: tuple[str, ...]) -> tuple[tuple[str, int, int], ...]:
    """Which files of an image's sample there are to be kept."""
    found = []
    for ending in keep:
        with suppress(OSError):
            status = (folder / f"{key_of(image)}.{ending}").stat()
            found.append((ending, status.st_size, status.st_mtime_ns))
    return tuple(found)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")


def _is_sidecar(skipped: Skipped, samples: set[str]) -> bool:
    return skipped.name.lower().endswith(OTHER_ENDINGS) and key_of(skipped.name) in samples


def _looked_at(entry: os.DirEntry[str], prefix: str) -> Found | Skipped:
    name = prefix + entry.name
    if entry.name.startswith("."):
        return Skipped(name, HIDDEN)
    try:
        status = entry.stat()
    except OSError as error:
        kind = _LINK_FAULTS.get(error.errno or 0, UNREADABLE)
        return Skipped(name, kind, error.strerror or "")
    if stat.S_ISDIR(status.st_mode):
        return Skipped(name, FOLDER_LINK)
    if not stat.S_ISREG(status.st_mode):
        return Skipped(name, SPECIAL)
    lowered = name.lower()
    if not lowered.endswith((*IMAGE_ENDINGS, *TAR_ENDINGS)):
        if lowered.endswith(OTHER_ENDINGS):
            return other(name)
        try:
            with open(entry.path, "rb") as file:  # noqa: PTH123  (of many files)
                start = file.read(SNIFFED_BYTES)
        except OSError as error:
            return Skipped(name, UNREADABLE, error.strerror or "")
        if not is_image(start):
            return other(name, start)
    return Found(name, status.st_size, status.st_mtime_ns)
