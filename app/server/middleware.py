"""ASGI middlewares around the routes, each with one job; `create_app` shows their order.

Pure ASGI: Starlette's `BaseHTTPMiddleware` costs a task and a stream for every request.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect

from app.api.compat.errors import error_response
from app.errors import (
    DeadlineExceeded,
    Internal,
    NotReady,
    TesseraError,
    without_traceback,
)
from app.observability.request_context import RequestContext, context_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from app.observability.metrics import Metrics
    from app.observability.tracing import Tracing
    from app.service.lifecycle import Service

_log = logging.getLogger("tessera.request")
_crash = logging.getLogger("tessera.crash")

# What monitors ask many times a minute: it needs no key, and is neither logged nor traced.
PROBE_PATHS = frozenset({"/livez", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready"})

SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)


def header(scope: Scope, name: bytes) -> str | None:
    """The first value of a request's header, its name in lower case; None without it."""
    for key, value in scope["headers"]:
        if key == name:
            return str(value, "latin-1")
    return None


class RequestContextMiddleware:
    """Gives each request its context, and each answer the headers that come of it.

    Args:
        app: the application inside.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request as the ASGI specification says."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context = RequestContext(header(scope, b"x-request-id"))
        context.store_in(scope)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                context.status = message["status"]
                made = [
                    (b"x-request-id", context.id.encode("latin-1")),
                    (b"server-timing", context.server_timing().encode("latin-1")),
                ]
                if context.warnings:
                    warnings = ", ".join(context.warnings)
                    made.append((b"tessera-warning", warnings.encode("latin-1")))
                message = {**message, "headers": [*message["headers"], *made]}
            await send(message)

        await self._app(scope, receive, send_with_headers)


class AccessLogMiddleware:
    """Counts each request in the metrics, and writes one log line for it.

    Args:
        app: the application inside, which raises nothing.
        metrics: the metrics to count in.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request as the ASGI specification says."""
        await self._app(scope, receive, send)
        if scope["type"] != "http":
            return
        context = context_of(scope)
        seconds = time.perf_counter() - context.started
        route = getattr(scope.get("route"), "path", "other")
        if context.status == 0:
            self._metrics.client_disconnects.inc()
        if context.refusal is not None:
            self._metrics.rejections.labels(context.refusal).inc()
        self._metrics.requests.labels(route, context.status or "departed").inc()
        self._metrics.seconds.labels(route).observe(seconds)
        for stage, milliseconds in context.stages.items():
            if milliseconds:
                self._metrics.stages[stage].observe(milliseconds / 1000)
        if route in PROBE_PATHS or not _log.isEnabledFor(logging.INFO):
            return
        fields = {
            "request_id": context.id,
            "method": scope["method"],
            "route": route,
            "status": context.status or None,
            "ms": round(seconds * 1000, 2),
            "images": context.images,
            "bytes_in": context.body_bytes,
            **{stage: round(ms, 2) for stage, ms in context.stages.items() if ms},
        }
        # "departed": the client disconnected before its answer.
        _log.info("request" if context.status else "departed", extra={"fields": fields})


class TracingMiddleware:
    """Makes a span of each request, and in it one of each stage.

    Args:
        app: the application inside, which raises nothing.
        tracing: makes the spans.
    """

    def __init__(self, app: ASGIApp, tracing: Tracing) -> None:
        self._app = app
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request as the ASGI specification says."""
        if scope["type"] != "http" or scope["path"] in PROBE_PATHS:
            await self._app(scope, receive, send)
            return
        context = context_of(scope)
        context.traced = True
        await self._app(scope, receive, send)
        self._tracing.record(scope, context)


class ErrorMiddleware:
    """Answers every exception: ours by their status, all others with 500.

    Args:
        app: the application inside.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request as the ASGI specification says."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context = context_of(scope)
        try:
            await self._app(scope, receive, send)
        except ClientDisconnect:
            return  # nobody waits for an answer
        except TesseraError as error:
            failure = error
        except asyncio.CancelledError:
            # The bound on draining has passed, and the server ends what still runs.
            failure = NotReady("the service stopped before the answer was ready")
        except Exception:  # noqa: BLE001  (the last resort: a 500, and the stack in the log)
            _crash.exception("a request failed", extra={"fields": {"request_id": context.id}})
            failure = Internal("something went wrong here; the request id finds it in our logs")
        else:
            return
        without_traceback(failure)
        if failure.status in {429, 503, 504}:
            context.refusal = failure.code
        if context.status == 0:
            await error_response(scope, failure)(scope, receive, send)


class DeadlineMiddleware:
    """Ends a request that isn't answered in time, with 504.

    Args:
        app: the application inside.
        seconds: from the request's first byte to its answer.
    """

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request as the ASGI specification says."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self._seconds):
                await self._app(scope, receive, send)
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"not answered within {self._seconds:g} s (TESSERA_REQUEST_TIMEOUT_S)"
            ) from error


class ResponseHeadersMiddleware:
    """Adds the headers that every answer has: for security, and to close while draining.

    An answer may bring security headers of its own. While the service is draining each connection
    is closed after its answer: the client's next request then goes to another replica.

    Args:
        app: the application inside.
        service: the service, which knows whether it is draining.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request as the ASGI specification says."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message["headers"]
                given = {name for name, _ in headers}
                added = [header for header in SECURITY_HEADERS if header[0] not in given]
                if self._service.draining:
                    added.append((b"connection", b"close"))
                message = {**message, "headers": [*headers, *added]}
            await send(message)

        await self._app(scope, receive, send_with_headers)


class HeadMiddleware:
    """Answers `HEAD` as `GET` without the body, wherever there is a `GET`.

    Starlette's own routes do so, FastAPI's don't.

    Args:
        app: the application inside.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request as the ASGI specification says."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        inner = {**scope, "method": "GET"}

        async def send_without_body(message: Message) -> None:
            scope.update(route=inner.get("route"))  # which the log and the metrics name
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self._app(inner, receive, send_without_body)
