"""What is sent: JPEG files cut from real photographs, and requests ready to go."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

PHOTOS = Path(__file__).parent.parent / "tests/data/photos"


def jpegs(side: int, count: int = 48) -> list[bytes]:
    """Square JPEG files, each another cut of a photograph; the same ones every time.

    Args:
        side: in pixels; cuts are scaled to it.
        count: how many.
    """
    random = np.random.default_rng(side)
    photos = [Image.open(path).convert("RGB") for path in sorted(PHOTOS.glob("*.webp"))]
    files = []
    for index in range(count):
        photo = photos[index % len(photos)]
        cut = int(random.integers(min(photo.size) // 2, min(photo.size) + 1))
        left = int(random.integers(photo.width - cut + 1))
        top = int(random.integers(photo.height - cut + 1))
        square = photo.crop((left, top, left + cut, top + cut))
        file = io.BytesIO()
        square.resize((side, side), Image.Resampling.LANCZOS).save(file, "JPEG", quality=90)
        files.append(file.getvalue())
    return files


def pixels(jpeg: bytes) -> np.ndarray:
    """A JPEG file as uint8 `[h, w, 3]`."""
    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))


def request(
    path: str, content_type: str, body: bytes, accept: str = "*/*", more: str = ""
) -> bytes:
    """A whole HTTP request."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {content_type}\r\n"
        f"Accept: {accept}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    )
    return head.encode() + body


def form(field: str, *jpegs: bytes) -> tuple[str, bytes]:
    """A multipart form of files: content type and body."""
    edge = "benchmark-form-edge"
    head = (
        f'--{edge}\r\nContent-Disposition: form-data; name="{field}"; filename="image.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    )
    body = b"".join(head.encode() + jpeg + b"\r\n" for jpeg in jpegs)
    return f"multipart/form-data; boundary={edge}", body + f"--{edge}--\r\n".encode()


def tensor_request(path: str, jpeg: bytes) -> bytes:
    """KServe v2 with binary tensors: the JPEG as one BYTES element, binary codes asked for.

    The JSON comes first, then raw tensors; `Inference-Header-Content-Length` says where it ends.
    """
    element = struct.pack("<I", len(jpeg)) + jpeg
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "jpeg",
                    "shape": [1, 1],
                    "datatype": "BYTES",
                    "parameters": {"binary_data_size": len(element)},
                }
            ],
            "outputs": [{"name": "codes", "parameters": {"binary_data": True}}],
        },
        separators=(",", ":"),
    ).encode()
    more = f"Inference-Header-Content-Length: {len(head)}\r\n"
    return request(path, "application/octet-stream", head + element, more=more)


def write_requests(path: Path, requests: Sequence[bytes]) -> Path:
    """Write requests in the form that wrk.lua and pacer.c read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for one in requests:
            file.write(b"%d\n" % len(one) + one)
    return path
