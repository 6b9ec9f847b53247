"""Who may ask: each request's API key, before anything else of it is looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.playground import is_playground
from app.server.middleware import PROBE_PATHS, header

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from app.service.lifecycle import Service


class AuthenticationMiddleware:
    """Refuses requests without a valid key, where keys are configured.

    Probes and the files of the playground hold nothing secret and need none.

    Args:
        app: the application inside.
        service: the service, which has the keys of its last reload.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request as the ASGI specification says.

        Raises:
            Unauthorized: no valid key.
        """
        if scope["type"] == "http":
            path = scope["path"]
            if path not in PROBE_PATHS and not is_playground(path):
                self._service.keys.check(header(scope, b"authorization"))
        await self._app(scope, receive, send)
