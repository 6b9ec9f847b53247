"""What commands are given: pictures and folders of them, or files of codes."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.code_files import form_of_codes, read_codes
from app.cli.failures import MISUSED, CommandFailed, said, warned
from app.cli.files import PIPE, read_file, shown
from tessera_client import Codes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tessera_client import Client, ServerError

PicturesArgument = Annotated[
    list[Path], typer.Argument(help="pictures and folders of them; - reads one from standard input")
]
InputsArgument = Annotated[
    list[Path],
    typer.Argument(help="pictures and folders of them, or files of codes; - is standard input"),
]

IMAGE_ENDINGS = (
    *(".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"),
    *(".heic", ".heif"),  # whether these are read is for the service to say
)


@dataclass(frozen=True, slots=True)
class Inputs:
    """The pictures or codes that a command was given, in the order of the command line.

    Attributes:
        contents: codes; or, of each picture, where its file is, or, from standard input, the file
            itself.
        shown: what messages call each.
        names: the name of each one's file, relative to the folder that was given; None from
            standard input.
        stems: what a file that is made of each is called, without its ending; relative to the
            folder that was given.
        unreadable: a line for each file that can't be read, and so isn't among the contents.
    """

    contents: Codes | list[Path | bytes]
    shown: list[str] = field(default_factory=list)
    names: list[str | None] = field(default_factory=list)
    stems: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)

    def report(
        self, failed: Mapping[int, ServerError], warnings: Mapping[int, list[str]] | None = None
    ) -> None:
        """Say on standard error what failed, and what may look wrong.

        Args:
            failed: what was refused, by its index.
            warnings: codes of what may look wrong, by index.

        Raises:
            CommandFailed: something failed.
        """
        for index, codes in sorted((warnings or {}).items()):
            for code in codes:
                typer.echo(f"tessera: {self.shown[index]}: warning: {warned(code)}", err=True)
        lines = [f"{self.shown[index]}: {said(failed[index])}" for index in sorted(failed)]
        lines += self.unreadable
        total = len(self.contents) + len(self.unreadable)
        if len(lines) == 1 == total:
            raise CommandFailed(lines[0])
        for line in lines:
            typer.echo(f"tessera: {line}", err=True)
        if lines:
            raise CommandFailed(f"{len(lines)} of {total} could not be read")


def read_pictures(paths: Sequence[Path]) -> Inputs:
    """The pictures that a command was given.

    Args:
        paths: files, folders, `-` for standard input.

    Raises:
        CommandFailed: no picture can be read, or standard input is named twice.
    """
    if list(paths).count(PIPE) > 1:
        raise CommandFailed("standard input can be read once", MISUSED)
    return _pictures(paths, read_file(PIPE) if PIPE in paths else b"")


def read_inputs(paths: Sequence[Path], client: Client, model: str | None) -> Inputs:
    """The pictures, or the codes, that a command was given.

    Args:
        paths: files, folders, `-` for standard input: all of pictures, or all of codes.
        client: who knows the model of codes that don't name their code space.
        model: the model that was named, if one was.

    Raises:
        CommandFailed: nothing can be read, or pictures and codes are mixed.
    """
    if list(paths).count(PIPE) > 1:
        raise CommandFailed("standard input can be read once", MISUSED)
    piped = read_file(PIPE) if PIPE in paths else b""
    of_codes = [path for path in paths if form_of_codes(_start(path, piped)) is not None]
    if not of_codes:
        return _pictures(paths, piped)
    if len(of_codes) < len(paths):
        raise CommandFailed("these are pictures and codes: give one kind at a time", MISUSED)
    codes = Codes.joined(
        read_codes(piped if path == PIPE else read_file(path), shown(path), client, model)
        for path in paths
    )
    items = [grid.name or f"item {index}" for index, grid in enumerate(codes)]
    return Inputs(codes, items, [grid.name for grid in codes])


def _start(path: Path, piped: bytes) -> bytes:
    if path == PIPE:
        return piped
    try:
        with path.open("rb") as file:
            return file.read(64)
    except OSError:
        return b""


def _pictures(paths: Sequence[Path], piped: bytes) -> Inputs:
    pictures = Inputs([])
    for path in paths:
        if path == PIPE:
            _add(pictures, piped, shown(path), None, "stdin")
        elif path.is_dir():
            names = list(_images_below(path))
            for name in names:
                _add_file(pictures, path / name, name)
            if not names:
                pictures.unreadable.append(f"{path}: holds no picture")
        else:
            _add_file(pictures, path, path.name)
    if not pictures.contents:
        pictures.report({})
    return pictures


def _images_below(folder: Path) -> Iterator[str]:
    """Names relative to the folder, in order; hidden files and folders are left out."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and name.lower().endswith(IMAGE_ENDINGS):
                yield os.path.relpath(os.path.join(place, name), folder)  # noqa: PTH118


def _add_file(pictures: Inputs, path: Path, name: str) -> None:
    """Take up a file if it can be read now; it is read when it is sent."""
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        pictures.unreadable.append(f"{path}: {error.strerror}")
        return
    if empty:
        pictures.unreadable.append(f"{path}: is empty")
    else:
        _add(pictures, path, str(path), name, name.removesuffix(path.suffix) or name)


def _add(pictures: Inputs, content: Path | bytes, shown: str, name: str | None, stem: str) -> None:
    assert isinstance(pictures.contents, list)  # noqa: S101
    pictures.contents.append(content)
    pictures.shown.append(shown)
    pictures.names.append(name)
    pictures.stems.append(stem)
