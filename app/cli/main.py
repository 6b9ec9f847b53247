"""The command line: the service, the same operations on files, and a look at the machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer
from typer.core import TyperCommand, TyperGroup

from app import __version__
from app.cli.classify import classify
from app.cli.doctor import doctor
from app.cli.failures import UNAVAILABLE, CommandFailed, install_hint
from app.cli.info import info, models
from app.cli.options import with_option_blocks
from app.cli.pictures import decode, embed, encode
from app.cli.recode import recode
from app.cli.serve import serve, with_setting_flags
from app.cli.thin import thin
from app.cli.tokenize.command import tokenize
from app.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

_INTERRUPTED = 130


class _Command(TyperCommand):
    """A command whose help shows flags as flags, not as options that take a `<bool>`."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _flags_shown(super().get_params(ctx))


class _Commands(TyperGroup):
    """All commands, whose help shows flags as flags too."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _flags_shown(super().get_params(ctx))


def _flags_shown(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
    return parameters


app = typer.Typer(
    name="tessera",
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Images to grids of small integers and back.\n\n"
        "Commands run in this process, or against a running service with --url. "
        "Exit codes: 0 done, 1 refused, 2 misused, 3 no model or no service."
    ),
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tessera {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass


app.command(cls=_Command)(with_setting_flags(serve))
for command in (encode, decode, recode, thin, embed, classify, info, models, tokenize, doctor):
    app.command(cls=_Command)(with_option_blocks(command))


@app.command(cls=_Command)
def openapi(
    file: Annotated[Path | None, typer.Argument(help="write it there instead of printing")] = None,
) -> None:
    """Print the OpenAPI document, as docs/openapi.json holds it."""
    from app.server.app import create_app

    text = orjson.dumps(
        create_app(Settings()).openapi(), option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS
    )
    if file is None:
        typer.echo(text.decode())
    else:
        file.write_bytes(text + b"\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the `tessera` command.

    Args:
        arguments: without the program's name; None takes those of the process.

    Raises:
        SystemExit: always, with the exit code (`app.cli.failures`).
    """
    try:
        app(arguments, prog_name="tessera")
    except CommandFailed as error:
        typer.echo(f"tessera: {error}", err=True)
        raise SystemExit(error.exit_code) from None
    except ModuleNotFoundError as error:
        if error.name != "onnxruntime":
            raise
        typer.echo(
            "tessera: ONNX Runtime is missing; it comes with one of the extras cpu and gpu: "
            f"{install_hint('onnxruntime')}, or {install_hint('onnxruntime-gpu[cuda,cudnn]')}",
            err=True,
        )
        raise SystemExit(UNAVAILABLE) from None
    except SystemExit as end:
        if end.code != _INTERRUPTED:
            raise
        # A graph may still be running in a thread, which the interpreter's own end would not
        # survive.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_INTERRUPTED)
