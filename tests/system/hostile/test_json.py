"""JSON made to exhaust, to confuse, or to fetch."""

from __future__ import annotations

import base64
import json
import socket

import pytest

BROKEN = ("malformed_request", "codes_invalid", "image_corrupt", "too_many_images")
PATHS = ("/v1/encode", "/v1/decode", "/v1/reconstruct", "/v1/embed", "/v1/embeddings")
PATHS += ("/v2/models/tiny/infer",)


def grids(server, *items: object) -> bytes:
    """A body for decoding with these items."""
    space = json.loads(server.get("/v1/models/tiny").body)["code_space"]
    return json.dumps({"code_space": space, "data": items}).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"images":' * 50_000 + b"1" + b"}" * 50_000,
        b'{"images":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"images": NaN}',
        b'{"images": [Infinity, -Infinity]}',
        b'{"images": 1e400}',
        b'{"images": [' + b"9" * 1_000_000 + b"]}",
        b'{"images": [-0.0, 1e-400, 123456789012345678901234567890]}',
        b'{"images": ["\xff\xfe"]}',
        b'\xef\xbb\xbf{"images": []}',
        b'{"images": ["\\ud800"]}',
        b'{"images": ["a\\u0000b"]}',
        b'{"images": {"0": "a"}}',
        b'{"images": [null]}',
        b'{"images": [["a"]]}',
        b'{"images": "a"}',
        b'{"images": []}',
        b'{"images"}',
        b'{"images": ["a",]}',
        b"{\"images\": ['a']}",
        b'{"images": []} {}',
        b"{}\0",
        b" " * 1_000_000,
        b'"' + b"\\u0041" * 200_000 + b'"',
        b"null",
        b"true",
        b"[]",
        b"",
    ],
    ids=lambda body: body[:24].decode("latin-1").encode("unicode_escape").decode(),
)
def test_json_that_makes_no_sense_is_refused(server, refused, body):
    """Nested without end, not a number, not UTF-8, of another shape: by each route."""
    for path in PATHS:
        # The Open Inference Protocol's errors have no code.
        expected = ("none",) if path.startswith("/v2/") else BROKEN
        refused(server.post(path, body, "application/json"), *expected)


def test_a_hundred_thousand_images_are_refused_by_their_number(server, refused):
    """None of them is looked at."""
    body = json.dumps({"images": ["A"] * 100_000}).encode()
    refused(server.post("/v1/encode", body, "application/json"), "too_many_images")
    body = grids(server, *[{"codes": [[1]]}] * 100_000)
    # 2.4 MB of JSON objects take a third of a second to parse.
    refused(server.post("/v1/decode", body, "application/json"), "too_many_images", seconds=30)
    body = json.dumps({"model": "tiny", "input": ["A"] * 100_000}).encode()
    refused(server.post("/v1/embeddings", body, "application/json"), "too_many_images")


def test_of_keys_given_twice_the_last_counts(server, picture):
    """As nearly all parsers have it: no two parts of the service may see different values."""
    image = base64.b64encode(picture).decode()
    body = f'{{"images": ["!", "!"], "images": ["{image}"]}}'.encode()
    reply = server.post("/v1/encode", body, "application/json")
    assert reply.status == 200
    assert len(json.loads(reply.body)["data"]) == 1


@pytest.mark.parametrize(
    "item",
    [
        None,
        7,
        [],
        {},
        {"codes": None},
        {"codes": []},
        {"codes": [[]]},
        {"codes": [[]] * 100_000},
        {"codes": [[1], [1, 2]]},
        {"codes": [[[1]]]},
        {"codes": [[-1]]},
        {"codes": [[2**63]]},
        {"codes": [[2**64]]},
        {"codes": [[10**30]]},
        {"codes": [[1.0]]},
        {"codes": [[True]]},
        {"codes": [["1"]]},
        {"codes": [[1]], "width": -1, "height": 1},
        {"codes": [[1]], "width": 0, "height": 0},
        {"codes": [[1]], "width": 2**63, "height": 2**63},
        {"codes": [[1]], "width": 1e308, "height": 1},
        {"codes": [[1]], "width": True, "height": True},
        {"codes": [[1]], "width": "8", "height": "8"},
        {"codes": [[1]], "width": 9, "height": 8},
        {"codes": [[1] * 8193]},
        {"codes": [[1]] * 8193},
        {"error": {"code": "image_corrupt"}},
    ],
    ids=lambda item: str(item)[:40],
)
def test_codes_that_make_no_sense_are_refused(server, refused, item):
    """Ragged, empty, out of range, of another type, or of a size that they don't have."""
    expected = ("codes_invalid", "malformed_request", "image_too_large")
    for path in ("/v1/decode", "/v1/embed"):
        refused(server.post(path, grids(server, item), "application/json"), *expected)


@pytest.mark.parametrize(
    "text",
    [
        *("=", "A", "AA=A", "A" * 1_000_001, "data:", "data:,", "data:;base64", "%2541"),
        *("data:image/png,AAAA", "data:;base64,\u00e9", "A%2BAA", " "),
    ],
    ids=lambda text: text[:16],
)
def test_what_is_not_base64_is_refused(server, refused, text):
    """Nor guessed at: percent signs are of data: URIs, and what is cut short stays so."""
    body = json.dumps({"images": [text]}).encode()
    refused(server.post("/v1/encode", body, "application/json"), *BROKEN)


