"""uvicorn's HTTP/1.1 protocol with bounds: on what wraps a request, and on how long a client takes.

uvicorn and its parser bound neither. A header that never ends is joined in quadratic time, 20 MB
of it holding up everybody for seconds; trailers are kept, and mixed in with the headers; every
request sent ahead of an answer is kept too; and a client that sends a byte a minute, or reads none
of its answer, would hold its connection and our memory for good.

This module subclasses a class of uvicorn's that has no public contract; SECURITY.md says what an
upgrade of uvicorn must check. No other module does.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import termios
from array import array
from contextlib import suppress
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.api.problems import problem
from app.errors import MalformedRequest
from app.observability.request_context import request_id
from app.server.middleware import SECURITY_HEADERS

# Most bytes of a request besides its body: nginx allows 32 KiB, Apache 8 KiB a line.
MAX_FRAMING_BYTES = 64 * 1024
# Chunks of one byte, the smallest, take 5 bytes of framing each.
_FRAMING_PER_BODY_BYTE = 8
# Requests sent before the first of them is answered. Browsers send none ahead.
MAX_REQUESTS_AHEAD = 64

# A client that takes less of its answer than this, over TESSERA_CLIENT_TIMEOUT_S, is cut off.
_LEAST_BYTES_PER_S = 16 * 1024
# A refused upload may go on for this long, so that its sender gets to read the refusal.
_LINGER_S = 5
# When the server ends, a connection that has been opened and has sent no request yet may send one.
_LAST_REQUEST_S = 0.5
_MAX_CONNECTIONS = 4096


class _BoundPassed(Exception):
    """Raised in the parser's callbacks, which makes it stop as it does at what isn't HTTP."""


class BoundedFraming(HttpToolsProtocol):
    """Bounds on heads, chunk sizes, trailers, and requests sent ahead.

    What can't be parsed, or is beyond a bound, is answered with 400 `malformed_request`, and the
    connection closed. A whole request before it on the same connection is answered first.
    """

    _head_bytes = 0
    _in_head = False
    _framing_bytes = 0
    _began = False
    _body_bytes = 0
    _broken = False
    _detail = "the request is not valid HTTP/1.1"

    def data_received(self, data: bytes) -> None:
        """Parse what came, unless nothing more can be understood on this connection."""
        if self._broken:
            return
        self._began = False
        self._body_bytes = 0
        super().data_received(data)
        if self._began:
            # How much of `data` belongs to this request and not to those before it, the parser
            # doesn't say. It is one read, 256 KiB at most.
            self._framing_bytes = 0
            return
        # A header or trailer that hasn't ended reaches no callback: the parser gathers it.
        body = self._body_bytes * _FRAMING_PER_BODY_BYTE
        self._framing_bytes = max(0, self._framing_bytes + len(data) - body)
        if self._framing_bytes > MAX_FRAMING_BYTES and not self._broken:
            self._refuse_size()
            self.send_400_response("")

    def on_message_begin(self) -> None:
        """Count anew."""
        super().on_message_begin()
        self._began = self._in_head = True
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Count a part of the request's target."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header. Trailers are left out: they come after the headers have been judged."""
        self._count(len(name) + len(value))
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start the request, if not too many wait before it."""
        if len(self.pipeline) >= MAX_REQUESTS_AHEAD:
            self._detail = "too many requests were sent ahead of their answers"
            raise _BoundPassed
        self._in_head = False
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Count what isn't framing."""
        self._body_bytes += len(body)
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  (uvicorn's, in plain text)
        """Refuse what can't be parsed, after whole requests before it have been answered."""
        self._broken = True
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete and not cycle.more_body:
            cycle.keep_alive = False  # it is answered, and then the connection closed
            return
        between = (
            cycle is None or self._in_head or (cycle.response_complete and not cycle.more_body)
        )
        if not self.pipeline and (between or not cycle.response_started):
            self.transport.write(self._refusal())
        self.transport.close()

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > MAX_FRAMING_BYTES:
            self._refuse_size()
            raise _BoundPassed

    def _refuse_size(self) -> None:
        self._detail = (
            f"headers, chunk sizes and trailers of a request may have {MAX_FRAMING_BYTES} bytes"
        )

    def _refusal(self) -> bytes:
        error = MalformedRequest(self._detail)
        app: Any = self.config.app
        app.state.service.metrics.requests.labels("other", error.status).inc()
        made = request_id(None)
        answer = problem(error, made)
        headers = [
            *answer.raw_headers,
            (b"x-request-id", made.encode()),
            *SECURITY_HEADERS,
            (b"connection", b"close"),
        ]
        lines = b"".join(b"%b: %b\r\n" % header for header in headers)
        return b"HTTP/1.1 400 Bad Request\r\n" + lines + b"\r\n" + bytes(answer.body)


class HttpProtocol(BoundedFraming):
    """Bounded framing, and bounds on how long a client may take.

    uvicorn itself bounds only the pause between two requests. The time that a request's body
    takes is part of the request's own deadline (`app.server.middleware`).
    """

    _closing = False
    _timer: asyncio.TimerHandle | None = None
    _reader_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Bound the wait for the first request."""
        super().connection_made(transport)
        # The application, not what uvicorn wraps around it.
        app: Any = self.config.app
        self._closes_after_body: Any = _ClosesAfterBody(self)
        self._client_timeout_s: float = app.state.service.settings.client_timeout_s
        if len(self.connections) > _MAX_CONNECTIONS:
            transport.abort()
            return
        self._start_timer(self._client_timeout_s, self._close_unless_answering)

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave no timer behind."""
        self._stop_timer()
        self._stop_watching()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Bound the time its headers take."""
        super().on_message_begin()
        self._start_timer(self._client_timeout_s, self._close_unless_answering)

    def on_headers_complete(self) -> None:
        """From here on the request's own deadline holds."""
        self._stop_timer()
        super().on_headers_complete()
        self.cycle.transport = self._closes_after_body

    def on_message_complete(self) -> None:
        """Of a refused upload: all of it has come, and the connection may be used again."""
        self._stop_timer()
        super().on_message_complete()
        if self._closing:
            self._close()

    def on_response_complete(self) -> None:
        """Bound what is left: an answer to be read, or an upload to be thrown away."""
        if self._closing:
            self.pipeline.clear()  # requests behind the last one that is answered
        super().on_response_complete()
        if self.transport.is_closing():
            self._watch_reader()
        elif self.cycle.response_complete and self.cycle.more_body:
            self._start_timer(_LINGER_S, self._close)

    def close_after_body(self) -> None:
        """Close the connection once the request whose answer says so has come in whole.

        To close it before, with a part of the body unread, would reset it, and the client might
        never get to read the answer.
        """
        if self.cycle.more_body:
            self._closing = True  # after `_LINGER_S`, if the rest doesn't come
        else:
            self.transport.close()

    def shutdown(self) -> None:
        """Close the connection as the server ends, unless it is about to be used.

        A client that has just opened it, or is sending the head of a request, gets an answer,
        which says `Connection: close`. One that is still sending the body of a request that has
        been answered gets to read the answer.
        """
        if self.cycle is None or self._in_head:
            self._start_timer(_LAST_REQUEST_S, self._close_unless_answering)
        elif self.cycle.response_complete and self.cycle.more_body:
            self._closing = True
        else:
            super().shutdown()

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
                self._client_timeout_s, self._judge_reader, self._unread()
            )

    def _judge_reader(self, before: int) -> None:
        self._reader_timer = None
        taken = before - self._unread()
        if not self.transport.get_write_buffer_size():
            return
        if taken >= _LEAST_BYTES_PER_S * self._client_timeout_s:
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
        fast connection: by our buffer only, a slow reader would seem to stand still.
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


class _ClosesAfterBody:
    """What a request's cycle sees of its transport.

    Args:
        protocol: the protocol of the connection.
    """

    def __init__(self, protocol: HttpProtocol) -> None:
        self.write = protocol.transport.write
        self.is_closing = protocol.transport.is_closing
        self.close = protocol.close_after_body
