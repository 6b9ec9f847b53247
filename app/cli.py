"""The command line: `tessera serve`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import orjson
import typer

from app.settings import Settings, SettingsError, read_settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Images to grids of small integers and back.",
)


@app.callback()
def _commands() -> None:
    """With a callback, one command alone is still called by its name."""


@app.command()
def serve() -> None:
    """Serve the HTTP API. Configured by the environment alone: TESSERA_… (see the README)."""
    from app.server import serve as run

    try:
        settings = read_settings(os.environ)
        code = run(settings)
    except SettingsError as error:
        typer.echo(f"tessera: {error}", err=True)
        raise typer.Exit(2) from error
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: the interpreter would wait for threads, and one of them may hang.
    os._exit(code)


@app.command()
def openapi(
    file: Annotated[Path | None, typer.Argument(help="write it there instead of printing")] = None,
) -> None:
    """Print the OpenAPI document, as docs/openapi.json holds it."""
    from app.main import create_app

    text = orjson.dumps(
        create_app(Settings()).openapi(), option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS
    )
    if file is None:
        typer.echo(text.decode())
    else:
        file.write_bytes(text + b"\n")


def main() -> None:
    """Entry point of the `tessera` command."""
    app()
