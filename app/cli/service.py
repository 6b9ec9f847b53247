"""Who answers a command: the service in this process, or one that is running elsewhere.

Both take the same requests and give the same answers, since both are the same application: here
it is called as ASGI, without a socket; elsewhere over HTTP. So a command does what the API does.
"""

from __future__ import annotations

import asyncio
import os
import urllib.error
import urllib.parse
import urllib.request
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import orjson

from app.cli.failures import REFUSED, UNAVAILABLE, CommandFailed
from app.errors import NotReady
from app.settings import Settings, SettingsError, read_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

# What the commands read for themselves; `serve` refuses them as it does any unknown name.
URL_VARIABLE = "TESSERA_URL"
KEY_VARIABLE = "TESSERA_API_KEY"

# Limits guard a service against strangers. Who runs a command means the files that they name; a
# limit in the environment still holds.
_OWN_LIMITS: dict[str, Any] = {
    "max_body_bytes": 2**31,
    "max_images": 65_535,
    "max_queue": 65_535,
    "max_pixels": 500_000_000,
    "request_timeout_s": 3600.0,
    "stuck_after_s": 3600.0,
}
_REMOTE_TIMEOUT_S = 600

_SHIPPED_MODELS = Path(__file__).parents[2] / "models"


@dataclass(frozen=True, slots=True)
class Answer:
    """A response below 400.

    Attributes:
        headers: names in lower case.
        body: all of it.
    """

    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return orjson.loads(self.body)


class Refused(CommandFailed):
    """A response from 400 on, in the service's words.

    Attributes:
        status: of the response.
    """

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text, UNAVAILABLE if status in {401, 429, 502, 503, 504} else REFUSED)
        self.status = status


class Client(Protocol):
    """Answers requests to the API."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...

    def send(
        self,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        **query: str | int | None,
    ) -> Answer:
        """Send a request: POST if it has a body, else GET.

        Args:
            path: such as `/v1/encode`.
            body: of the request.
            headers: of the request.
            query: parameters; None is left out.

        Raises:
            Refused: in the service's words.
            CommandFailed: it isn't reached.
        """
        ...


class LocalClient:
    """The service in this process: loaded on entering, ended on leaving.

    Args:
        settings: as `local_settings` reads them.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._runner = asyncio.Runner()
        self._app: Any = None
        self._life = AsyncExitStack()
        self._failed: str | None = None

    def __enter__(self) -> Self:
        """Load the models, and wait until they have run."""
        try:
            self._runner.run(self._start())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        """End threads and tasks."""
        self._runner.run(self._life.aclose())
        self._runner.close()

    def send(
        self,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        **query: str | int | None,
    ) -> Answer:
        """As `Client.send`."""
        return self._runner.run(self._call(path, body, headers or {}, _query(query)))

    async def _start(self) -> None:
        # Late: what a remote service answers needs none of it, and it takes half a second.
        from app.server.app import create_app

        def fail(reason: str) -> None:
            self._failed = reason

        self._app = create_app(self._settings, fail)
        await self._life.enter_async_context(self._app.router.lifespan_context(self._app))
        while True:
            if self._failed is not None:
                raise CommandFailed(self._failed, UNAVAILABLE)
            try:
                self._app.state.service.check_ready()
            except NotReady:
                await asyncio.sleep(0.01)
            else:
                return

    async def _call(
        self, path: str, body: bytes | None, headers: Mapping[str, str], query: str
    ) -> Answer:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET" if body is None else "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": [
                (b"content-length", str(len(body or b"")).encode()),
                *((name.lower().encode(), value.encode()) for name, value in headers.items()),
            ],
            "client": None,
            "server": None,
            "state": {},
        }
        sent = False
        start: dict[str, Any] = {}
        chunks: list[bytes] = []

        async def receive() -> dict[str, Any]:
            nonlocal sent
            if sent:
                await asyncio.Event().wait()  # nobody leaves
            sent = True
            return {"type": "http.request", "body": body or b"", "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            else:
                chunks.append(message.get("body", b""))

        await self._app(scope, receive, send)
        answered = {name.decode("latin-1"): v.decode("latin-1") for name, v in start["headers"]}
        return _checked(start["status"], answered, b"".join(chunks))


class RemoteClient:
    """A service that is running.

    Args:
        url: its address, such as `http://localhost:8000`.
        key: sent as `Authorization: Bearer`, if it needs one.
    """

    def __init__(self, url: str, key: str | None = None) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise CommandFailed(f"--url: {url!r} is not an address such as http://localhost:8000")
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    def __enter__(self) -> Self:
        """Nothing is opened: each request is one connection."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Nothing is left open."""

    def send(
        self,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        **query: str | int | None,
    ) -> Answer:
        """As `Client.send`."""
        encoded = _query(query)
        request = urllib.request.Request(  # noqa: S310  (http and https alone, as checked above)
            f"{self._url}{path}{'?' if encoded else ''}{encoded}",
            data=body,
            headers={**self._headers, **(headers or {})},
        )
        try:
            with urllib.request.urlopen(request, timeout=_REMOTE_TIMEOUT_S) as response:  # noqa: S310
                return _checked(response.status, _lower(response.headers), response.read())
        except urllib.error.HTTPError as error:
            with error:
                return _checked(error.code, _lower(error.headers), error.read())
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise CommandFailed(f"{self._url} can't be reached: {reason}", UNAVAILABLE) from error


def local_settings(**flags: object) -> Settings:
    """The settings of the service in this process: the environment, and flags above it.

    Args:
        flags: by the setting's name; None where the flag wasn't given.

    Raises:
        CommandFailed: a name or value that can't be used.
    """
    own = {URL_VARIABLE, KEY_VARIABLE}
    environment = {name: value for name, value in os.environ.items() if name not in own}
    given = {
        f"TESSERA_{name.upper()}": str(value) for name, value in flags.items() if value is not None
    }
    try:
        settings = read_settings({**environment, **given})
    except SettingsError as error:
        raise CommandFailed(str(error), 2) from error
    free = {name: v for name, v in _OWN_LIMITS.items() if name not in settings.model_fields_set}
    if "models_dir" not in settings.model_fields_set and not settings.models_dir.is_dir():
        # In a checkout, a command should work in whatever folder the pictures are.
        free["models_dir"] = _SHIPPED_MODELS if _SHIPPED_MODELS.is_dir() else settings.models_dir
    # A command is its own client: it needs no key.
    keyless = {"api_keys": (), "api_keys_file": None}
    return settings.model_copy(update={**free, **keyless, "log_level": "error"})


def _query(parameters: Mapping[str, str | int | None]) -> str:
    return urllib.parse.urlencode({k: v for k, v in parameters.items() if v is not None})


def _lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _checked(status: int, headers: Mapping[str, str], body: bytes) -> Answer:
    if status < 400:
        return Answer(headers, body)
    try:
        problem = orjson.loads(body)
        text = f"{problem['title']}: {problem['detail']}"
    except (ValueError, KeyError, TypeError):
        text = f"the service answered {status}"
    raise Refused(text, status)
