"""What every request passes through: id, key, deadline, departure, headers, metrics, one log line.

Pure ASGI: Starlette's `BaseHTTPMiddleware` costs a task and a stream per request.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from app.api.compat.errors import refusal
from app.errors import DeadlineExceeded, Internal, NotReady, TesseraError
from app.observability.request_context import RequestContext
from app.playground import is_playground

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from app.observability.metrics import Metrics
    from app.observability.tracing import Tracing
    from app.service.lifecycle import Service

_log = logging.getLogger("tessera.request")
_crash = logging.getLogger("tessera.crash")

_OPEN = frozenset({"/livez", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready"})

SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)


class Gate:
    """ASGI middleware around everything else.

    Args:
        app: what it lets through to.
        service: for keys and limits.
        tracing: None where traces are off.
    """

    def __init__(self, app: ASGIApp, service: Service, tracing: Tracing | None = None) -> None:
        self._tracing = tracing
        self._app = app
        self._service = service
        self._metrics: Metrics = service.metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(reversed(scope["headers"]))
        asked = headers.get(b"x-request-id")
        context = RequestContext(asked.decode("latin-1") if asked is not None else None)
        scope["tessera"] = context
        context.traced = self._tracing is not None and scope["path"] not in _OPEN
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                context.answered()
                message = {**message, "headers": self._headers(message["headers"], context)}
            await send(message)

        failure: TesseraError | None = None
        try:
            async with asyncio.timeout(self._service.settings.request_timeout_s):
                if scope["path"] not in _OPEN and not is_playground(scope["path"]):
                    key = headers.get(b"authorization")
                    self._service.keys.check(key.decode("latin-1") if key is not None else None)
                await self._app(scope, receive, send_with_headers)
        except TesseraError as error:
            failure = error
        except TimeoutError:
            failure = DeadlineExceeded(
                "not answered within "
                f"{self._service.settings.request_timeout_s:g} s (TESSERA_REQUEST_TIMEOUT_S)"
            )
        except asyncio.CancelledError:
            if not context.departed():
                # The bound on draining has passed and the server cuts us off.
                failure = NotReady("the service stopped before the answer was ready")
        except Exception:  # noqa: BLE001  (the last resort: a 500, and the stack in the log)
            _crash.exception("a request failed", extra={"fields": {"request_id": context.id}})
            failure = Internal("something went wrong here; the request id finds it in our logs")
        finally:
            context.answered()
            if context.place is not None:
                context.place.__exit__(None, None, None)
            if context.held_bytes:
                self._service.hold(-context.held_bytes)
        if failure is not None and failure.status in {429, 503, 504}:
            self._metrics.rejections.labels(failure.code).inc()
        if failure is not None:
            # The frames that it passed hold the body and what was made of it, and some hold the
            # error: all that would be kept until Python next looks for cycles.
            failure.__traceback__ = None
        if failure is not None and status == 0:
            await refusal(scope, failure)(scope, receive, send_with_headers)
        self._account(scope, context, status)
        if context.traced and self._tracing is not None:
            self._tracing.record(scope, context, status)

    def _headers(self, headers: Any, context: RequestContext) -> list[tuple[bytes, bytes]]:
        timing = ", ".join([f"{stage};dur={ms:.2f}" for stage, ms in context.stages.items()])
        given = {name for name, _ in headers}
        made = [
            *headers,
            (b"x-request-id", context.id.encode("latin-1")),
            (b"server-timing", timing.encode("latin-1")),
            *(header for header in SECURITY_HEADERS if header[0] not in given),
        ]
        if self._service.draining:
            # The client's next request should go to another replica.
            made.append((b"connection", b"close"))
        return made

    def _account(self, scope: Scope, context: RequestContext, status: int) -> None:
        seconds = time.perf_counter() - context.started
        route = getattr(scope.get("route"), "path", "other")
        if status == 0:
            self._metrics.client_disconnects.inc()
        self._metrics.requests.labels(route, status or "departed").inc()
        self._metrics.seconds.labels(route).observe(seconds)
        for stage, milliseconds in context.stages.items():
            if milliseconds:
                self._metrics.stages[stage].observe(milliseconds / 1000)
        if route in _OPEN or not _log.isEnabledFor(logging.INFO):
            return
        fields = {
            "request_id": context.id,
            "method": scope["method"],
            "route": route,
            "status": status or None,
            "ms": round(seconds * 1000, 2),
            "images": context.images,
            "bytes_in": context.held_bytes,
            **{stage: round(ms, 2) for stage, ms in context.stages.items() if ms},
        }
        _log.info("departed" if status == 0 else "request", extra={"fields": fields})
