"""Labels and contents: what bodies are taken for, under every type that clients send them as."""

from __future__ import annotations

import base64
import io

import numpy as np
import orjson
import pytest
from PIL import Image

from app.api.media_types import described
from app.codecs.tess import MEDIA_TYPE as PACKED

NPY = "application/x-npy"


def saved(kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((16, 24, 3), 90, np.uint8)).save(file, kind)
    return file.getvalue()


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


PNG = saved("PNG")


def post(client, path, content, kind, **headers):
    """A request whose Content-Type is `kind`; None sends none."""
    request = client.build_request("POST", path, content=content, headers=headers)
    request.headers.pop("content-type", None)
    if kind is not None:
        request.headers["content-type"] = kind
    return client.send(request)


@pytest.mark.parametrize(
    "kind",
    [
        *(None, "", "*/*", "application/octet-stream", "binary/octet-stream"),
        *("application/x-www-form-urlencoded", "image/*", "image/jpg", "image/pjpeg"),
        *("image/x-png", "image/png", "IMAGE/JPEG; q=1", "image/unheard-of"),
    ],
)
def test_an_image_is_read_whatever_it_is_called(client, kind):
    """The format is judged from the content; no type, a generic or another name are no reason."""
    for content in (PNG, saved("JPEG")):
        assert post(client, "/v1/encode", content, kind).status_code == 200


@pytest.mark.parametrize("kind", [None, "application/octet-stream", "binary/octet-stream"])
def test_arrays_codes_and_json_without_a_telling_type_are_known_by_their_first_bytes(client, kind):
    """As `curl --data-binary` and tools that know only bytes send them."""
    array = npy(np.zeros((16, 16, 3), np.uint8))
    images = orjson.dumps({"images": [base64.b64encode(PNG).decode()]})
    for content in (array, images, b"\xef\xbb\xbf \r\n" + images):
        assert post(client, "/v1/encode", content, kind).status_code == 200
    for accept in (PACKED, "application/json"):
        codes = post(client, "/v1/encode", PNG, "image/png", accept=accept).content
        assert post(client, "/v1/decode", codes, kind).status_code == 200
        assert post(client, "/v1/embed", codes, kind).status_code == 200
    grid = npy(np.zeros((2, 2), np.int32))
    assert post(client, "/v1/decode?model=tiny", grid, kind).status_code == 200


@pytest.mark.parametrize(
    ("path", "kind", "arrived"),
    [
        ("/v1/encode", "application/pdf", "this one was sent as application/pdf"),
        ("/v1/decode", "image/png", "this one was sent as image/png"),
        ("/v1/decode", None, "this one has no Content-Type"),
        ("/v1/embed", "text/html; charset=x", "this one was sent as text/html"),
        ("/v1/embeddings", "text/html", "this one was sent as text/html"),
    ],
)
def test_a_refused_type_is_said_back(client, path, kind, arrived):
    """415 names what is taken, and what arrived."""
    answer = post(client, path, PNG, kind)
    assert answer.status_code == 415
    assert arrived in answer.text


def test_what_is_no_media_type_is_not_repeated():
    """Only a well-formed one is said back."""
    for kind in ("<script>", "a" * 200 + "/b", "image png", "a/b\nc/d"):
        assert described(kind) == "this one's Content-Type is not a media type"


def test_other_names_are_accepted_in_accept_too(client):
    """`image/jpg` is what many mean by image/jpeg."""
    answer = post(client, "/v1/reconstruct", PNG, "image/png", accept="image/jpg")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")


# --- forgiving where standards are -------------------------------------------------------------

B64 = base64.b64encode(PNG).decode()
URL_SAFE = base64.urlsafe_b64encode(PNG).decode()


@pytest.mark.parametrize(
    "text",
    [
        base64.encodebytes(PNG).decode(),  # in lines of 76
        B64 + "\n",
        URL_SAFE,
        URL_SAFE.rstrip("="),
        "data:image/png;base64," + B64,
        "DATA:image/png;BASE64," + base64.encodebytes(PNG).decode(),
        "data:image/png;base64," + B64.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D"),
    ],
    ids=["lines", "newline", "URL-safe", "unpadded", "data", "data in lines", "data, %2B"],
)
def test_base64_is_read_in_each_of_its_forms(client, text):
    """RFC 4648 has two alphabets, MIME wraps lines, and URIs are percent-encoded."""
    expected = post(client, "/v1/encode", PNG, "image/png").json()["data"][0]["codes"]
    for path in ("/v1/encode", "/v1/embed"):
        answer = client.post(path, json={"images": [text]})
        assert answer.status_code == 200, answer.text
    answer = client.post("/v1/encode", json={"images": [text]})
    assert answer.json()["data"][0]["codes"] == expected


@pytest.mark.parametrize("text", ["not base64!", "AAA=AAAA", "A", "é", "data:image/png," + B64])
def test_what_is_not_base64_is_refused(client, text):
    """Forgiving isn't guessing."""
    answer = client.post("/v1/encode", json={"images": [text]})
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_request")
