"""The process around the application: sockets, timeouts, signals and exit codes."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import signal
import socket
import struct
import sys
import termios
from array import array
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.server import ServerState

from app.observability.logging import configure_logging
from app.observability.timeout import call_with_timeout
from app.observability.tracing import tracing_from
from app.server.app import create_app, create_metrics_app
from app.server.http_protocol import BoundedFraming

if TYPE_CHECKING:
    from types import FrameType

    from app.settings import Settings

_log = logging.getLogger(__name__)

_KEEP_ALIVE_S = 30
# A client that takes less of its answer than this, over TESSERA_CLIENT_TIMEOUT_S, is cut off.
_LEAST_BYTES_PER_S = 16 * 1024
# A refused upload may go on for this long, so that its sender gets to read the refusal.
_LINGER_S = 5
# Between being told to stop and closing the door: answers meanwhile say `Connection: close`, so
# that clients go elsewhere instead of finding their connection cut.
_LAME_DUCK_S = 0.5
# For what is written at the end, to a pipe that may be full and that nobody reads any more.
_LAST_WORDS_S = 1.0
_BACKLOG = 2048
_MAX_CONNECTIONS = 4096


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
        _log.error("%s", error)
        _say(str(error))
        log.drain(_LAST_WORDS_S)
        return 1
    server = _Server(settings)
    try:
        server.run()
    except SystemExit:
        # uvicorn has logged why; it exits so where it can't listen.
        _say(f"can't listen on {server.listening_on}")
        server.exit_code = 1
    log.drain(_LAST_WORDS_S)
    return server.exit_code


def _check_ports(settings: Settings) -> None:
    """Try whether the service can listen, before anything says that it is starting.

    Raises:
        OSError: it can't; the text is one line.
    """
    places = [(settings.host, settings.port)]
    if settings.metrics_port is not None:
        places.append((settings.metrics_host or settings.host, settings.metrics_port))
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

    call_with_timeout(_LAST_WORDS_S, write)


def _fill_standard_streams() -> None:
    """Open what the parent closed: a socket with its number would be sent what is printed."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # The system gives the lowest number that is free.
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115, PTH123


class _Server(uvicorn.Server):
    def __init__(self, settings: Settings) -> None:
        self.exit_code = 0
        self.listening_on = ""
        self._settings = settings
        self._app = create_app(settings, self._on_fatal, tracing_from(os.environ))
        super().__init__(
            uvicorn.Config(
                self._app,
                host=settings.host,
                port=settings.port,
                loop="uvloop",
                http=Protocol,
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
        self.listening_on = f"{self._settings.host}:{self._settings.port}"
        await super().startup(sockets)
        _log.info("listening on http://%s, loading models", self.listening_on)

    async def _listen_for_metrics(self, port: int) -> None:
        """Open the second port. It closes with the loop, so that the drain can be watched."""
        config = uvicorn.Config(
            create_metrics_app(self._app.state.service),
            http=Protocol,
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
            await loop.create_server(lambda: Protocol(config, state, {}, loop), host, port)
        except OSError as error:
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
        asyncio.get_running_loop().call_later(_LAME_DUCK_S, self._stop)

    def _stop(self) -> None:
        self.should_exit = True

    def _on_fatal(self, reason: str) -> None:
        _log.critical("stopping: %s", reason)
        _say(reason)
        self.exit_code = 1
        # Long enough for those who wait to be told.
        asyncio.get_running_loop().call_later(_LAME_DUCK_S, self._stop)


class Protocol(BoundedFraming):
    """uvicorn's HTTP protocol with bounds on how long a client may take.

    uvicorn bounds the pause between two requests, and nothing else: a client that sends a byte a
    minute, or reads none of its answer, would hold its connection and our memory for good. The
    time of a request's body is part of the request's own (`app.server.middleware`).
    """

    _timer: asyncio.TimerHandle | None = None
    _reader_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Bound the wait for the first request."""
        super().connection_made(transport)
        # The application, not what uvicorn wraps around it.
        app: Any = self.config.app
        self._patience_s: float = app.state.service.settings.client_timeout_s
        if len(self.connections) > _MAX_CONNECTIONS:
            transport.abort()
            return
        self._start_timer(self._patience_s, self._close_unless_answering)

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave no timer behind."""
        self._stop_timer()
        self._stop_watching()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Bound the time its headers take."""
        super().on_message_begin()
        self._start_timer(self._patience_s, self._close_unless_answering)

    def on_headers_complete(self) -> None:
        """From here on the request's own deadline holds."""
        self._stop_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Of a refused upload: all of it has come, and the connection may be used again."""
        self._stop_timer()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Bound what is left: an answer to be read, or an upload to be thrown away."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._watch_reader()
        elif self.cycle.response_complete and self.cycle.more_body:
            self._start_timer(_LINGER_S, self._close)

    def send_400_response(self, msg: str) -> None:
        """Answer what isn't HTTP, and bound how long that takes to be read."""
        super().send_400_response(msg)
        self._watch_reader()

    def pause_writing(self) -> None:
        """More waits to be read than is good: from now on it must be read at a least rate."""
        super().pause_writing()
        self._watch_reader()

    def resume_writing(self) -> None:
        """Enough has been read."""
        super().resume_writing()
        if not self.transport.is_closing():
            self._stop_watching()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection; one whose answer is still being read isn't idle."""
        if not self.transport.get_write_buffer_size():
            super().timeout_keep_alive_handler()
            return
        self._watch_reader()
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def _close_unless_answering(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self._close()

    def _close(self) -> None:
        self.transport.close()  # once what is written has been read
        self._watch_reader()

    def _watch_reader(self) -> None:
        """Cut the client off if it reads too slowly; only while nothing more is written."""
        if self._reader_timer is None and self.transport.get_write_buffer_size():
            self._reader_timer = self.loop.call_later(
                self._patience_s, self._judge_reader, self._unread()
            )

    def _judge_reader(self, before: int) -> None:
        self._reader_timer = None
        taken = before - self._unread()
        if not self.transport.get_write_buffer_size():
            return
        if taken >= _LEAST_BYTES_PER_S * self._patience_s:
            self._watch_reader()
            return
        # close() would wait for our buffer to be read; and the kernel, for minutes, for its own,
        # unless it is to reset the connection.
        reset = struct.pack("ii", 1, 0)
        connection = self.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        self.transport.abort()

    def _unread(self) -> int:
        """Bytes that the client's side hasn't taken: in our buffer and in the kernel's.

        The kernel takes more from us only when a good part of its buffer is free, megabytes of a
        fast connection: by our buffer alone a slow reader would seem to stand still.
        """
        in_kernel = array("i", [0])
        with suppress(OSError):
            fcntl.ioctl(self.transport.get_extra_info("socket"), termios.TIOCOUTQ, in_kernel)
        return int(self.transport.get_write_buffer_size()) + in_kernel[0]

    def _start_timer(self, seconds: float, then: Any) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, then)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _stop_watching(self) -> None:
        if self._reader_timer is not None:
            self._reader_timer.cancel()
            self._reader_timer = None
