"""HTTP/1.1 framing with bounds: heads, chunk sizes, trailers, and requests sent ahead.

uvicorn and its parser bound none of these. A header that never ends is joined in quadratic time,
20 MB of it holding up everybody for seconds; trailers are kept, and mixed in with the headers;
every request sent ahead of an answer is kept too.
"""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.api.problems import problem
from app.errors import MalformedRequest
from app.observability.request_context import request_id
from app.server.middleware import SECURITY_HEADERS

# Of a request, all that isn't its body: nginx allows 32 KiB, Apache 8 KiB a line.
MAX_FRAMING_BYTES = 64 * 1024
# Chunks of one byte, the smallest, take 5 bytes of framing each.
_FRAMING_PER_BODY_BYTE = 8
# Requests sent before the first of them is answered. Browsers send none so.
MAX_REQUESTS_AHEAD = 64


class _TooMuch(Exception):
    """Raised in the parser's callbacks, which makes it stop as it does at what isn't HTTP."""


class BoundedFraming(HttpToolsProtocol):
    """uvicorn's HTTP protocol with bounds on what a request may be wrapped in.

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
        """Count a header. Trailers are left out: they came after the gate had its look."""
        self._count(len(name) + len(value))
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start the request, if not too many wait before it."""
        if len(self.pipeline) >= MAX_REQUESTS_AHEAD:
            self._detail = "too many requests were sent ahead of their answers"
            raise _TooMuch
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
            raise _TooMuch

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
