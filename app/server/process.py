"""The process around the application: sockets, timeouts, signals and exit codes."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.server import ServerState

from app.observability.logging import configure_logging
from app.observability.timeout import call_with_timeout
from app.observability.tracing import tracing_from
from app.server.app import create_app, create_metrics_app
from app.server.http_protocol import HttpProtocol
from app.server.listening import connections_to_accept, refuse_new_connections
from app.settings import SettingsError

if TYPE_CHECKING:
    from types import FrameType

    from fastapi import FastAPI

    from app.server.grpc.server import GrpcServer
    from app.settings import Settings

_log = logging.getLogger(__name__)
# Of what `_say` prints too: a log for people leaves it out.
_PRINTED = {"printed": True}

_KEEP_ALIVE_S = 30
# Shutdown grace: from the signal to the end of listening. Answers meanwhile say
# `Connection: close`, so that clients go elsewhere instead of finding their connection cut.
_SHUTDOWN_GRACE_S = 0.5
# For the last lines of the log, whose pipe may be full and read by nobody any more.
_LOG_FLUSH_TIMEOUT_S = 1.0
# From there on the kernel opens no more connections; those that it has opened are accepted.
_ACCEPT_LAST_S = 0.05
_ACCEPT_AT_MOST_S = 2.0
_BACKLOG = 2048


def serve(settings: Settings) -> int:
    """Run the service until it is told to stop.

    SIGTERM and SIGINT: unready at once, nothing new accepted, what is in flight answered for
    up to `drain_timeout_s`, then exit code 0. A second one exits at once, with 128 + its number.
    SIGHUP reloads the models folder. A failed start or a hung run exits with 1.

    Returns:
        The exit code.
    """
    _fill_standard_streams()
    log = configure_logging(settings.log_level, settings.log_format)
    try:
        _check_ports(settings)
    except OSError as error:
        _log.error("%s", error, extra=_PRINTED)
        _say(str(error))
        log.drain(_LOG_FLUSH_TIMEOUT_S)
        return 1
    server = _Server(settings)
    try:
        server.run()
    except SystemExit:
        # uvicorn has logged why; it exits so where it can't listen.
        _say(f"can't listen on {server.listening_on}")
        server.exit_code = 1
    log.drain(_LOG_FLUSH_TIMEOUT_S)
    return server.exit_code


def _check_ports(settings: Settings) -> None:
    """Try whether the service can listen, before anything says that it is starting.

    Raises:
        OSError: it can't; the text is one line.
    """
    places = [(settings.host, settings.port)]
    if settings.metrics_port is not None:
        places.append((settings.metrics_host or settings.host, settings.metrics_port))
    if settings.grpc_port is not None:
        places.append((settings.host, settings.grpc_port))
    for host, port in places:
        try:
            found = socket.getaddrinfo(
                host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            for family, kind, protocol, _, address in found:
                with socket.socket(family, kind, protocol) as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    if family == socket.AF_INET6:
                        probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    probe.bind(address)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise OSError(f"can't listen on {host}:{port}: {reason}") from error


def _say(line: str) -> None:
    """The one line on standard error for who started this; the log has it as JSON."""

    def write() -> None:
        with suppress(OSError, ValueError):  # there may be no reader
            print(f"tessera: {line}", file=sys.stderr, flush=True)  # noqa: T201

    call_with_timeout(_LOG_FLUSH_TIMEOUT_S, write)


def _fill_standard_streams() -> None:
    """Open what the parent closed: a socket with its number would be sent what is printed."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # The system gives the lowest number that is free.
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115, PTH123


def _grpc_server(app: FastAPI, settings: Settings) -> GrpcServer | None:
    """What speaks gRPC, if a port is set for it.

    Raises:
        SettingsError: its packages aren't there.
    """
    if settings.grpc_port is None:
        return None
    try:
        from app.server.grpc.server import GrpcServer
    except ImportError as error:
        raise SettingsError(
            "TESSERA_GRPC_PORT: gRPC needs the extra `grpc`: pip install '.[grpc]' in the "
            "repository"
        ) from error
    return GrpcServer(app, settings)


