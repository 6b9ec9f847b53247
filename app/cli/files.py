"""Files and pipes that commands read and write; `-` is standard input or output."""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from app.cli.failures import MISUSED, CommandFailed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

PIPE = Path("-")

# Endings that mean the same.
_ALIASES = {"jpeg": "jpg"}


@dataclass(frozen=True, slots=True)
class Target:
    """Where a command writes.

    Attributes:
        path: of a file or folder; `-` is standard output.
        folder: whether it is a folder, for a file of each item.
    """

    path: Path
    folder: bool

    @classmethod
    def of(cls, output: str) -> Target:
        """What `--output` names: a folder is there, or is meant by a slash at the end."""
        path = Path(output)
        return cls(path, path != PIPE and (output.endswith(os.sep) or path.is_dir()))

    def form(
        self, asked: str | None, forms: Sequence[str], otherwise: str, *, as_json: bool = False
    ) -> str:
        """The form to write.

        Args:
            asked: the form named by `--format`, if it was given.
            forms: those that there are, each the ending of its files.
            otherwise: the form where neither an option nor the file's ending names one.
            as_json: whether `--json` was given.

        Raises:
            CommandFailed: the options or the file's ending contradict each other.
        """
        option = f"--format {asked}"
        if as_json:
            if asked not in {None, "json"}:
                raise CommandFailed(f"--json and {option} contradict each other", MISUSED)
            asked, option = "json", "--json"
        ending = self.path.suffix.removeprefix(".").lower()
        ending = _ALIASES.get(ending, ending)
        if self.path == PIPE or self.folder or not ending:
            return asked or otherwise
        if asked is None and ending not in forms:
            raise CommandFailed(
                f"{self.path.name}: .{ending} is none of {', '.join(forms)}; or say --format",
                MISUSED,
            )
        if asked is not None and ending in forms and ending != asked:
            raise CommandFailed(f"{option} and the file's name {self.path.name} differ", MISUSED)
        return asked or ending

    def paths(self, stems: Sequence[str], ending: str, *, keep: bool = False) -> Iterator[Path]:
        """Files in the folder, which is made if it isn't there: no two have one name.

        Args:
            stems: their names relative to the folder, without the ending.
            ending: of their names.
            keep: whether files that are there already are left as they are.
        """
        taken: set[Path] = set()
        for index, stem in enumerate(stems):
            path = self.path / f"{stem}.{ending}"
            if path in taken or (keep and path.exists()):
                path = self.path / f"{stem}-{index:05}.{ending}"
            taken.add(path)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise CommandFailed(f"{path.parent}: {error.strerror}") from error
            yield path


def shown(path: Path) -> str:
    """A path as messages have it."""
    return "standard input" if path == PIPE else str(path)


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
        raise CommandFailed(f"{shown(path)}: is empty")
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
