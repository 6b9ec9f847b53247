"""What the service alone is asked: requests of every operation, and their answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from benchmarks.inputs import form as form_of
from benchmarks.inputs import request
from benchmarks.servers import Server, ServerFailed, send

PACKED = "application/vnd.tessera.codes"
NPY = "application/x-npy"


def encode_request(jpeg: bytes, accept: str = NPY) -> bytes:
    """JPEG → codes."""
    return request("/v1/encode", "image/jpeg", jpeg, accept)


def decode_request(codes: bytes, accept: str, form: str = PACKED, query: str = "") -> bytes:
    """Codes → picture."""
    return request(f"/v1/decode{query}", form, codes, accept)


def embed_request(body: bytes, form: str) -> bytes:
    """JPEG or codes → vector."""
    return request("/v1/embed", form, body, NPY)


def classify_request(codes: bytes) -> bytes:
    """Packed codes → labels."""
    return request("/v1/classify", PACKED, codes, "application/json")


def encode_many_request(files: Sequence[bytes]) -> bytes:
    """JPEGs → packed codes, in one request."""
    return request("/v1/encode", *form_of("image", *files), PACKED)


def codes_of(server: Server, files: Sequence[bytes], accept: str = PACKED) -> list[bytes]:
    """Codes of JPEG files, in a form that the service gives."""
    return answers(server, [encode_request(jpeg, accept) for jpeg in files])


def answers(server: Server, requests: Sequence[bytes]) -> list[bytes]:
    """What these requests for codes are answered."""
    found = []
    for raw in requests:
        status, _, body = send(server.port, raw)
        if status != 200:
            raise ServerFailed(f"encoding answers {status}: {body[:300]!r}")
        found.append(body)
    return found


def stage_ms(headers: Any, name: str) -> float:
    """Milliseconds of one stage, as the answer's Server-Timing says."""
    for stage in headers["server-timing"].split(", "):
        if stage.startswith(f"{name};dur="):
            return float(stage.partition("=")[2])
    return 0.0


def default_model(server: Server) -> dict[str, Any]:
    """What the service says of its default model."""
    get = b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    answer = json.loads(send(server.port, get)[2])
    return next(model for model in answer["data"] if model["name"] == answer["default"])