class _Server(uvicorn.Server):
    def __init__(self, settings: Settings) -> None:
        self.exit_code = 0
        self.listening_on = ""
        self._settings = settings
        self._app = create_app(settings, self._on_fatal, tracing_from(os.environ))
        self._grpc = _grpc_server(self._app, settings)
        super().__init__(
            uvicorn.Config(
                self._app,
                host=settings.host,
                port=settings.port,
                loop="uvloop",
                http=HttpProtocol,
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=_BACKLOG,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=settings.drain_timeout_s,  # type: ignore[arg-type]
            )
        )

    async def startup(self, sockets: Any = None) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._reload)
        if self._settings.metrics_port is not None:
            await self._listen_for_metrics(self._settings.metrics_port)
        if self._grpc is not None:
            self.listening_on = f"{self._settings.host}:{self._settings.grpc_port}"
            await self._start_grpc(self._grpc)
        self.listening_on = f"{self._settings.host}:{self._settings.port}"
        await super().startup(sockets)
        _log.info("listening on http://%s, loading models", self.listening_on)

    async def shutdown(self, sockets: Any = None) -> None:
        listening = [one for server in self.servers for one in server.sockets]
        refuse_new_connections(listening)
        until = time.monotonic() + _ACCEPT_AT_MOST_S
        await asyncio.sleep(_ACCEPT_LAST_S)
        # Where the machine is busy, that time may pass before the loop has come to accept them.
        while (  # noqa: ASYNC110  (the kernel tells nobody)
            connections_to_accept(listening) and time.monotonic() < until
        ):
            await asyncio.sleep(_ACCEPT_LAST_S / 10)
        if self._grpc is not None:
            # uvicorn waits for these tasks, as it does for requests, before it ends the service.
            stopping = self._grpc.stop()
            self.server_state.tasks.add(stopping)
            stopping.add_done_callback(self.server_state.tasks.discard)
        await super().shutdown(sockets)

    async def _listen_for_metrics(self, port: int) -> None:
        """Open the second port. It closes with the loop, so that the drain can be watched."""
        config = uvicorn.Config(
            create_metrics_app(self._app.state.service),
            http=HttpProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
        )
        state = ServerState()
        loop = asyncio.get_running_loop()
        host = self._settings.metrics_host or self._settings.host
        self.listening_on = f"{host}:{port}"
        try:
            await loop.create_server(lambda: HttpProtocol(config, state, {}, loop), host, port)
        except OSError as error:
            _log.error("%s", error)
            sys.exit(1)

    async def _start_grpc(self, grpc: GrpcServer) -> None:
        try:
            await grpc.start()
        except RuntimeError as error:
            _log.error("%s", error)
            sys.exit(1)

    def _reload(self) -> None:
        task = asyncio.get_running_loop().create_task(self._reload_and_say())
        self._reloading = task  # a task that nothing refers to may be collected while it runs

    async def _reload_and_say(self) -> None:
        try:
            await self._app.state.service.reload()
        except Exception as error:  # noqa: BLE001  (what was loaded goes on serving)
            _log.error("reload refused: %s", error)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Handle SIGTERM or SIGINT, keeping no record of it.

        uvicorn raises the signals on its record again at the end, and the exit code isn't 0.
        """
        if self._app.state.service.draining:
            os._exit(128 + sig)  # lines of the log not yet written are lost
        self._app.state.service.drain()
        asyncio.get_running_loop().call_later(_SHUTDOWN_GRACE_S, self._stop)

    def _stop(self) -> None:
        self.should_exit = True

    def _on_fatal(self, reason: str) -> None:
        _log.critical("stopping: %s", reason, extra=_PRINTED)
        _say(reason)
        self.exit_code = 1
        # Long enough for the answers to those who wait.
        asyncio.get_running_loop().call_later(_SHUTDOWN_GRACE_S, self._stop)
