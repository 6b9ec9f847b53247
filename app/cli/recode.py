"""`tessera recode`: files of codes that exist, in another coding."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from app.cli.code_files import form_of_codes
from app.cli.failures import MISUSED, CommandFailed
from app.cli.files import PIPE, Target, read_file, shown, write_file
from app.cli.options import ModelName, ServiceOptions
from bundle.manifest import MAX_STAGES

if TYPE_CHECKING:
    from tessera_client.base import Coding

_CODINGS = ("context", "fixed")


def recode(
    codes: Annotated[list[Path], typer.Argument(help="files of codes, .tess; - is standard input")],
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            help="file; a folder, with / at its end, for several; - is standard output",
        ),
    ] = "-",
    coding: Annotated[
        str,
        typer.Option(
            help="context: about a third fewer bytes, which only the same model reads again; "
            "fixed: as many bits for each code"
        ),
    ] = "context",
    stages: Annotated[
        int | None,
        typer.Option(
            min=1, max=MAX_STAGES, help="how many stages of the codes are kept; else all of them"
        ),
    ] = None,
    *,
    model: ModelName = None,
    service: ServiceOptions,
) -> None:
    """Write files of codes in another coding; the codes in them stay the same.

    tessera recode album/*.tess -o small/
    """
    if coding not in _CODINGS:
        raise CommandFailed(f"--coding: must be context or fixed, not {coding}", MISUSED)
    target = Target.of(output)
    if len(codes) > 1 and not target.folder:
        raise CommandFailed("several files need a folder, such as -o small/", MISUSED)
    before = after = 0
    with service.client(model) as client:
        for path in codes:
            content = read_file(path)
            if form_of_codes(content) != "tess":
                raise CommandFailed(f"{shown(path)}: is not a .tess file")
            made = client.recode(content, cast("Coding", coding), stages)
            out = target.path
            if target.folder:
                (out,) = target.paths(["codes" if path == PIPE else path.stem], "tess")
            write_file(out, made)
            before, after = before + len(content), after + len(made)
    if target.path != PIPE:
        typer.echo(f"{target.path}: {before:,} bytes to {after:,}", err=True)
