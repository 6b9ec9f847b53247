"""The page at `/`: a playground for one's own pictures, every file of it served from here.

The files are hand-written modules over the web platform, in `static/`; there is no build step.
They hold nothing secret, so they need no key; what the page then asks of the API needs one like
any other client's request.

Starlette's `StaticFiles` makes ETags of size and modification time, which is the same for every
version in a reproducible image, and media types of the machine's tables: here both follow from
the content.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.responses import Response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fastapi import FastAPI
    from starlette.requests import Request

_STATIC = Path(__file__).parent / "static"

PREFIX = "/playground/"

_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".webp": "image/webp",
}

# Nothing from anywhere else, and nothing inline: not a script, not a style, not a font. Pictures
# are shown from memory, as blob: addresses.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)


def is_playground(path: str) -> bool:
    """Whether a path is the page or one of its files."""
    return path == "/" or path.startswith(PREFIX)


def add_playground(app: FastAPI) -> None:
    """Add the page at `/`, and its files below `/playground/`, to an application."""
    for file in sorted(_STATIC.rglob("*")):
        if file.is_file():
            name = file.relative_to(_STATIC).as_posix()
            path = "/" if name == "index.html" else PREFIX + name
            app.add_route(path, _serve(file), ["GET"], include_in_schema=False)


def _serve(file: Path) -> Callable[[Request], Awaitable[Response]]:
    content = file.read_bytes()
    headers = {
        # Revalidated each time, so that the page and its modules are always of one version.
        "cache-control": "no-cache",
        "content-security-policy": _POLICY,
        "etag": f'"{hashlib.sha256(content).hexdigest()[:32]}"',
    }

    async def serve(request: Request) -> Response:
        if headers["etag"] in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=_MEDIA_TYPES[file.suffix], headers=headers)

    return serve
