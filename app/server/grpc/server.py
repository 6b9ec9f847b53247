"""The port that gRPC is spoken on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc.aio

from app.server.grpc.service import InferenceService
from app.server.http_protocol import MAX_FRAMING_BYTES

if TYPE_CHECKING:
    from fastapi import FastAPI

    from app.settings import Settings

# A channel option: bit 0, no compression. What is compressed could unfold to anything, and over
# HTTP it isn't read either.
_NO_COMPRESSION = 1
# Shorter than the bound on draining, so that what is cut off is still told.
_TELL_S = 0.2


class GrpcServer:
    """Answers calls of the Open Inference Protocol over gRPC by an application.

    Args:
        app: the application, which speaks the protocol over HTTP.
        settings: the address and the limits.
    """

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            RuntimeError: the port can't be listened on.
        """
        settings = self._settings
        self._server = grpc.aio.server(
            options=(
                ("grpc.max_receive_message_length", settings.max_body_bytes + MAX_FRAMING_BYTES),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_metadata_size", MAX_FRAMING_BYTES),
                ("grpc.compression_enabled_algorithms_bitset", _NO_COMPRESSION),
                # By default a second process could share the port, and nobody would know.
                ("grpc.so_reuseport", 0),
            ),
            maximum_concurrent_rpcs=settings.max_queue,
        )
        service = InferenceService(self._app)
        self._server.add_generic_rpc_handlers((service.handlers(), service.health_handlers()))
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        self._server.add_insecure_port(f"{host}:{settings.grpc_port}")
        await self._server.start()

    def stop(self) -> asyncio.Task[None]:
        """Accept nothing new, and wait for what was accepted, within the bound on draining."""
        assert self._server is not None  # noqa: S101
        grace = max(0.0, self._settings.drain_timeout_s - _TELL_S)
        return asyncio.ensure_future(self._server.stop(grace))
