"""Tar files header by header: what members there are, and what is wrong between them.

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
from typing import IO, TYPE_CHECKING, Any, cast

from app.cli.tokenize.entries import (
    BEHIND_END_MARK,
    CUT_TAR,
    DAMAGED_TAR,
    DANGLING,
    EMPTY_TAR,
    LOOP,
    NO_END_MARK,
    SPECIAL,
    Skipped,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.cli.tokenize.storage import Storage

STREAM_ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError)

_BLOCK = tarfile.BLOCKSIZE
_COMPRESSIONS = ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\0", lzma.open))
# What parsing of a header that lies may raise, besides tarfile's own errors.
_HEADER_ERRORS = (tarfile.HeaderError, tarfile.ReadError, ValueError, IndexError, KeyError)
_MOST_LINKS = 40


class Headers(tarfile.TarFile):
    """A tar file whose headers `members` reads, one after the other."""

    offset: int

    def next(self) -> None:
        """Read nothing: opening would read the first header, and fail where it is damaged."""
        return


def members(file: Headers, size: int | None, tar: str) -> Iterator[tarfile.TarInfo | Skipped]:
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
        except STREAM_ERRORS as error:
            kind = CUT_TAR if isinstance(error, EOFError) else DAMAGED_TAR
            where = f"after {last}" if last else "from its beginning on"
            yield Skipped(tar, kind, f"it can't be read {where}: {reason(error)}")
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


class Links:
    """What the links in a tar file lead to; a compressed one is unpacked once to look there.

    Attributes:
        file: where the members that links lead to can be read.
    """

    def __init__(self, storage: Storage, tar: str) -> None:
        self._stack = ExitStack()
        stream, size = opened(storage, tar, self._stack)
        if size is None:
            unpacked = self._stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
            with suppress(*STREAM_ERRORS):  # what is lost, the walk itself says
                shutil.copyfileobj(stream, unpacked)
            unpacked.seek(0)
            stream = unpacked
        self.file = self._stack.enter_context(Headers(fileobj=stream))
        self._members: dict[str, tarfile.TarInfo] = {}
        for member in members(self.file, size, tar):
            if not isinstance(member, Skipped):
                self._members.setdefault(posixpath.normpath(member.name), member)

    def __enter__(self) -> Links:
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


def opened(storage: Storage, tar: str, stack: ExitStack) -> tuple[IO[bytes], int | None]:
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


def reason(error: BaseException) -> str:
    """Why a file can't be read, in a few words."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
