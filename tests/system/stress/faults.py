"""Requests that must be refused, each with the problem it must get."""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any

from tests.system.stress.traffic import JSON, NPY, PACKED, Case
from tests.system.stress.wire import request

JPEG = "image/jpeg"


def refusals(model: str, photo: bytes, encoded: bytes, packed: bytes) -> list[Case]:
    """One of each kind.

    Args:
        model: the model asked for.
        photo: a JPEG file.
        encoded: its codes as JSON.
        packed: its codes in the packed form.
    """

    def case(
        name: str, status: int, code: str, path: str, body: bytes, kind: str, accept: str = "*/*"
    ) -> Case:
        return Case(name, request("POST", path, body, kind, accept), status=status, code=code)

    encode, decode = f"/v1/encode?model={model}", f"/v1/decode?model={model}"
    document: dict[str, Any] = json.loads(encoded)
    out_of_range = json.loads(encoded)
    out_of_range["data"][0]["codes"][0][0] = 10**6
    ragged = json.loads(encoded)
    ragged["data"][0]["codes"][0].pop()
    elsewhere = document | {"code_space": "0" * 64}
    flipped = bytearray(packed)
    flipped[len(packed) // 2] ^= 1
    form = "multipart/form-data; boundary=edge"
    return [
        case("image cut short", 422, "image_corrupt", encode, photo[: len(photo) // 2], JPEG),
        case("no image at all", 415, "unsupported_media_type", encode, bytes(999), "image/png"),
        case("empty body", 400, "malformed_request", encode, b"", JPEG),
        case("unknown media type", 415, "unsupported_media_type", encode, photo, "text/html"),
        case("JSON cut short", 400, "malformed_request", decode, encoded[:-9], JSON),
        case("multipart cut short", 400, "malformed_request", encode, b"--edge\r\n\r\n", form),
        case("npy that is none", 400, "malformed_request", encode, b"\x93NUMPY" + bytes(99), NPY),
        case("code out of range", 422, "codes_invalid", decode, _bytes(out_of_range), JSON),
        case("ragged codes", 422, "codes_invalid", decode, _bytes(ragged), JSON),
        case("foreign code space", 409, "code_space_mismatch", decode, _bytes(elsewhere), JSON),
        case("packed, one bit flipped", 400, "malformed_request", decode, bytes(flipped), PACKED),
        case("no such model", 404, "model_not_found", "/v1/encode?model=absent", photo, JPEG),
        case("no such size", 422, "invalid_parameter", f"{encode}&size=0x0", photo, JPEG),
        case("no such form", 406, "not_acceptable", encode, photo, JPEG, "text/csv"),
        case("100,000,000 pixels", 413, "image_too_large", encode, _large_png(), "image/png"),
        Case("no such path", request("GET", "/v1/nothing"), status=404, code="not_found"),
        Case("no such method", request("GET", "/v1/encode"), status=405, code="method_not_allowed"),
    ]


def _bytes(document: Any) -> bytes:
    return json.dumps(document).encode()


def _large_png() -> bytes:
    """A PNG whose header says 10,000 × 10,000; the rest is never read."""
    header = struct.pack(">IIBBBBB", 10_000, 10_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    data = b"IDAT" + zlib.compress(bytes(99))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part))
        for part in (chunk, data, b"IEND")
    )
