"""What a client sends stays between it and its answer: keys, payloads and names reach no log."""

from __future__ import annotations

import base64
import json
import struct
import zlib

import pytest

KEY = "sesame-0123456789"
MARKER = "SWORDFISH"


@pytest.fixture(scope="module")
def talkative(start_server, tiny_bundle, tmp_path_factory):
    """A server with a key that logs all it can."""
    folder = tmp_path_factory.mktemp("secrets")
    (folder / "keys").write_text(f"# rotated\n{KEY}-from-a-file\n")
    settings = {
        "models_dir": str(tiny_bundle.parent),
        "log_level": "debug",
        "api_keys": KEY,
        "api_keys_file": str(folder / "keys"),
    }
    with start_server(folder, **settings) as server:
        yield server


def marked_png(picture: bytes) -> bytes:
    """The picture with the marker in its metadata."""
    body = b"tEXtComment\0" + MARKER.encode()
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return picture[:33] + chunk + picture[33:]


def test_logs_and_metrics_hold_neither_payloads_nor_keys(talkative, picture):
    """Whether the request succeeds, is refused, can't be parsed, or is broken off."""
    good = {"authorization": f"Bearer {KEY}"}
    image = base64.b64encode(picture).decode()
    part = (
        f'--b\r\ncontent-disposition: form-data; name="{MARKER}"; filename="{MARKER}.png"\r\n\r\n'
    )
    files = part.encode() + picture + b"\r\n--b--\r\n"
    kind = "multipart/form-data; boundary=b"
    packed = talkative.post(
        "/v1/encode", files, kind, accept="application/vnd.tessera.codes", **good
    )
    requests = [
        ("/v1/encode", marked_png(picture), "image/png", good, 200),
        ("/v1/encode", files, kind, good, 200),
        ("/v1/decode", packed.body, "application/vnd.tessera.codes", good, 200),
        ("/v1/encode", json.dumps({"images": [image], "x": MARKER}), "application/json", good, 200),
        ("/v1/encode", json.dumps({"images": [MARKER]}), "application/json", good, 400),
        ("/v1/encode", json.dumps({MARKER: MARKER}), "application/json", good, 400),
        ("/v1/encode", MARKER, "application/json", good, 400),
        ("/v1/encode", MARKER, f"text/{MARKER}", good, 415),
        ("/v1/encode", b"\x93NUMPY\x01\0\x0b\0'" + MARKER.encode(), "application/x-npy", good, 400),
        (f"/v1/encode?model={MARKER}", picture, "image/png", good, 404),
        (f"/v1/encode?size={MARKER}", picture, "image/png", good, 422),
        (f"/v1/encode?fit={MARKER}", picture, "image/png", good, 422),
        (f"/v1/encode?{MARKER}={MARKER}", picture, "image/png", good, 200),
        (f"/v1/{MARKER}", picture, "image/png", good, 404),
        (f"/v2/models/{MARKER}/infer", MARKER, "application/json", good, 404),
        ("/v1/embeddings", json.dumps({"input": MARKER}), "application/json", good, 400),
        ("/v1/embeddings", json.dumps({"user": MARKER, "input": image}), "text/x", good, 415),
        ("/v1/encode", picture, "image/png", {"authorization": f"Bearer {MARKER}"}, 401),
        ("/v1/encode", picture, "image/png", {"authorization": MARKER}, 401),
        ("/v1/encode", picture, "image/png", good | {"x-request-id": f"<{MARKER}>"}, 200),
        ("/v1/encode", picture, "image/png", good | {"user-agent": MARKER, "cookie": MARKER}, 200),
        ("/v1/encode", picture, "image/png", good | {"accept": f"text/{MARKER}"}, 406),
        ("/v1/encode", picture, "image/png", good | {"content-encoding": MARKER}, 415),
        (
            "/v1/models:reload",
            b"",
            "text/plain",
            {"authorization": f"Bearer {KEY}-from-a-file"},
            200,
        ),
    ]
    for path, body, media_type, headers, status in requests:
        content = body.encode() if isinstance(body, str) else body
        reply = talkative.post(path, content, media_type, **headers)
        assert reply.status == status, (path, media_type, reply.body)
        if status >= 400:
            assert MARKER.encode() not in reply.body
    talkative.all_of(f"POST /{MARKER} HTTP/1.1\r\n{MARKER}\r\n\r\n".encode())
    talkative.all_of(f"{MARKER} {MARKER} {MARKER}\r\n\r\n".encode())
    with talkative.connect() as leaving:
        leaving.sendall(b"POST /v1/encode HTTP/1.1\r\nauthorization: Bearer " + KEY.encode())
        leaving.sendall(b"\r\ncontent-length: 999\r\n\r\n" + MARKER.encode())
    metrics = talkative.get("/metrics").body.decode()
    log = talkative.log()
    assert '"request"' in log
    assert '"debug"' in log or '"level":"info"' in log
    for secret in (MARKER, MARKER.lower(), KEY, image[:40]):
        assert secret not in log
        assert secret not in metrics


@pytest.mark.parametrize(
    "request_line",
    [
        *("GET /livez", "GET /", "GET /docs", "GET /openapi.json", "GET /metrics", "GET /absent"),
        *("GET /v1/models", "POST /v1/encode", "DELETE /v1/encode", "OPTIONS /v1/encode"),
        "NONSENSE /",
    ],
)
def test_every_answer_has_the_security_headers(server, request_line):
    """Success, refusal, page, probe, or not even HTTP; and none names a server or opens CORS."""
    method = request_line.partition(" ")[0]
    reply = server.raw(f"{request_line} HTTP/1.1\r\nhost: h\r\n\r\n".encode(), method)
    assert reply.status
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["referrer-policy"] == "no-referrer"
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in reply.headers["content-security-policy"]
    assert "cache-control" in reply.headers
    assert "server" not in reply.headers
    assert not [name for name in reply.headers if name.startswith("access-control-")]


def test_a_browser_from_elsewhere_is_told_nothing(server):
    """By default a preflight is refused, and no answer may be read by another origin's page."""
    origin = b"host: h\r\norigin: https://evil.example\r\n"
    ask = (
        b"access-control-request-method: POST\r\naccess-control-request-headers: authorization\r\n"
    )
    preflight = server.raw(b"OPTIONS /v1/encode HTTP/1.1\r\n" + origin + ask + b"\r\n", "OPTIONS")
    plain = server.raw(b"GET /v1/models HTTP/1.1\r\n" + origin + b"\r\n", "GET")
    assert preflight.status == 405
    for reply in (preflight, plain):
        assert not [name for name in reply.headers if name.startswith("access-control-")]
