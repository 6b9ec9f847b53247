"""Codes by their context over HTTP: smaller files, the same codes, bits as information."""

from __future__ import annotations

import io
import json
import shutil
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from app.api.responses import CODED
from app.codecs.tess import MEDIA_TYPE as PACKED
from app.codecs.tess import read_tess, unpack_codes

LIMITS = {"max_images": 16, "max_pixels": 1_000_000}


@pytest.fixture(scope="module")
def files(photos):
    """Three photographs."""
    return [path.read_bytes() for path in sorted(photos.glob("*.webp"))[:3]]


def encode(client, files, accept, **params):
    parts = [("image", (f"{i}.webp", data)) for i, data in enumerate(files)]
    return client.post("/v1/encode", files=parts, headers={"accept": accept}, params=params)


def send(client, route, body, accept="*/*", **params):
    headers = {"content-type": PACKED, "accept": accept}
    return client.post(route, content=body, headers=headers, params=params)


def assert_problem(response, status, code):
    assert (response.status_code, response.json()["code"]) == (status, code), response.text


def sealed(body: bytes) -> bytes:
    return body + struct.pack("<I", zlib.crc32(body))


def test_the_same_codes_in_fewer_bytes(client, files):
    """What comes coded by context is smaller, and is decoded to what comes plain."""
    plain, small = encode(client, files, PACKED), encode(client, files, CODED)
    assert small.headers["content-type"] == CODED
    assert len(small.content) < 0.95 * len(plain.content)
    names = [grid.name for grid in read_tess(small.content, **LIMITS).grids]
    assert names == [grid.name for grid in unpack_codes(plain.content, **LIMITS).grids]
    pictures = [send(client, "/v1/decode", r.content, "application/zip") for r in (plain, small)]
    assert pictures[0].content == pictures[1].content


def test_the_default_stays_plain(client, files):
    """Who asks for packed codes, or for anything, gets no coding that they didn't name."""
    for accept in (PACKED, f"{PACKED};q=0.9", "application/*", f"{PACKED}; version=1"):
        assert unpack_or_json(encode(client, files[:1], accept))


def unpack_or_json(response):
    if response.headers["content-type"] == PACKED:
        return unpack_codes(response.content, **LIMITS).grids
    return response.json()["data"]


def test_an_unknown_coding_is_not_acceptable(client, files):
    """A coding that nobody knows isn't answered by another one."""
    assert_problem(encode(client, files, f"{PACKED};coding=magic"), 406, "not_acceptable")
    both = encode(client, files, f"{PACKED};coding=magic, {PACKED}; coding=context;q=0.5")
    assert both.headers["content-type"] == CODED


@pytest.mark.parametrize("route", ["/v1/decode", "/v1/embed", "/v1/bits"])
def test_every_route_that_takes_codes_takes_coded_ones(client, files, route):
    """Plain and coded, the answer is the same to the last byte."""
    plain, small = encode(client, files[:1], PACKED), encode(client, files[:1], CODED)
    answers = [send(client, route, r.content) for r in (plain, small)]
    assert answers[0].status_code == 200
    assert answers[0].content == answers[1].content


def test_one_image_can_be_taken_out_of_a_file(client, files):
    """Each is coded on its own: a file of one of them decodes alone."""
    whole = encode(client, files, CODED).content
    grid = read_tess(whole, **LIMITS).grids[1]
    start = whole.index(grid.name.encode()) - 21
    length = 21 + len(grid.name) + 12 + len(grid.data)
    header = bytearray(whole[:56])
    header[20:24] = struct.pack("<I", 1)
    alone = sealed(bytes(header) + whole[start : start + length])
    expected = encode(client, files[1:2], PACKED).content
    assert send(client, "/v1/decode", alone).content == send(client, "/v1/decode", expected).content


def test_damage_is_one_items_error(client, files):
    """Of several images one that is damaged fails alone, in a form that can say so."""
    whole = encode(client, files, CODED).content
    grid = read_tess(whole, **LIMITS).grids[1]
    body = bytearray(whole[:-4])
    body[whole.index(grid.data) + 20] ^= 1
    answer = send(client, "/v1/decode", sealed(bytes(body)), "application/json")
    assert answer.status_code == 200
    data = answer.json()["data"]
    assert ["error" in item for item in data] == [False, True, False]
    assert data[1]["error"]["code"] == "malformed_request"


