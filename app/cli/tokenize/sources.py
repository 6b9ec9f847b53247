"""Where images to be tokenized are: a folder, or WebDataset shards (tar files).

Either has one order, the same every time, so that an interrupted run can go on where it stopped.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
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
    is_image,
    key_of,
    other,
    stored_name,
)
from app.errors import ImageCorrupt
from app.service.preprocessing import ImageInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
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
    """

    name: str
    size: int
    modified_ns: int


@dataclass(frozen=True, slots=True)
class Stored(ImageInput):
    """An image that is read when it is decoded, in the thread that decodes it.

    Attributes:
        read: returns the file's bytes.
    """

    read: Callable[[], bytes] = bytes

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


def survey(path: Path) -> tuple[Path, Iterator[Found | Skipped]]:
    """The folder that a source's names are relative to, and what it holds, in its order.

    What is found is either all images or all tar files, and at least one. No more names are held
    at a time than one folder has, however many there are.

    Args:
        path: a folder, with the folders below it, or a tar file. Links to folders aren't
            followed.

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
    return path, _of_one_kind(path)


def is_tar(name: str) -> bool:
    """Whether a name is of a tar file."""
    return name.lower().endswith(TAR_ENDINGS)


def stored_file(root: Path, name: str) -> Stored:
    """An image that is a file, `name` relative to `root`."""
    return Stored(b"", stored_name(name), (root / name).read_bytes)


def stored_members(root: Path, tar: str, start: int, end: int) -> Iterator[Stored]:
    """The images of a tar file in their order, from the one at `start` to the one before `end`."""
    for image in tars.images(root, tar, start, end):
        name = stored_name(f"{tar}/{image.name}")
        yield Stored(b"", name, _giving(image.content or b"", image.fault))


def _giving(content: bytes, fault: str) -> Callable[[], bytes]:
    def read() -> bytes:
        if fault:
            raise OSError(fault)
        return content

    return read


def _of_one_kind(path: Path) -> Iterator[Found | Skipped]:
    kind = None
    for entry in _files_below(path):
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


def _files_below(folder: Path, prefix: str = "") -> Iterator[Found | Skipped]:
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
            yield from _files_below(folder / entry.name, f"{prefix}{entry.name}/")
            continue
        found = looked_at[entry.name]
        if isinstance(found, Skipped) and _is_sidecar(found, samples):
            found = found._replace(kind=SIDECAR)
        yield found


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
