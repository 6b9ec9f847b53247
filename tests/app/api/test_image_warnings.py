"""What may look wrong about an image is told in a header and in each item, and can be put right."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

NPY = {"accept": "application/x-npy"}
PNG = {"accept": "image/png"}
TWELVE_BITS = np.mgrid[:16, :24].sum(axis=0).astype(np.uint16) * 107


def png(pixels: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", **options)
    return file.getvalue()


DARK = png(TWELVE_BITS)
SCALED = png(TWELVE_BITS << 4)
BAD_PROFILE = png(np.full((16, 24, 3), 90, np.uint8), icc_profile=b"no profile")
ORDINARY = png(np.full((16, 24, 3), 90, np.uint8))


@pytest.mark.parametrize("path", ["/v1/encode", "/v1/embed", "/v1/reconstruct"])
def test_each_item_says_what_may_be_wrong(client, path):
    """Of three images the header names items 0 and 2, and so does JSON, with a sentence."""
    images = [base64.b64encode(image).decode() for image in (DARK, ORDINARY, BAD_PROFILE)]
    answer = client.post(path, json={"images": images}, headers={"accept": "application/json"})
    assert answer.headers["tessera-warning"] == "dark_samples;item=0, profile_ignored;item=2"
    warnings = [item.get("warnings") for item in answer.json()["data"]]
    assert warnings[1] is None
    assert [warnings[0][0]["code"], warnings[2][0]["code"]] == ["dark_samples", "profile_ignored"]
    assert "sample_bits=12" in warnings[0][0]["detail"]


@pytest.mark.parametrize("accept", [NPY, {"accept": "application/vnd.tessera.codes"}])
def test_answers_that_are_no_json_have_the_header(client, accept):
    """Forms that have no room for a sentence have its code at least."""
    answer = client.post("/v1/encode", content=DARK, headers=RAW | accept)
    assert answer.status_code == 200
    assert answer.headers["tessera-warning"] == "dark_samples;item=0"


RAW = {"content-type": "application/octet-stream"}


def test_ordinary_images_have_no_warning(client):
    """Neither the header nor the field."""
    answer = client.post("/v1/encode", content=ORDINARY, headers=RAW)
    assert "tessera-warning" not in answer.headers
    assert "warnings" not in answer.json()["data"][0]


@pytest.mark.parametrize("path", ["/v1/encode", "/v1/embed"])
def test_sample_bits_scale(client, path):
    """Twelve bits in sixteen, with `sample_bits=12`, are what they are once they are scaled."""
    asked = client.post(path, content=DARK, params={"sample_bits": 12}, headers=RAW | NPY)
    scaled = client.post(path, content=SCALED, headers=RAW | NPY)
    believed = client.post(path, content=DARK, headers=RAW | NPY)
    assert asked.content == scaled.content != believed.content
    assert "tessera-warning" not in asked.headers


def test_impossible_sample_bits_are_refused(client):
    """422, as for any parameter out of its range."""
    for bits in ("8", "17", "many"):
        answer = client.post("/v1/encode", content=DARK, params={"sample_bits": bits}, headers=RAW)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_parameter")


def test_the_header_stays_short(client):
    """Of very many warnings, 32 are in the header; JSON has them all."""
    images = [base64.b64encode(DARK).decode()] * 40
    answer = client.post("/v1/encode", json={"images": images})
    assert answer.headers["tessera-warning"].count("dark_samples") == 32
    assert sum("warnings" in item for item in answer.json()["data"]) == 40
