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
from app.api.compat.errors import refusal
from app.api.compat.oip import router as inference_router
from app.api.compat.openai import router as embeddings_router
from app.api.docs import add_docs
from app.api.problems import from_framework, from_validation
from app.api.routes import metrics_reply, router
from app.observability.metrics import Metrics
from app.playground import add_playground
from app.server.middleware import Gate
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
        settings: as read from the environment.
        on_fatal: called with one line when the process had better end.
        tracing: as the environment asks for it.
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
        exception_handlers={
            HTTPException: _framework_error,
            RequestValidationError: _validation_error,
        },
    )
    app.state.service = service
    app.include_router(router)
    app.include_router(embeddings_router)
    app.include_router(inference_router)
    add_docs(app)
    add_playground(app)
    app.openapi = lambda: openapi.document(app)  # type: ignore[method-assign]
    # The last one added is the outermost: answers of the gate need CORS headers too.
    app.add_middleware(Gate, service=service, tracing=tracing)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-Request-ID"],
            expose_headers=[
                *("X-Request-ID", "Server-Timing", "Retry-After"),
                *("Tessera-PSNR", "Tessera-Bits-Per-Pixel", "Tessera-Code-Space"),
            ],
        )
    return app


def create_metrics_app(service: Service) -> Starlette:
    """`/metrics` of a service and nothing else, for a port of its own.

    Args:
        service: the one that the application of `create_app` has.
    """

    async def metrics(_request: Request) -> Response:
        return metrics_reply(service)

    app = Starlette(
        routes=[Route("/metrics", metrics)],
        middleware=[Middleware(Gate, service=service)],
        exception_handlers={HTTPException: _framework_error},
    )
    app.state.service = service
    return app


# TesseraErrors need no handler: they pass through the framework to the gate.


async def _framework_error(request: Request, error: Any) -> Response:
    return refusal(request.scope, from_framework(error), error.headers)


async def _validation_error(request: Request, error: Any) -> Response:
    return refusal(request.scope, from_validation(error))
