"""The command line: the service, the same operations on files, and a look at the machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from app.cli.classify import classify
from app.cli.doctor import doctor
from app.cli.failures import CommandFailed
from app.cli.info import info, models
from app.cli.options import with_option_blocks
from app.cli.pictures import decode, embed, encode
from app.cli.serve import serve, with_setting_flags
from app.cli.tokenize.command import tokenize
from app.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

app = typer.Typer(
    name="tessera",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Images to grids of small integers and back.\n\n"
        "Commands run in this process, or against a running service with --url. "
        "Exit codes: 0 done, 1 refused, 2 misused, 3 no model or no service."
    ),
)
app.command()(with_setting_flags(serve))
for command in (encode, decode, embed, classify, info, models, tokenize, doctor):
    app.command()(with_option_blocks(command))


@app.command()
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
