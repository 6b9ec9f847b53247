"""Files and pipes that commands read and write; `-` is standard input or output."""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from app.cli.failures import MISUSED, CommandFailed

if TYPE_CHECKING:
    from collections.abc import Iterable

PIPE = Path("-")


def read_file(path: Path) -> bytes:
    """All of a file, or of standard input.

    Raises:
        CommandFailed: it can't be read, or is empty.
    """
    try:
        content = sys.stdin.buffer.read() if path == PIPE else path.read_bytes()
    except OSError as error:
        raise CommandFailed(f"{path}: {error.strerror}") from error
    if not content:
        raise CommandFailed(f"{'standard input' if path == PIPE else path}: is empty")
    return content


def write_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, or to standard output.

    Raises:
        CommandFailed: it can't be written, or is binary and standard output is a terminal.
    """
    if path == PIPE:
        if sys.stdout.isatty() and not _is_text(content):
            raise CommandFailed(
                "this is not for a terminal: name a file with -o, or pipe it on", MISUSED
            )
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise CommandFailed(f"{path}: {error.strerror}") from error


def _is_text(content: bytes) -> bool:
    try:
        return "\0" not in content.decode()
    except UnicodeDecodeError:
        return False


def write_durably(path: Path, content: Iterable[bytes]) -> None:
    """Write a file that is complete if it is there, even after the power failed.

    Args:
        path: of the file.
        content: one piece after the other.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "wb") as file:
        file.writelines(content)
        file.flush()
        os.fsync(file.fileno())
    # As umask would have it: mkstemp is for secrets.
    Path(name).chmod(0o666 & ~_umask())
    Path(name).replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def multipart(files: list[tuple[str, bytes]]) -> tuple[bytes, str]:
    """A `multipart/form-data` body of files, and its content type.

    Args:
        files: name and content of each.
    """
    boundary = secrets.token_hex(24)
    parts = []
    for name, content in files:
        # As browsers write names in a header: RFC 7578, section 4.2, and the HTML standard.
        quoted = name.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="images"; filename="{quoted}"'
            "\r\nContent-Type: application/octet-stream\r\n\r\n"
        )
        parts += [head.encode("utf-8", "surrogateescape"), content, b"\r\n"]
    return b"".join([*parts, f"--{boundary}--\r\n".encode()]), (
        f"multipart/form-data; boundary={boundary}"
    )
