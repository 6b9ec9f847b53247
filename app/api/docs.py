"""Interactive documentation at `/docs`, every file of it served from here."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

import orjson
from starlette.responses import HTMLResponse, Response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fastapi import FastAPI
    from starlette.requests import Request

_ASSETS = {
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "swagger-ui.css": "text/css; charset=utf-8",
}

# Colours, type and the bar are the playground's, which is served at `/`.
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Tessera API</title>
<link rel="icon" type="image/svg+xml" href="playground/mark.svg">
<link rel="stylesheet" href="docs/swagger-ui.css">
<link rel="stylesheet" href="playground/theme.css">
<link rel="stylesheet" href="playground/docs.css">
</head>
<body>
<header class="bar">
  <a class="brand" href="./">
    <img src="playground/mark.svg" alt="" width="26" height="26">Tessera
  </a>
  <nav aria-label="Sections">
    <a href="./#picture">Picture</a>
    <a href="./#compare">Compare</a>
    <a href="./#model">Model</a>
    <a href="./#terminal">Terminal</a>
    <a href="docs" aria-current="page">API</a>
  </nav>
</header>
<main id="swagger-ui"></main>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""

_START = """\
// Swagger UI has a dark theme, and leaves it to the page when to use it.
const dark = matchMedia("(prefers-color-scheme: dark)");
const showTheme = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", showTheme);
showTheme();
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
});
"""

# Nothing from anywhere else: not a script, not a style, not a font.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'"
)


def add_docs(app: FastAPI) -> None:
    """Add `/openapi.json` and `/docs` to an application."""
    document: list[bytes] = []

    async def openapi_json(_request: Request) -> Response:
        if not document:
            document.append(orjson.dumps(app.openapi()))
        return Response(document[0], media_type="application/json")

    async def page(_request: Request) -> Response:
        return HTMLResponse(_PAGE, headers={"content-security-policy": _POLICY})

    async def start(_request: Request) -> Response:
        return Response(_START, media_type="text/javascript; charset=utf-8")

    app.add_route("/openapi.json", openapi_json, include_in_schema=False)
    app.add_route("/docs", page, include_in_schema=False)
    app.add_route("/docs/start.js", start, include_in_schema=False)
    for name, media_type in _ASSETS.items():
        app.add_route(f"/docs/{name}", _asset(name, media_type), include_in_schema=False)


def _asset(name: str, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    async def serve(_request: Request) -> Response:
        # Only the files of the package are used: its own code patches FastAPI.
        content = resources.files("fastapi_swagger.resources").joinpath(name).read_bytes()
        return Response(content, media_type=media_type, headers={"cache-control": "max-age=86400"})

    return serve
