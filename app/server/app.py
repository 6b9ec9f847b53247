"""The application: `create_app(settings)`."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route

from app import __version__
from app.api import openapi
from app.api.compat.errors import error_response
from app.api.compat.oip import router as oip_router
from app.api.compat.openai import router as openai_router
from app.api.docs import add_docs
from app.api.model_routes import router as model_router
from app.api.problems import from_framework, from_validation
from app.api.routes import metrics_reply, router
from app.observability.metrics import Metrics
from app.playground import add_playground
from app.server.authentication import AuthenticationMiddleware
from app.server.middleware import (
    AccessLogMiddleware,
    DeadlineMiddleware,
    ErrorMiddleware,
    HeadMiddleware,
    RequestContextMiddleware,
    ResponseHeadersMiddleware,
    TracingMiddleware,
)
from app.service.lifecycle import Service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from app.observability.tracing import Tracing
    from app.settings import Settings


def create_app(
    settings: Settings,
    on_fatal: Callable[[str], None] | None = None,
    tracing: Tracing | None = None,
) -> FastAPI:
    """The service as an ASGI application; its state holds the `Service`.

    Loading begins with the application's lifespan and goes on behind it: `/livez` answers at
    once, `/readyz` as soon as every model has run.

    Args:
        settings: the settings, as read from the environment.
        on_fatal: called with one line when the process should end.
        tracing: makes spans of requests; None where traces are off.
    """
    service = Service(settings, Metrics(), on_fatal)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        service.start()
        try:
            yield
        finally:
            await service.stop()
            if tracing is not None:
                await tracing.close()

    app = FastAPI(
        title="Tessera",
        version=__version__,
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        middleware=[*_cors(settings), *_middleware(service, tracing)],
        exception_handlers={
            HTTPException: _framework_error,
            RequestValidationError: _validation_error,
        },
    )
    app.state.service = service
    app.include_router(router)
    app.include_router(model_router)
    app.include_router(openai_router)
    app.include_router(oip_router)
    add_docs(app)
    add_playground(app)
    app.openapi = lambda: openapi.document(app)  # type: ignore[method-assign]
    return app


def create_metrics_app(service: Service) -> Starlette:
    """`/metrics` of a service and nothing else, for a port of its own.

    Args:
        service: the service that the application of `create_app` has.
    """

    async def metrics(_request: Request) -> Response:
        return metrics_reply(service)

    app = Starlette(
        routes=[Route("/metrics", metrics)],
        middleware=_middleware(service),
        exception_handlers={HTTPException: _framework_error},
    )
    app.state.service = service
    return app


def _middleware(service: Service, tracing: Tracing | None = None) -> list[Middleware]:
    """What every request passes through, from the outermost to the innermost."""
    return [
        Middleware(RequestContextMiddleware),
        Middleware(ResponseHeadersMiddleware, service=service),
        Middleware(AccessLogMiddleware, metrics=service.metrics),
        *([Middleware(TracingMiddleware, tracing=tracing)] if tracing is not None else []),
        # Whatever is raised from here on becomes an answer.
        Middleware(ErrorMiddleware),
        Middleware(DeadlineMiddleware, seconds=service.settings.request_timeout_s),
        Middleware(AuthenticationMiddleware, service=service),
        Middleware(HeadMiddleware),
    ]


def _cors(settings: Settings) -> list[Middleware]:
    """Lets browsers call from the configured origins; outermost, as errors need its headers too."""
    if not settings.cors_origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-Request-ID"],
            expose_headers=[
                *("X-Request-ID", "Server-Timing", "Retry-After"),
                *("Tessera-PSNR", "Tessera-Bits-Per-Pixel", "Tessera-Code-Space"),
                "Tessera-Warning",
            ],
        )
    ]


# TesseraErrors need no handler: they pass through the framework to the ErrorMiddleware.


async def _framework_error(request: Request, error: Any) -> Response:
    return error_response(request.scope, from_framework(error), error.headers)


async def _validation_error(request: Request, error: Any) -> Response:
    return error_response(request.scope, from_validation(error))
