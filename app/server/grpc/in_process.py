"""Requests to an ASGI application in the same process."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import ASGIApp, Message


@dataclass(slots=True)
class Answer:
    """What the application answered.

    Attributes:
        status: HTTP status; 0 if it answered nothing.
        headers: headers by name in lower case, the last of a name.
        body: the whole body.
    """

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


async def ask(
    app: ASGIApp,
    method: str,
    path: str,
    headers: Sequence[tuple[str, str]] = (),
    body: bytes = b"",
) -> Answer:
    """Send a request to an application, and wait for its answer.

    If this is cancelled, the application is told what it is told when a client disconnects.

    Args:
        app: the application.
        method: HTTP method.
        path: path of the request, not percent-encoded.
        headers: headers, names in lower case.
        body: the whole body.
    """
    answer = Answer()
    left = [{"type": "http.request", "body": body, "more_body": False}]
    departed = asyncio.Event()

    async def receive() -> Message:
        if left:
            return left.pop()
        await departed.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {str(k, "latin-1"): str(v, "latin-1") for k, v in message["headers"]}
        elif message["type"] == "http.response.body":
            answer.body += message.get("body", b"")

    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": quote(path).encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(k.encode("latin-1"), v.encode("latin-1")) for k, v in headers],
        "client": None,
        "server": None,
    }
    task = asyncio.ensure_future(app(scope, receive, send))
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        departed.set()
        await task
        raise
    return answer
