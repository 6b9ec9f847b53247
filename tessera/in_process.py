"""The service in this process, for a client that calls it without a socket."""

from __future__ import annotations

import asyncio
import atexit
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

import httpx

from app.errors import NotReady
from tessera.errors import ModelUnavailable

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from app.settings import Settings

_T = TypeVar("_T")

# What URLs of the service in this process begin with; they are in no message.
ADDRESS = "http://in-process"

# Limits guard a service against strangers. Who calls it in their own process means the images
# that they pass.
OWN_LIMITS: dict[str, Any] = {
    "max_body_bytes": 2**31,
    "max_images": 65_535,
    "max_queue": 65_535,
    "max_pixels": 500_000_000,
    "request_timeout_s": 3600.0,
    "stuck_after_s": 3600.0,
}


class InProcess(httpx.BaseTransport):
    """Carries a client's requests to the service, which is an ASGI application in this process.

    Loaded when this is made, ended by `close`. `httpx.ASGITransport` for a client that doesn't
    await, whichever thread it is in.

    Args:
        settings: of the service.

    Raises:
        ModelUnavailable: the models can't be loaded.
    """

    def __init__(self, settings: Settings) -> None:
        # Late: what a remote service answers needs none of it, and it takes half a second.
        from app.server.app import create_app

        failures: list[str] = []
        app = create_app(settings, failures.append)
        self._asgi = httpx.ASGITransport(app)
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        # Not anyio's portal: one that is left open never lets the program end.
        self._thread = threading.Thread(target=self._loop.run_forever, name="tessera", daemon=True)
        self._thread.start()
        self._life = asyncio.run_coroutine_threadsafe(self._live(app), self._loop)
        atexit.register(self.close)
        while not failures:
            try:
                self._call(_check_ready(app))
            except NotReady:
                time.sleep(0.01)
            else:
                return
        self.close()
        raise ModelUnavailable(failures[0])

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request, in whichever thread it is sent."""
        return self._call(self._answer(request))

    def close(self) -> None:
        """End the service and its threads; it can be called again."""
        if self._loop.is_closed():
            return
        atexit.unregister(self.close)
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._life.result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _live(self, app: Any) -> None:
        async with app.router.lifespan_context(app):
            await self._stopping.wait()

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        response = await self._asgi.handle_async_request(request)
        return httpx.Response(
            response.status_code, headers=response.headers, content=await response.aread()
        )


async def _check_ready(app: Any) -> None:
    app.state.service.check_ready()
