"""`tessera thin`: files of codes without their later stages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.cli.failures import MISUSED, CommandFailed
from app.cli.files import PIPE, Target, read_file, shown, write_file
from bundle.manifest import MAX_STAGES
from tessera_client import Codes, CodesError


def thin(
    codes: Annotated[list[Path], typer.Argument(help="files of codes, .tess; - is standard input")],
    stages: Annotated[
        int,
        typer.Option(min=1, max=MAX_STAGES, help="how many stages are kept, from the first one on"),
    ] = 1,
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            help="file; a folder, with / at its end, for several; - is standard output",
        ),
    ] = "-",
) -> None:
    """Drop the later stages of codes: smaller files, which decode less exactly. No model is needed.

    tessera thin album/*.tess --stages 1 -o small/
    """
    target = Target.of(output)
    if len(codes) > 1 and not target.folder:
        raise CommandFailed("several files need a folder, such as -o small/", MISUSED)
    before = after = 0
    for path in codes:
        content = read_file(path)
        try:
            made = Codes.from_bytes(content).first(stages).to_bytes()
        except CodesError as error:
            raise CommandFailed(f"{shown(path)}: {error}") from error
        out = target.path
        if target.folder:
            (out,) = target.paths(["codes" if path == PIPE else path.stem], "tess")
        write_file(out, made)
        before, after = before + len(content), after + len(made)
    if target.path != PIPE:
        typer.echo(f"{target.path}: {before:,} bytes to {after:,}", err=True)
