"""Where a source's files are: below a folder, or in an object store that `fsspec` knows."""

from __future__ import annotations

import errno
import importlib.util
import io
import os
import stat
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Protocol

from app.cli.failures import MISUSED, UNAVAILABLE, CommandFailed, install_hint
from app.cli.tokenize.entries import DANGLING, FOLDER_LINK, HIDDEN, LOOP, SPECIAL, UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LINK_FAULTS = {errno.ENOENT: DANGLING, errno.ENOTDIR: DANGLING, errno.ELOOP: LOOP}
_BUFFER_BYTES = 256 * 1024
# What object stores say of an object that is another after it was replaced, the best first.
_VERSIONS = ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "updated", "mtime")


class Entry(NamedTuple):
    """What a folder holds.

    Attributes:
        name: without its folder.
        is_folder: whether it is a folder to be looked into.
        size: in bytes.
        version: when it was last written to, in ns, or what an object store calls its version.
        kind: why it is no file to be read; empty if it is one.
        detail: what is wrong with it.
    """

    name: str
    is_folder: bool = False
    size: int = 0
    version: int | str = 0
    kind: str = ""
    detail: str = ""


class Storage(Protocol):
    """The files of a source, by names relative to it, with slashes.

    Attributes:
        place: the folder or address, from which `storage_at` makes the same again.
    """

    place: str

    def entries(self, folder: str) -> list[Entry]:
        """What a folder holds, in any order; its name ends with a slash, the source's is empty.

        Raises:
            OSError: it can't be listed.
        """
        ...

    def open(self, name: str) -> IO[bytes]:
        """A file, to be read from any place on.

        Raises:
            OSError: it can't be read.
        """
        ...

    def read(self, name: str, size: int | None = None) -> bytes:
        """A file's first bytes, or all.

        Raises:
            OSError: it can't be read.
        """
        ...


def storage_at(place: str) -> Storage:
    """The files below a folder, or below an address such as `s3://bucket/folder`."""
    return _Remote(place) if is_address(place) else _Local(Path(place))


def is_address(source: str) -> bool:
    """Whether a source is in an object store."""
    return "://" in source


def located(source: str) -> str:
    """A source as any machine and folder know it."""
    return source.rstrip("/") if is_address(source) else str(Path(source).resolve())


class _Local:
    def __init__(self, root: Path) -> None:
        self._root = root
        self.place = str(root)

    def entries(self, folder: str) -> list[Entry]:
        with os.scandir(self._root / folder) as found:
            return [_local_entry(entry) for entry in found]

    def open(self, name: str) -> IO[bytes]:
        return (self._root / name).open("rb")

    def read(self, name: str, size: int | None = None) -> bytes:
        if size is None:
            return (self._root / name).read_bytes()
        with self.open(name) as file:
            return file.read(size)


def _local_entry(entry: os.DirEntry[str]) -> Entry:
    name = entry.name
    if name.startswith("."):
        return Entry(name, kind=HIDDEN)
    if entry.is_dir(follow_symlinks=False):
        return Entry(name, is_folder=True)
    try:
        status = entry.stat()
    except OSError as error:
        kind = _LINK_FAULTS.get(error.errno or 0, UNREADABLE)
        return Entry(name, kind=kind, detail=error.strerror or "")
    if stat.S_ISDIR(status.st_mode):
        return Entry(name, kind=FOLDER_LINK)
    if not stat.S_ISREG(status.st_mode):
        return Entry(name, kind=SPECIAL)
    return Entry(name, size=status.st_size, version=status.st_mtime_ns)


class _Remote:
    def __init__(self, address: str) -> None:
        self.place = address.rstrip("/")
        if importlib.util.find_spec("fsspec") is None:
            raise CommandFailed(f"{address}: needs fsspec: {install_hint('fsspec')}", MISUSED)
        from fsspec.core import url_to_fs

        try:
            self._system, self._root = url_to_fs(self.place)
        except (ImportError, ValueError) as error:
            # Of a protocol that needs a package, or that there isn't; fsspec says which.
            raise CommandFailed(f"{address}: {error}", MISUSED) from error

    def entries(self, folder: str) -> list[Entry]:
        path = self._path(folder).rstrip("/")
        return list(self._entries(path))

    def _entries(self, path: str) -> Iterator[Entry]:
        for found in self._calling(self._system.ls, path, detail=True, refresh=True):
            name = found["name"].rstrip("/").rpartition("/")[2]
            if found["name"].rstrip("/") == path or not name:
                continue  # some stores list the folder itself
            if name.startswith("."):
                yield Entry(name, kind=HIDDEN)
            elif found["type"] == "directory":
                yield Entry(name, is_folder=True)
            else:
                versions = (str(found[key]) for key in _VERSIONS if found.get(key))
                yield Entry(
                    name, size=int(found.get("size") or 0), version=next(versions, "unknown")
                )

    def open(self, name: str) -> IO[bytes]:
        file = self._calling(self._system.open, self._path(name), "rb")
        return io.BufferedReader(_Object(file, self._calling), _BUFFER_BYTES)

    def read(self, name: str, size: int | None = None) -> bytes:
        content: bytes = self._calling(self._system.cat_file, self._path(name), 0, size)
        return content

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _calling(self, function: Any, *arguments: Any, **options: Any) -> Any:
        """Call the store; whatever it fails with, but for a missing file, ends the command.

        It would else be taken for the images' fault, and the images for lost.
        """
        try:
            return function(*arguments, **options)
        except (FileNotFoundError, NotADirectoryError):
            raise
        except Exception as error:
            raise CommandFailed(f"{self.place}: {error}", UNAVAILABLE) from error


class _Object(io.RawIOBase):
    """An object that is read from a store, whose failures end the command."""

    def __init__(self, file: Any, calling: Callable[..., Any]) -> None:
        self._file = file
        self._calling = calling

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._calling(self._file.read, len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._calling(self._file.seek, offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()