def test_another_prior_is_named(client, files):
    """Codes of a prior that isn't loaded are refused with its name, and with what there is."""
    whole = encode(client, files[:1], CODED).content
    grid = read_tess(whole, **LIMITS).grids[0]
    body = whole[:-4].replace(bytes.fromhex(grid.prior), bytes.fromhex("ab" * 8))
    answer = send(client, "/v1/decode", sealed(body))
    assert_problem(answer, 404, "prior_not_found")
    assert "abababababababab" in answer.json()["detail"]
    assert grid.prior in answer.json()["detail"]


def test_a_model_without_a_prior_says_so(run_app, tiny_bundle, tmp_path, files, client):
    """It encodes as ever; coded codes and bits are 404, before any work is done."""
    folder = shutil.copytree(tiny_bundle, tmp_path / "tiny")
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    del manifest["prior"]
    for name in ("prior", "prior-members"):
        del manifest["graphs"][name], manifest["files"][f"{name}.onnx"]
    (folder / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    coded = encode(client, files[:1], CODED).content
    with run_app(models_dir=tmp_path) as other:
        assert encode(other, files[:1], PACKED).content == encode(client, files[:1], PACKED).content
        assert_problem(encode(other, files, CODED), 404, "prior_not_found")
        assert_problem(send(other, "/v1/decode", coded), 404, "prior_not_found")
        upload = {"image": ("a.webp", files[0])}
        assert_problem(other.post("/v1/bits", files=upload), 404, "prior_not_found")
        assert other.get("/v1/models/tiny").json()["prior"] is None


def test_models_say_which_prior_they_have(client, tiny_bundle):
    """Digest and figures, for whoever keeps coded files."""
    manifest = json.loads((tiny_bundle / "manifest.json").read_text("utf-8"))
    facts = client.get("/v1/models/tiny").json()["prior"]
    assert facts == {
        "digest": manifest["prior"]["digest"],
        "metrics": manifest["prior"]["metrics"],
    }


def test_bits_are_what_the_file_takes(client, files):
    """Total, mean and map agree with each other and with the bytes of a coded file."""
    parts = [("image", (f"{i}.webp", data)) for i, data in enumerate(files)]
    answer = client.post("/v1/bits", files=parts, params={"map": True}).json()
    grids = read_tess(encode(client, files, CODED).content, **LIMITS).grids
    for item, grid in zip(answer["data"], grids, strict=True):
        surprise = np.array(item["map"])
        assert surprise.shape == grid.shape
        assert item["bits"] == pytest.approx(surprise.sum(), rel=1e-3)
        assert item["bits"] / 8 - 1 < len(grid.data) < item["bits"] / 8 + 2
        assert item["bits_per_code"] == pytest.approx(item["bits"] / surprise.size, abs=1e-3)
        assert item["bits_per_pixel"] == pytest.approx(
            item["bits"] / (item["width"] * item["height"]), abs=1e-5
        )


def test_noise_is_more_surprising_than_a_photograph(client, files):
    """The map is left out unless it is asked for."""
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    parts = [("image", ("a.webp", files[0])), ("image", ("b.png", file.getvalue()))]
    photograph, strange = client.post("/v1/bits", files=parts).json()["data"]
    assert photograph["bits_per_code"] < strange["bits_per_code"]
    assert "map" not in photograph


def test_recoding_keeps_everything_but_the_form(client, files):
    """Plain to coded and back, each is byte for byte what encoding answers in that form."""
    plain, small = encode(client, files, PACKED).content, encode(client, files, CODED).content
    assert send(client, "/v1/recode", plain, CODED).content == small
    assert send(client, "/v1/recode", small, PACKED).content == plain
    assert send(client, "/v1/recode", small).json() == encode(client, files, "*/*").json()


def test_recoding_doesn_t_believe_any_precision(client, files):
    """What JSON says of the precision is passed on where it is one, and is unknown otherwise."""
    body = encode(client, files[:1], "application/json").json() | {"precision": "fp1"}
    answer = client.post("/v1/recode", json=body, headers={"accept": PACKED})
    assert read_tess(answer.content, **LIMITS).precision == "unknown"
