"""Models of other pixels than RGB of 8 bits: grey of 16 bits, and seven channels."""

from __future__ import annotations

import base64
import io
import zipfile

import httpx
import numpy as np
import pytest
from PIL import Image

import tessera
from app.codecs.npy import read_npy, write_npy
from imaging.encode import encode_image
from tessera_client import Client

MAXIMUM = 65535


@pytest.fixture(scope="module")
def served(run_app, channels_bundles):
    with run_app(models_dir=channels_bundles, default_model="grey16") as client:
        yield client


@pytest.fixture(scope="module")
def grey(photos):
    """A photograph in grey of 16 bits, `[h, w, 1]`, of odd sizes."""
    with Image.open(photos / "lake.webp") as image:
        rgb = np.asarray(image.convert("RGB")).astype(np.float64)
    return (257 * rgb.mean(axis=2)).round().astype(np.uint16)[:99, :133, None]


def _psnr(one, other) -> float:
    return 10 * np.log10(MAXIMUM**2 / np.mean(np.square(one.astype(float) - other)))


def _reconstruct(served, content, kind="image/png", accept="image/png", **params):
    return served.post(
        "/v1/reconstruct",
        content=content,
        params=params,
        headers={"content-type": kind, "accept": accept},
    )


def test_16_bits_go_in_and_come_out(served, grey):
    """PNG to codes to PNG: 16 bits, more than 256 levels, near the original."""
    picture = encode_image(grey, "image/png")
    codes = served.post("/v1/encode", content=picture, headers={"content-type": "image/png"}).json()
    assert codes["data"][0]["width"] == 133
    decoded = served.post("/v1/decode", json=codes, headers={"accept": "image/png; depth=16"})
    assert decoded.headers["content-type"] == "image/png"
    with Image.open(io.BytesIO(decoded.content)) as image:
        assert (image.mode, image.size) == ("I;16", (133, 99))
        samples = np.asarray(image)[..., None]
    assert len(np.unique(samples)) > 256
    assert _psnr(samples, grey) > 17
    npy = served.post("/v1/decode", json=codes, headers={"accept": "application/x-npy"})
    (array,) = read_npy(npy.content)
    assert array.dtype == np.uint16
    assert np.array_equal(array, samples)


def test_without_a_depth_pictures_have_8_bits(served, grey):
    """As every viewer shows them; WebP and JPEG too."""
    picture = encode_image(grey, "image/png")
    deep = _reconstruct(served, picture, accept="image/png;depth=16")
    plain = _reconstruct(served, picture)
    with Image.open(io.BytesIO(deep.content)) as image:
        wanted = (np.asarray(image) / 257).round().astype(np.uint8)
    with Image.open(io.BytesIO(plain.content)) as image:
        assert image.mode == "L"
        assert np.array_equal(np.asarray(image), wanted)
    for kind in ("image/webp", "image/jpeg"):
        assert _reconstruct(served, picture, accept=kind).headers["content-type"] == kind


def test_psnr_is_of_all_16_bits(served, grey):
    """In the header, of the samples as they are."""
    answer = _reconstruct(served, encode_image(grey, "image/png"), accept="application/x-npy")
    (made,) = read_npy(answer.content)
    assert float(answer.headers["tessera-psnr"]) == pytest.approx(_psnr(made, grey), abs=1e-3)


def test_several_pictures_have_16_bits_in_zip_and_json(served, grey):
    """Where `Accept` says so beside the container."""
    files = [("images", ("a.png", encode_image(grey, "image/png"), "image/png"))] * 2
    codes = served.post("/v1/encode", files=files).json()
    accept = "application/zip, image/png;depth=16"
    with zipfile.ZipFile(
        io.BytesIO(served.post("/v1/decode", json=codes, headers={"accept": accept}).content)
    ) as archive:
        assert archive.namelist() == ["0.png", "1.png"]
        assert Image.open(io.BytesIO(archive.read("0.png"))).mode == "I;16"
    accept = "application/json, image/png;depth=16"
    entry = served.post("/v1/decode", json=codes, headers={"accept": accept}).json()["data"][0]
    assert entry["media_type"] == "image/png"
    assert Image.open(io.BytesIO(base64.b64decode(entry["image"]))).mode == "I;16"


def test_an_array_is_the_picture(served, grey):
    """As the whole body, and as a file among files."""
    wanted = _reconstruct(served, encode_image(grey, "image/png")).content
    array = write_npy(grey)
    assert _reconstruct(served, array, "application/x-npy").content == wanted
    answer = served.post(
        "/v1/reconstruct",
        files={"images": ("a.npy", array, "application/octet-stream")},
        headers={"accept": "image/png"},
    )
    assert answer.content == wanted


