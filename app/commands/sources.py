"""Where images to be tokenized are: a folder, or WebDataset shards (tar files).

Either has one order, the same every time, so that an interrupted run can go on where it stopped.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from app.bodies import Upload
from app.commands.failures import CommandFailed
from app.errors import ImageCorrupt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from app.resizing import Fit

_IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
_TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


@dataclass(frozen=True, slots=True)
class Stored(Upload):
    """An image that is read when it is decoded, in the thread that decodes it.

    Attributes:
        read: returns the file's bytes.
    """

    read: Callable[[], bytes] = bytes

    def pixels(self, max_pixels: int, size: tuple[int, int] | None, fit: Fit) -> NDArray[np.uint8]:
        """As `Upload.pixels`.

        Raises:
            ImageCorrupt: the file can't be read.
            TesseraError: whatever `decode_image` raises.
        """
        try:
            content = self.read()
        except OSError as error:
            raise ImageCorrupt(f"the file can't be read: {error.strerror}") from error
        return Upload(content, self.name).pixels(max_pixels, size, fit)


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
    if path.is_file() and path.name.endswith(_TARS):
        return _Tars(path.parent, [path.name])
    if not path.is_dir():
        raise CommandFailed(f"{path}: is neither a folder nor a tar file")
    names = sorted(_files_below(path))
    tars = [name for name in names if name.endswith(_TARS)]
    images = [name for name in names if name.lower().endswith(_IMAGES)]
    if tars and images:
        raise CommandFailed(f"{path}: holds both images and tar files; say which, by a folder")
    if not tars and not images:
        raise CommandFailed(f"{path}: holds no image and no tar file")
    return _Tars(path, tars) if tars else _Folder(path, images)


class _Folder:
    def __init__(self, path: Path, names: list[str]) -> None:
        self._path = path
        self._names = names
        self.count: int | None = len(names)
        self.fingerprint = _fingerprint(path, names)

    def images(self, start: int) -> Iterator[Stored]:
        for name in self._names[start:]:
            yield Stored(b"", name, (self._path / name).read_bytes)


class _Tars:
    """WebDataset: each image is a member; what belongs to it shares its name up to the dot."""

    def __init__(self, path: Path, names: list[str]) -> None:
        self._path = path
        self._names = names
        self.count: int | None = None
        self.fingerprint = _fingerprint(path, names)

    def images(self, start: int) -> Iterator[Stored]:
        seen = 0
        for name in self._names:
            try:
                with tarfile.open(self._path / name) as tar:
                    for member in tar:
                        # Its only memory of the members before: it would grow with the tar.
                        tar.members = []  # type: ignore[attr-defined]
                        if not (member.isfile() and member.name.lower().endswith(_IMAGES)):
                            continue
                        seen += 1
                        if seen <= start:
                            continue
                        file = tar.extractfile(member)
                        content = file.read() if file else b""
                        yield Stored(content, f"{name}/{member.name}", _giving(content))
            except tarfile.TarError as error:
                raise CommandFailed(f"{name}: {error}") from error


def _giving(content: bytes) -> Callable[[], bytes]:
    return lambda: content


def _files_below(path: Path) -> Iterator[str]:
    """Names relative to `path`, with slashes; hidden files and folders are passed over."""
    for folder, folders, files in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(".")]
        prefix = os.path.relpath(folder, path).replace(os.sep, "/") + "/"
        for name in files:
            if not name.startswith("."):
                yield (prefix + name).removeprefix("./")


def _fingerprint(path: Path, names: list[str]) -> str:
    digest = hashlib.sha256()
    for name in names:
        size = (path / name).stat().st_size
        digest.update(f"{name}\t{size}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
