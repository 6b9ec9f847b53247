"""Keep a folder of pictures as codes alone, and look at it in a browser.

    python examples/browse_codes.py store photos/ album.tess
    python examples/browse_codes.py show album.tess       # then open http://localhost:8001/

The album holds names, sizes and codes, and no pixel: `show` has them painted anew.
"""

from __future__ import annotations

import argparse
import base64
import html
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
PACKED = "application/vnd.tessera.codes"

PAGE = """<!doctype html><meta charset="utf-8"><title>{title}</title>
<style>body{{font:15px system-ui;margin:1.5rem;background:#181a1c;color:#ddd}}
main{{display:flex;flex-wrap:wrap;gap:1rem}}figure{{margin:0}}img{{height:220px}}</style>
<h1>{title}</h1><main>{pictures}</main>"""


def store(service: httpx.Client, folder: Path, album: Path) -> None:
    """Encode every picture of a folder into one .tess file."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    files = [("images", (path.name, path.read_bytes())) for path in paths]
    answer = service.post("/v1/encode", headers={"Accept": PACKED}, files=files)
    if answer.is_error:
        raise SystemExit(answer.json()["detail"])
    album.write_bytes(answer.content)
    before = sum(path.stat().st_size for path in paths)
    size = len(answer.content)
    print(f"{len(paths)} pictures, {before:,} bytes, as {size:,} bytes: 1 : {before / size:.0f}")


def show(service: httpx.Client, album: Path, port: int) -> None:
    """Serve a page with all pictures of an album, painted from their codes."""
    answer = service.post(
        "/v1/decode",
        headers={"Content-Type": PACKED, "Accept": "application/json, image/webp"},
        content=album.read_bytes(),
    )
    answer.raise_for_status()
    count = len(answer.json()["data"])
    figures = "".join(
        f'<figure><img src="/{i}" alt="picture {i + 1}"></figure>' for i in range(count)
    )
    page = PAGE.format(title=html.escape(album.stem), pictures=figures).encode()
    pictures = [base64.b64decode(item["image"]) for item in answer.json()["data"]]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.lstrip("/")
            found = name.isdecimal() and int(name) < len(pictures)
            self.send_response(200 if found or not name else 404)
            self.send_header("Content-Type", "image/webp" if found else "text/html")
            self.end_headers()
            self.wfile.write(pictures[int(name)] if found else page if not name else b"")

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    print(f"{count} pictures at http://127.0.0.1:{server.server_port}/")
    server.serve_forever()


def main() -> None:
    """Store or show."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--url", default="http://localhost:8000")
    verbs = parser.add_subparsers(dest="verb", required=True)
    one = verbs.add_parser("store", help="a folder as one .tess file")
    one.add_argument("folder", type=Path)
    one.add_argument("album", type=Path)
    other = verbs.add_parser("show", help="the pictures of a .tess file, in the browser")
    other.add_argument("album", type=Path)
    other.add_argument("--port", type=int, default=8001)
    arguments = parser.parse_args()
    with httpx.Client(base_url=arguments.url, timeout=300) as service:
        if arguments.verb == "store":
            store(service, arguments.folder, arguments.album)
        else:
            show(service, arguments.album, arguments.port)


if __name__ == "__main__":
    main()