def test_pictures_of_8_bits_are_scaled(served, photos):
    """Any photograph can be sent to a model of 16 bits grey."""
    with (photos / "lake.webp").open("rb") as file:
        answer = _reconstruct(served, file.read(), "image/webp", size="64x64")
    assert answer.status_code == 200
    assert Image.open(io.BytesIO(answer.content)).mode == "L"


def test_seven_channels_are_arrays(served, photos):
    """In and out; pictures of them there are none, and the refusals say so."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 56, 7), dtype=np.uint8)
    answer = _reconstruct(
        served, write_npy(pixels), "application/x-npy", "application/x-npy", model="seven"
    )
    (made,) = read_npy(answer.content)
    assert (made.shape, made.dtype) == ((40, 56, 7), np.uint8)
    picture = (photos / "lake.webp").read_bytes()
    refused = _reconstruct(served, picture, "image/webp", "application/x-npy", model="seven")
    assert refused.status_code == 415
    assert "send 7 as an array" in refused.json()["detail"]
    refused = _reconstruct(served, write_npy(pixels), "application/x-npy", model="seven")
    assert refused.status_code == 406


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros((16, 16, 1), np.uint8), "not uint16"),
        (np.zeros((16, 16, 3), np.uint16), "[h, w, 1]"),
        (np.zeros((16, 16, 1), np.float32), "not uint8"),
    ],
)
def test_an_array_of_other_samples_is_refused(served, array, says):
    """With what to send."""
    refused = _reconstruct(served, write_npy(array), "application/x-npy")
    assert refused.status_code == 422
    assert says in refused.json()["detail"]


def test_a_model_of_8_bits_answers_a_depth_with_what_it_has(client, photos):
    """It isn't refused: the picture has all there is."""
    answer = client.post(
        "/v1/reconstruct",
        content=(photos / "lake.webp").read_bytes(),
        headers={"content-type": "image/webp", "accept": "image/png; depth=16"},
    )
    assert Image.open(io.BytesIO(answer.content)).mode == "RGB"


def test_the_model_says_what_its_pixels_are(served):
    """Channels, and the sample that is white."""
    facts = served.get("/v1/models/grey16").json()
    assert facts["pixels"] == {"channels": 1, "maximum": MAXIMUM}
    assert served.get("/v1/models/seven").json()["pixels"] == {"channels": 7, "maximum": 255}


def test_client_and_library_send_arrays_as_they_are(served, channels_bundles, grey):
    """uint16, and seven channels; there and back."""
    seven = np.random.default_rng(1).integers(0, 256, (2, 24, 32, 7), dtype=np.uint8)
    with (
        Client(str(served.base_url), model="grey16") as there,
        Client(str(served.base_url), model="seven") as of_seven,
        tessera.load(channels_bundles / "grey16") as here,
    ):
        one, other = there.encode(grey), here.encode(grey[..., 0])
        assert one.to_bytes() == other.to_bytes()
        (made,) = here.decode(other)
        assert (made.dtype, made.shape) == (np.uint16, grey.shape)
        assert here.reconstruct(grey)[0].psnr == pytest.approx(_psnr(made, grey), abs=1e-3)
        assert [p.shape for p in of_seven.decode(of_seven.encode(seven))] == [(24, 32, 7)] * 2
        vectors = there.embed(grey)
        assert np.allclose(vectors, there.embed(one), atol=1e-5)


def test_a_hostile_array_in_a_file_is_refused(served):
    """What a header claims isn't allocated."""
    lying = write_npy(np.zeros((4, 4, 1), np.uint16)).replace(b"(4, 4, 1), ", b"(4, 4, 999),")
    answer: httpx.Response = served.post(
        "/v1/encode", files={"images": ("a.npy", lying, "application/octet-stream")}
    )
    assert answer.status_code in (400, 422)


def test_the_open_inference_protocol_declares_and_takes_them(served, grey):
    """UINT16 of one channel in, and out of the decoder."""
    declared = served.get("/v2/models/grey16.encode").json()["inputs"][0]
    assert (declared["datatype"], declared["shape"]) == ("UINT16", [-1, -1, -1, 1])
    part = grey[None, :16, :24]
    tensor = {"name": "pixels", "shape": list(part.shape), "datatype": "UINT16"}
    body = {"inputs": [{**tensor, "data": part.ravel().tolist()}]}
    answer = served.post("/v2/models/grey16.encode/infer", json=body)
    assert answer.status_code == 200, answer.text
    codes = next(one for one in answer.json()["outputs"] if one["name"] == "codes")
    decoded = served.post("/v2/models/grey16.decode/infer", json={"inputs": [codes]}).json()
    assert decoded["outputs"][0]["datatype"] == "UINT16"
    assert decoded["outputs"][0]["shape"] == [1, 16, 24, 1]
