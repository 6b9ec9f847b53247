"""Who answers a command: the service in this process, or one that is running elsewhere.

Both are asked by the same client, `tessera_client`: here it calls the application as ASGI, without
a socket (`tessera.Tokenizer`); elsewhere it speaks HTTP. So a command does what the API does.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from app.cli.failures import MISUSED, UNAVAILABLE, CommandFailed, refusal
from app.settings import PREFIX, Settings, SettingsError, is_service_link, read_settings
from tessera import ModelUnavailable, Tokenizer
from tessera.in_process import ADDRESS, OWN_LIMITS
from tessera.models_folder import with_shipped_models
from tessera_client import Client, ServerError, SetupError, TesseraError, Unreachable

if TYPE_CHECKING:
    from collections.abc import Iterator

# What the commands read for themselves; `serve` refuses them as it does any unknown name.
URL_VARIABLE = "TESSERA_URL"
KEY_VARIABLE = "TESSERA_API_KEY"

_REMOTE_TIMEOUT_S = 600.0
# A service that answers, but is full or restarts, is asked again for this long.
_RETRY_FOR_S = 60.0


def connect(url: str, key: str | None, model: str | None = None) -> Client:
    """A client of a service that may be running; nothing is asked of it yet.

    Args:
        url: its address, such as `http://localhost:8000`.
        key: its API key, if it needs one.
        model: the model that every request names; None names none.

    Raises:
        CommandFailed: the address is none.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise CommandFailed(f"--url: {url!r} is not an address such as http://localhost:8000")
    try:
        return Client(
            url.rstrip("/"),
            api_key=key or None,
            model=model,
            timeout_s=_REMOTE_TIMEOUT_S,
            retry_for_s=_RETRY_FOR_S,
        )
    except SetupError as error:
        raise CommandFailed(str(error), MISUSED) from error


@contextmanager
def remote_client(url: str, key: str | None, model: str | None) -> Iterator[Client]:
    """A client of a service that is running, whose errors are the command's.

    Args:
        url: as `connect` takes it.
        key: as `connect` takes it.
        model: as `connect` takes it.

    Raises:
        CommandFailed: the address is none, nobody answers there, or the service refused.
    """
    with connect(url, key, model) as client, _failures_of(url):
        # A busy service is asked again for a while, but an address where nobody listens is not.
        with suppress(ServerError):  # a proxy may keep this path to itself
            client.request("GET", "/livez", retry_for_s=0)
        yield client


@contextmanager
def local_client(settings: Settings, model: str | None = None) -> Iterator[Client]:
    """A client of the service in this process: loaded on entering, ended on leaving.

    Args:
        settings: as `local_settings` reads them.
        model: as in `remote_client`.

    Raises:
        CommandFailed: the models can't be loaded, or the service refused.
    """
    try:
        tokenizer = Tokenizer(settings, model=model)
    except ModelUnavailable as error:
        raise CommandFailed(str(error), UNAVAILABLE) from error
    with tokenizer, _failures_of(ADDRESS):
        yield tokenizer


@contextmanager
def _failures_of(url: str) -> Iterator[None]:
    """Turn the client's errors into the command's."""
    try:
        yield
    except Unreachable as error:
        raise CommandFailed(unreachable(url, error), UNAVAILABLE) from error
    except ServerError as error:
        raise refusal(error) from error
    except TesseraError as error:
        raise CommandFailed(str(error)) from error


def unreachable(url: str, error: Unreachable) -> str:
    """In a line, that nobody answers at an address, and why."""
    cause = error.__cause__ or error
    return f"{url} can't be reached: {str(cause) or type(cause).__name__}"


def local_settings(**flags: object) -> Settings:
    """The settings of the service in this process: the environment, and flags above it.

    Args:
        flags: values by the setting's name; None where the flag wasn't given.

    Raises:
        CommandFailed: a name or value can't be used.
    """
    own = {URL_VARIABLE, KEY_VARIABLE}
    # A command doesn't listen, so that what Kubernetes sets for a Service of our name is no matter.
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in own and not is_service_link(name, value)
    }
    given = {
        f"{PREFIX}{name.upper()}": str(value) for name, value in flags.items() if value is not None
    }
    try:
        settings = read_settings({**environment, **given})
    except SettingsError as error:
        raise CommandFailed(str(error), MISUSED) from error
    free = {name: v for name, v in OWN_LIMITS.items() if name not in settings.model_fields_set}
    # A command is its own client: it needs no key.
    keyless = {"api_keys": (), "api_keys_file": None}
    return with_shipped_models(settings).model_copy(
        update={**free, **keyless, "log_level": "error"}
    )
