"""`tessera serve`: the service, with a flag for each setting."""

from __future__ import annotations

import inspect
import os
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.failures import MISUSED, CommandFailed
from app.settings import PREFIX, Settings, SettingsError, read_settings
from tessera.models_folder import with_shipped_models

if TYPE_CHECKING:
    from collections.abc import Callable

# Other users of a machine see the command lines of its processes.
_NOT_AS_FLAGS = {"api_keys"}


def serve(**flags: str | None) -> None:
    """Serve the HTTP API, and the playground at `/`.

    Each flag is also an environment variable, TESSERA_ and its name in capitals; the flag wins.
    """
    from app.server.process import serve as run

    given = {PREFIX + name.upper(): value for name, value in flags.items() if value is not None}
    try:
        code = run(with_shipped_models(read_settings({**os.environ, **given})))
    except SettingsError as error:
        raise CommandFailed(str(error), MISUSED) from error
    # Not sys.exit: the interpreter would wait for threads, and one of them may hang.
    os._exit(code)


def with_setting_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for each setting, with the setting's own description.

    Values are passed as text: what they mean, and whether they fit, `read_settings` alone knows.
    """
    parameters = []
    for name, field in Settings.model_fields.items():
        if name in _NOT_AS_FLAGS:
            continue
        default = "" if field.default in {None, ()} else f" (default {field.default})"
        option = typer.Option(
            f"--{name.replace('_', '-')}",
            help=f"{field.description}{default}",
            metavar=name.rpartition("_")[2].upper(),
            show_default=False,
        )
        parameters.append(
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=Annotated[str | None, option],
            )
        )
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in parameters}
    return command
