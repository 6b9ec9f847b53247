"""Where images to be tokenized are: a folder, or WebDataset shards (tar files).

Either has one order, the same every time, so that an interrupted run can go on where it stopped.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import tarfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from app.cli.failures import CommandFailed
from app.errors import ImageCorrupt
from app.service.preprocessing import ImageInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from imaging.image_file import ImageFile

_IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
_TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_TAR_ERRORS = (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError)


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
            raise ImageCorrupt(f"the file can't be read: {error.strerror}") from error
        return ImageInput(content, self.name).inspect(max_pixels)


class Source(Protocol):
    """Images in a fixed order.

    Attributes:
        count: of images; None where only reading everything would tell.
        fingerprint: SHA-256 over names and sizes, hexadecimal; another where the source changed.
    """

    count: int | None
    fingerprint: str

    def images(self, start: int) -> Iterator[Stored]:
        """The images from the one at `start` on."""
        ...


def open_source(path: Path) -> Source:
    """A folder of images, a folder of tar files, or one tar file.

    Args:
        path: images are looked for in the folders below it too; links to folders aren't followed.

    Raises:
        CommandFailed: there is nothing, or images and tar files are mixed.
    """
    root, listed = survey(path)
    names = list(listed)
    return _Tars(root, names) if is_tar(names[0]) else _Folder(root, names)


def survey(path: Path) -> tuple[Path, Iterator[str]]:
    """The folder that a source's names are relative to, and the names, in their order.

    They are either all of images or all of tar files, and at least one. No more of them are held
    at a time than one folder has, however many there are.

    Raises:
        CommandFailed: while they are listed: there is nothing, or images and tar files are mixed.
    """
    if path.is_file() and is_tar(path.name):
        return path.parent, iter([path.name])
    if not path.is_dir():
        raise CommandFailed(f"{path}: is neither a folder nor a tar file")
    return path, _of_one_kind(path)


def is_tar(name: str) -> bool:
    """Whether a name is of a tar file."""
    return name.endswith(_TARS)


def stored_file(root: Path, name: str) -> Stored:
    """An image that is a file, `name` relative to `root`."""
    return Stored(b"", _shown(name), (root / name).read_bytes)


def stored_members(root: Path, tar: str, start: int = 0) -> Iterator[Stored]:
    """The images of a tar file in their order, from the one at `start` on.

    Raises:
        CommandFailed: it can't be read.
    """
    with _reading(tar), tarfile.open(root / tar) as file:
        for member in islice(_image_members(file), start, None):
            handle = file.extractfile(member)
            content = handle.read() if handle else b""
            yield Stored(content, _shown(f"{tar}/{member.name}"), _giving(content))


def count_members(root: Path, tar: str) -> int:
    """How many images a tar file has. Reads headers alone where it isn't compressed.

    Raises:
        CommandFailed: it can't be read.
    """
    with _reading(tar), tarfile.open(root / tar) as file:
        return sum(1 for _ in _image_members(file))


class Fingerprint:
    """SHA-256 over names and sizes of files, in their order.

    Args:
        root: what the names are relative to.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._digest = hashlib.sha256()

    def add(self, name: str) -> None:
        """Take up the next file."""
        size = (self._root / name).stat().st_size
        self._digest.update(f"{name}\t{size}\n".encode("utf-8", "surrogateescape"))

    def value(self) -> str:
        """Of all files until now, hexadecimal."""
        return self._digest.hexdigest()


class _Folder:
    def __init__(self, path: Path, names: list[str]) -> None:
        self._path = path
        self._names = names
        self.count: int | None = len(names)
        self.fingerprint = _fingerprint(path, names)

    def images(self, start: int) -> Iterator[Stored]:
        for name in self._names[start:]:
            yield stored_file(self._path, name)


class _Tars:
    """WebDataset: each image is a member; what belongs to it shares its name up to the dot."""

    def __init__(self, path: Path, names: list[str]) -> None:
        self._path = path
        self._names = names
        self.count: int | None = None
        self.fingerprint = _fingerprint(path, names)

    def images(self, start: int) -> Iterator[Stored]:
        left = start
        for name in self._names:
            if left:
                there = count_members(self._path, name)
                if there <= left:
                    left -= there
                    continue
            yield from stored_members(self._path, name, left)
            left = 0


def _of_one_kind(path: Path) -> Iterator[str]:
    kind = None
    for name in _files_below(path):
        tar = is_tar(name)
        if not tar and not name.lower().endswith(_IMAGES):
            continue
        if kind not in {None, tar}:
            raise CommandFailed(f"{path}: holds both images and tar files; say which, by a folder")
        kind = tar
        yield name
    if kind is None:
        raise CommandFailed(f"{path}: holds no image and no tar file")


def _files_below(path: Path, prefix: str = "") -> Iterator[str]:
    """Names relative to `path`, with slashes, in their order as text; hidden ones are passed over.

    A folder stands among its neighbours as its name with a slash: so the names below it come out
    in order without being sorted all together.
    """
    try:
        with os.scandir(path) as entries:
            there = sorted(
                (entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name)
                for entry in entries
                if not entry.name.startswith(".")
                and (entry.is_file() or entry.is_dir(follow_symlinks=False))
            )
    except OSError as error:
        raise CommandFailed(f"{path}: can't be listed: {error.strerror}") from error
    for name in there:
        if name.endswith("/"):
            yield from _files_below(path / name, prefix + name)
        else:
            yield prefix + name


@contextmanager
def _reading(tar: str) -> Iterator[None]:
    """Say which tar file it was that can't be read."""
    try:
        yield
    except _TAR_ERRORS as error:
        raise CommandFailed(f"{tar}: can't be read: {error}") from error


def _image_members(file: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for member in file:
        # Its only memory of the members before: it would grow with the tar.
        file.members = []  # type: ignore[attr-defined]
        if member.isfile() and member.name.lower().endswith(_IMAGES):
            yield member


def _giving(content: bytes) -> Callable[[], bytes]:
    return lambda: content


def _shown(name: str) -> str:
    """A name that JSON can hold, also where the file system's isn't UTF-8."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _fingerprint(path: Path, names: list[str]) -> str:
    digest = Fingerprint(path)
    for name in names:
        digest.add(name)
    return digest.value()
