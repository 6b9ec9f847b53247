"""A thrifty HTTP client: requests are bytes made before, answers are compared as bytes.

What costs the client time is missing on the server's side of a machine that both share, so there
is no HTTP library here: a keep-alive connection per request in flight, one write, one search for
the end of the head.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass

# The server closes idle connections after 30 s, and 5 s after a refusal of an upload: one that
# has idled for longer than this isn't used again, so that its end can't cross with a request.
_IDLE_S = 4.0


class Lost(Exception):
    """A request did not get a whole answer; the text says what came instead."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it came.

    Attributes:
        status: of its first line.
        head: all of its head, as sent.
        body: its body.
        head_s, seconds: from the moment its request was due to the end of head and body.
    """

    status: int
    head: bytes
    body: bytes
    head_s: float
    seconds: float

    def header(self, name: str) -> str | None:
        """The value of a header, by its lower-case name."""
        for line in self.head.split(b"\r\n")[1:]:
            found, _, value = line.partition(b":")
            if found.lower() == name.encode():
                return value.strip().decode("latin-1")
        return None


def request(
    method: str, path: str, body: bytes = b"", content_type: str = "", accept: str = "*/*"
) -> bytes:
    """The bytes of a request."""
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n"
    if content_type:
        head += f"Content-Type: {content_type}\r\n"
    if method == "POST":
        head += f"Content-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


class _Connection(asyncio.Protocol):
    def __init__(self, all_open: set[_Connection]) -> None:
        self._all_open = all_open
        self.transport: asyncio.Transport | None = None
        self.alive = True
        self.idle_since = 0.0
        self.first_bytes = asyncio.Event()
        self._received = bytearray()
        self._head_end = -1
        self._total = 0
        self._due = self._head_at = 0.0
        self._answer: asyncio.Future[Answer] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self._all_open.add(self)

    def send(self, data: bytes, due: float) -> asyncio.Future[Answer]:
        self._due = due
        self._answer = asyncio.get_running_loop().create_future()
        assert self.transport is not None
        self.transport.write(data)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._received += data
        self.first_bytes.set()
        if self._head_end < 0:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return
            self._head_end, self._head_at = end + 4, time.perf_counter()
            self._total = self._head_end + _content_length(bytes(self._received[:end]))
        if len(self._received) >= self._total:
            self._finish()

    def _finish(self) -> None:
        head = bytes(self._received[: self._head_end - 4])
        body = bytes(self._received[self._head_end : self._total])
        surplus = len(self._received) - self._total
        self._received.clear()
        self._head_end = -1
        now = time.perf_counter()
        if self._answer is None or self._answer.done():
            return
        if surplus:
            self._answer.set_exception(Lost("more came than the answer"))
            return
        status = int(head[9:12])
        self._answer.set_result(
            Answer(status, head, body, self._head_at - self._due, now - self._due)
        )

    def connection_lost(self, error: Exception | None) -> None:
        self.alive = False
        self._all_open.discard(self)
        if self._answer is not None and not self._answer.done():
            received = len(self._received)
            self._answer.set_exception(
                Lost(f"the connection ended after {received} bytes of the answer: {error}")
            )


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


class Client:
    """Connections to a port of this machine, kept alive and used again, newest first.

    Args:
        port: where the server listens.
        timeout_s: a request that isn't answered within this is lost.
    """

    def __init__(self, port: int, timeout_s: float = 90.0) -> None:
        self._port = port
        self._timeout_s = timeout_s
        self._free: list[_Connection] = []
        self._open: set[_Connection] = set()

    @property
    def connections(self) -> int:
        """How many connections are open, idle ones among them."""
        return len(self._open)

    async def ask(self, request: bytes, due: float | None = None) -> Answer:
        """Send a request and wait for its answer.

        Args:
            request: its bytes.
            due: when it was to be sent, by `time.perf_counter`; now if None. Times count from it.

        Raises:
            Lost: no whole answer came.
        """
        due = time.perf_counter() if due is None else due
        try:
            async with asyncio.timeout(self._timeout_s):
                connection = self._idle() or await self._connect()
                answer = await connection.send(request, due)
        except TimeoutError as error:
            raise Lost(f"nothing came within {self._timeout_s:g} s") from error
        except OSError as error:
            raise Lost(f"no connection: {error}") from error
        if connection.alive and answer.header("connection") != "close":
            connection.idle_since = time.perf_counter()
            self._free.append(connection)
        elif connection.transport is not None:
            connection.transport.close()
        return answer

    async def vanish_uploading(self, request: bytes, share: float) -> None:
        """Send that share of a request and leave."""
        connection = await self._connect()
        assert connection.transport is not None
        connection.transport.write(request[: int(len(request) * share)])
        await asyncio.sleep(0.03)
        connection.transport.abort()

    async def vanish_waiting(self, request: bytes, seconds: float) -> None:
        """Send a request and leave after so long, answered or not."""
        connection = await self._connect()
        assert connection.transport is not None
        answer = connection.send(request, time.perf_counter())
        await asyncio.sleep(seconds)
        connection.transport.abort()
        await asyncio.gather(answer, return_exceptions=True)

    async def vanish_downloading(self, request: bytes) -> None:
        """Send a request and leave with the first bytes of its answer."""
        connection = await self._connect()
        assert connection.transport is not None
        answer = connection.send(request, time.perf_counter())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timeout_s):
                await connection.first_bytes.wait()
        connection.transport.abort()
        await asyncio.gather(answer, return_exceptions=True)

    def close(self) -> None:
        """Close the idle connections."""
        while self._free:
            connection = self._free.pop()
            if connection.transport is not None:
                connection.transport.close()

    def _idle(self) -> _Connection | None:
        now = time.perf_counter()
        while self._free:
            connection = self._free.pop()
            if connection.alive and now - connection.idle_since < _IDLE_S:
                return connection
            if connection.transport is not None:
                connection.transport.close()
        return None

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            lambda: _Connection(self._open), "127.0.0.1", self._port
        )
        return connection