def test_no_address_is_ever_fetched(server, refused):
    """Not by any scheme, in any field that holds an image; and no file is read."""
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0.2)
        host = f"127.0.0.1:{trap.getsockname()[1]}"
        for address in (
            *(f"{scheme}://{host}/a.png" for scheme in ("http", "HTTPS", "ftp", "s3", "gopher")),
            *("file:///etc/passwd", "/etc/passwd", f"//{host}/a.png", f"\\\\{host}\\a.png"),
            *(f"http://[::ffff:127.0.0.1]:{trap.getsockname()[1]}/", f"data:http://{host}/a.png"),
        ):
            for path, body in (
                ("/v1/encode", {"images": [address]}),
                ("/v1/embeddings", {"model": "tiny", "input": [address]}),
                ("/v1/embeddings", {"model": "tiny", "input": address}),
            ):
                reply = server.post(path, json.dumps(body).encode(), "application/json")
                assert 400 <= reply.status < 500
                assert b"root:" not in reply.body
                assert host.encode() not in reply.body
        with pytest.raises(TimeoutError):
            trap.accept()


@pytest.mark.parametrize(
    "tensor",
    [
        {"shape": [2**62, 2**62, 3], "datatype": "UINT8", "data": [1]},
        {"shape": [-1, 8, 8, 3], "datatype": "UINT8", "data": [1]},
        {"shape": [1, 8, 8, 3], "datatype": "BYTES", "data": [1]},
        {"shape": [1, 8, 8, 3], "datatype": "UINT8", "data": ["a"] * 192},
        {"shape": [1, 8, 8, 3], "datatype": "UINT8", "data": [300] * 192},
        {"shape": [1, 8, 8, 3], "datatype": "UINT8", "data": [[[1]]]},
        {"shape": [1, 8, 8, 3], "datatype": "FP32", "data": [1e400] * 192},
        {"shape": "1", "datatype": "UINT8", "data": [1]},
        {"shape": [1] * 1000, "datatype": "UINT8", "data": [1]},
        {"shape": [True], "datatype": "UINT8", "data": [1]},
        {"shape": [1], "datatype": "UINT8", "parameters": {"binary_data_size": 2**62}},
        {"shape": [1], "datatype": "UINT8", "parameters": {"binary_data_size": -1}},
        {"shape": [1], "datatype": None, "data": [1]},
    ],
    ids=lambda tensor: str(tensor)[:48],
)
def test_tensors_that_lie_are_refused(server, tensor):
    """Shapes, types and sizes of the Open Inference Protocol that contradict their data."""
    for name in ("images", "codes", "IMAGE", ""):
        body = json.dumps({"inputs": [{"name": name} | tensor]}).replace("Infinity", "1e400")
        reply = server.post("/v2/models/tiny/infer", body.encode(), "application/json")
        assert 400 <= reply.status < 500
        assert reply.seconds < 10
        assert b"Traceback" not in reply.body


@pytest.mark.parametrize("length", ["-1", "0", "1", "99999999999999999999", "x", "", "1e3", " 2"])
def test_the_binary_extensions_header_may_lie(server, length):
    """Where the JSON ends and the tensors begin is what the client says; it is checked."""
    reply = server.post(
        "/v2/models/tiny/infer",
        b'{"inputs": []}\0\0\0\0',
        "application/octet-stream",
        inference_header_content_length=length,
    )
    assert 400 <= reply.status < 500


ODD = [None, True, 0, -1, 2**63, 1e308, "", "\0", [], [[]], {}, {"a": {}}, "x" * 1000]


def changed(value: object):
    """Every version of a JSON value in which one part of it, or all of it, is an odd one."""
    yield from ODD
    if isinstance(value, dict):
        for name, part in value.items():
            yield {other: kept for other, kept in value.items() if other != name}
            yield from (value | {name: odd} for odd in changed(part))
    elif isinstance(value, list) and value:
        yield from ([odd, *value[1:]] for odd in changed(value[0]))


@pytest.mark.parametrize("path", PATHS)
def test_any_part_may_be_of_any_type(server, picture, path):
    """Each field in turn missing or null, a number, a list, an object: an answer or a refusal."""
    image = base64.b64encode(picture).decode()
    item = {"codes": [[1, 2]], "width": 16, "height": 8, "name": "a", "error": None}
    tensor = {
        "name": "images",
        "shape": [1, 8, 8, 3],
        "datatype": "UINT8",
        "parameters": {"binary_data_size": 192, "content_type": "np"},
        "data": [0] * 192,
    }
    space = json.loads(server.get("/v1/models/tiny").body)["code_space"]
    whole = {
        "/v1/decode": {"code_space": space, "precision": "fp32", "model": "tiny", "data": [item]},
        "/v1/embeddings": {
            "model": "tiny",
            "input": [image],
            "encoding_format": "float",
            "dimensions": 7,
            "user": "a",
        },
        "/v2/models/tiny/infer": {
            "id": "1",
            "parameters": {"size": "16x16", "binary_data_output": False},
            "inputs": [tensor],
            "outputs": [{"name": "codes", "parameters": {"a": 1}}],
        },
    }.get(path, {"images": [image], "code_space": space, "data": [item]})
    statuses = set()
    for body in changed(whole):
        reply = server.post(path, json.dumps(body).encode(), "application/json")
        assert reply.status == 200 or 400 <= reply.status < 500, (body, reply.body)
        statuses.add(reply.status)
    assert 400 in statuses
