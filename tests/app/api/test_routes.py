"""The HTTP contract, through a real socket: every body in, every form out, every refusal."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import zipfile

import numpy as np
import orjson
import pytest
from PIL import Image

from app.codecs.npy import read_npy
from app.codecs.tess import MEDIA_TYPE as PACKED
from app.codecs.tess import unpack_codes

NPY = "application/x-npy"
PNG = {"content-type": "image/png"}


def picture(width: int, height: int, seed: int = 0) -> np.ndarray:
    """A smooth coloured picture, uint8 `[height, width, 3]`; another for another seed."""
    noise = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))


def png(pixels: np.ndarray) -> bytes:
    """A PNG file of pixels."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def npy(array: np.ndarray) -> bytes:
    """A .npy file of an array."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def pixels_of(file: bytes) -> np.ndarray:
    """The pixels of an image file, uint8 `[h, w, 3]`."""
    return np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def encode(client, image: bytes, accept="application/json", **params):
    return client.post("/v1/encode", content=image, headers=PNG | {"accept": accept}, params=params)


def assert_problem(response, status, code):
    assert (response.status_code, response.json().get("code")) == (status, code), response.text
    body = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert body["status"] == status
    assert body["request_id"] == response.headers["x-request-id"]
    assert set(body) == {"type", "title", "status", "detail", "code", "request_id"}


# --- encode ----------------------------------------------------------------------------------


def test_encoding_says_what_made_the_codes_and_how_large_the_image_is(client):
    """Sides that aren't multiples of the stride keep their true size."""
    body = encode(client, png(picture(50, 33))).json()
    assert body["model"] == "tiny"
    assert re.fullmatch("[0-9a-f]{64}", body["code_space"])
    assert body["precision"] == "fp32"
    (item,) = body["data"]
    assert (item["index"], item["width"], item["height"], item["grid"]) == (0, 50, 33, [5, 7])
    codes = np.array(item["codes"])
    assert codes.shape == (5, 7)
    assert 0 <= codes.min() <= codes.max() < 256


def test_every_way_to_send_an_image_gives_the_same_codes(client):
    """Raw under any type, multipart, base64, data: URI and npy."""
    pixels = picture(64, 48)
    file = png(pixels)
    post = client.post
    answers = [
        *(
            post("/v1/encode", content=file, headers={"content-type": kind})
            for kind in ("image/png", "image/jpeg", "application/octet-stream", "IMAGE/TIFF; a=b")
        ),
        post("/v1/encode", files={"anything": ("a.png", file)}),
        post("/v1/encode", json={"images": [b64(file)]}),
        post("/v1/encode", json={"images": ["data:image/png;base64," + b64(file)]}),
        post("/v1/encode", content=npy(pixels), headers={"content-type": NPY}),
        post("/v1/encode", content=npy(pixels[None]), headers={"content-type": NPY}),
    ]
    codes = [answer.json()["data"][0]["codes"] for answer in answers]
    assert all(grid == codes[0] for grid in codes)


def test_several_images_keep_their_order_and_names(client):
    """Of different sizes, they come back as they were sent."""
    sizes = [(64, 64), (16, 8), (64, 64), (33, 40)]
    files = [("file", (f"{i}.png", png(picture(*size, seed=i)))) for i, size in enumerate(sizes)]
    data = client.post("/v1/encode", files=files).json()["data"]
    assert [(i["index"], i["name"], i["width"], i["height"]) for i in data] == [
        (i, f"{i}.png", *size) for i, size in enumerate(sizes)
    ]


def test_codes_are_the_same_in_a_request_of_one_and_of_eight(client):
    """Eight of a shape in one request, or each by itself."""
    files = [png(picture(64, 64, seed=i)) for i in range(8)]
    together = client.post("/v1/encode", json={"images": [b64(f) for f in files]}).json()["data"]
    alone = [encode(client, file).json()["data"][0] for file in files]
    assert [item["codes"] for item in together] == [item["codes"] for item in alone]


def test_a_bad_image_among_good_ones_fails_alone(client):
    """200, with an error in the item that failed."""
    good = b64(png(picture(16, 16)))
    bad = [b64(b"\x89PNG\r\n\x1a\n rubbish"), b64(b"%!PS-Adobe-3.0 EPSF-3.0"), "not base64!", ""]
    answer = client.post("/v1/encode", json={"images": [good, *bad, good]})
    assert answer.status_code == 200
    data = answer.json()["data"]
    assert [item.get("error", {}).get("code") for item in data] == [
        *(None, "image_corrupt", "unsupported_media_type"),
        *("malformed_request", "malformed_request", None),
    ]
    assert data[0]["codes"] == data[5]["codes"]
    assert all(set(item["error"]) == {"code", "status", "detail"} for item in data[1:5])


def test_if_all_images_fail_the_first_fault_is_the_status(client):
    """Nothing was done, so it isn't a success."""
    answer = client.post("/v1/encode", json={"images": [b64(b"\xff\xd8\xff broken"), "!"]})
    assert_problem(answer, 422, "image_corrupt")


@pytest.mark.parametrize(
    ("fit", "grid"), [("cover", [3, 5]), ("contain", [3, 5]), ("stretch", [3, 5])]
)
def test_size_resizes_before_encoding(client, fit, grid):
    """Whatever the fit, the image encoded has the size asked for."""
    item = encode(client, png(picture(64, 64)), size="40x24", fit=fit).json()["data"][0]
    assert (item["width"], item["height"], item["grid"]) == (40, 24, grid)


def test_packed_and_npy_forms_hold_the_same_codes(client):
    """What differs is the form alone."""
    file = png(picture(50, 33))
    item = encode(client, file).json()
    packed = encode(client, file, PACKED)
    assert packed.headers["content-type"] == PACKED
    unpacked = unpack_codes(packed.content, max_images=1, max_pixels=10**6)
    assert unpacked.code_space == item["code_space"]
    assert unpacked.precision == "fp32"
    (grid,) = unpacked.grids
    assert (grid.width, grid.height) == (50, 33)
    assert grid.codes.tolist() == item["data"][0]["codes"]
    array = read_npy(encode(client, file, NPY).content)
    assert array[0].tolist() == item["data"][0]["codes"]


def test_npy_of_unequal_grids_is_not_acceptable(client):
    """One array can't hold them; with `size` it can."""
    images = {"images": [b64(png(picture(16, 16))), b64(png(picture(24, 16)))]}
    headers = {"accept": NPY}
    assert_problem(client.post("/v1/encode", json=images, headers=headers), 406, "not_acceptable")
    answer = client.post("/v1/encode", json=images, headers=headers, params={"size": "32x16"})
    assert read_npy(answer.content).shape == (2, 2, 4)


def test_forms_without_room_for_errors_are_refused_with_them(client):
    """A packed file that silently lacks an image would be worse."""
    images = {"images": [b64(png(picture(16, 16))), "!"]}
    answer = client.post("/v1/encode", json=images, headers={"accept": PACKED})
    assert_problem(answer, 400, "malformed_request")
    assert answer.json()["detail"].startswith("item 1: ")


# --- decode ----------------------------------------------------------------------------------


def test_decode_takes_each_form_of_encode_unchanged(client):
    """JSON, packed and npy give the same picture, cropped where the form knows the size."""
    file = png(picture(50, 33))
    pictures = []
    for accept, params in (("application/json", {}), (PACKED, {}), (NPY, {"model": "tiny"})):
        codes = encode(client, file, accept)
        answer = client.post(
            "/v1/decode", content=codes.content, headers={"content-type": accept}, params=params
        )
        assert answer.headers["content-type"] == "image/png"
        pictures.append(pixels_of(answer.content))
    assert pictures[0].shape == (33, 50, 3)
    assert np.array_equal(pictures[0], pictures[1])
    assert pictures[2].shape == (40, 56, 3)
    assert np.array_equal(pictures[0], pictures[2][:33, :50])


def test_one_picture_comes_in_the_form_that_is_asked_for(client):
    """PNG, WebP, JPEG, npy; PNG for anything."""
    codes = encode(client, png(picture(32, 24))).json()

    def decode(accept, **params):
        return client.post("/v1/decode", json=codes, headers={"accept": accept}, params=params)

    exact = pixels_of(decode("*/*").content)
    assert np.array_equal(read_npy(decode(NPY).content)[0], exact)
    for kind in ("image/png", "image/webp", "image/jpeg"):
        answer = decode(kind, quality=95)
        assert answer.headers["content-type"] == kind
        assert pixels_of(answer.content).shape == (24, 32, 3)
    assert len(decode("image/jpeg", quality=5).content) < len(decode("image/jpeg").content)
    assert_problem(decode("text/html"), 406, "not_acceptable")


def test_several_pictures_come_as_json_zip_or_npy(client):
    """The names in a ZIP and the indices in JSON say which is which."""
    images = {"images": [b64(png(picture(32, 24, seed=i))) for i in range(3)]}
    codes = client.post("/v1/encode", json=images).json()

    def decode(accept):
        return client.post("/v1/decode", json=codes, headers={"accept": accept})

    data = decode("*/*").json()["data"]
    assert [(i["index"], i["width"], i["height"], i["media_type"]) for i in data] == [
        (i, 32, 24, "image/png") for i in range(3)
    ]
    pictures = [pixels_of(base64.b64decode(item["image"])) for item in data]
    with zipfile.ZipFile(io.BytesIO(decode("application/zip").content)) as archive:
        assert archive.namelist() == ["0.png", "1.png", "2.png"]
        assert np.array_equal(pixels_of(archive.read("2.png")), pictures[2])
    assert np.array_equal(read_npy(decode(NPY).content), np.stack(pictures))
    webp = decode("application/json, image/webp;q=0.9").json()["data"][0]
    assert webp["media_type"] == "image/webp"
    assert_problem(decode("image/png"), 406, "not_acceptable")


def test_items_that_encoding_failed_on_are_skipped(client):
    """What remains is one grid, so its picture is the answer."""
    images = {"images": ["!", b64(png(picture(16, 16)))]}
    codes = client.post("/v1/encode", json=images).json()
    assert client.post("/v1/decode", json=codes).headers["content-type"] == "image/png"


GRID = [[0, 1], [2, 3]]


@pytest.mark.parametrize(
    ("item", "status", "code"),
    [
        ({"codes": []}, 422, "codes_invalid"),
        ({"codes": [[]]}, 422, "codes_invalid"),
        ({"codes": [[1, 2], [3]]}, 422, "codes_invalid"),
        ({"codes": [[256]]}, 422, "codes_invalid"),
        ({"codes": [[-1]]}, 422, "codes_invalid"),
        ({"codes": [[1.5]]}, 422, "codes_invalid"),
        ({"codes": [["1"]]}, 422, "codes_invalid"),
        ({"codes": [[True]]}, 422, "codes_invalid"),
        ({"codes": 7}, 422, "codes_invalid"),
        ({}, 422, "codes_invalid"),
        (7, 422, "codes_invalid"),
        ({"codes": GRID, "width": 99}, 422, "codes_invalid"),
        ({"codes": GRID, "width": "16"}, 422, "codes_invalid"),
        ({"error": {"code": "image_corrupt"}}, 400, "malformed_request"),
    ],
)
def test_codes_that_make_no_sense_are_refused(client, item, status, code):
    """One grid's fault is the status; among others it is the item's."""
    code_space = encode(client, png(picture(8, 8))).json()["code_space"]
    body = {"code_space": code_space, "data": [item]}
    assert_problem(client.post("/v1/decode", json=body), status, code)
    body["data"].append({"codes": GRID})
    if status == 422:
        data = client.post("/v1/decode", json=body | {"data": [*body["data"], {"codes": GRID}]})
        assert [i.get("error", {}).get("code") for i in data.json()["data"]] == [code, None, None]


def test_codes_of_another_space_are_never_decoded(client):
    """409, naming the spaces that are loaded."""
    codes = encode(client, png(picture(8, 8))).json()
    answer = client.post("/v1/decode", json=codes | {"code_space": "0" * 64})
    assert_problem(answer, 409, "code_space_mismatch")
    assert codes["code_space"] in answer.json()["detail"]


def test_npy_codes_need_a_model_to_be_named(client):
    """They don't say whose they are."""
    body = {"content": npy(np.array(GRID)), "headers": {"content-type": NPY}}
    assert_problem(client.post("/v1/decode", **body), 400, "malformed_request")
    assert client.post("/v1/decode?model=tiny", **body).status_code == 200
    assert_problem(client.post("/v1/decode?model=x", **body), 404, "model_not_found")


# --- embed, reconstruct, classify --------------------------------------------------------------


def test_an_image_and_its_codes_have_the_same_vector(client):
    """However the codes come."""
    file = png(picture(50, 33))
    body = client.post("/v1/embed", content=file, headers=PNG).json()
    vector = body["data"][0]["embedding"]
    facts = client.get("/v1/models/tiny").json()
    assert body["dimension"] == len(vector) == facts["embedding_dimension"]
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    for accept, params in (("application/json", {}), (PACKED, {}), (NPY, {"model": "tiny"})):
        codes = encode(client, file, accept).content
        answer = client.post(
            "/v1/embed", content=codes, headers={"content-type": accept}, params=params
        )
        assert answer.json()["data"][0]["embedding"] == vector


def test_vectors_come_as_numbers_base64_or_npy(client):
    """All of the same float32 values."""
    images = {"images": [b64(png(picture(16, 16, seed=i))) for i in range(2)]}

    def embed(accept="*/*", **params):
        return client.post("/v1/embed", json=images, headers={"accept": accept}, params=params)

    array = read_npy(embed(NPY).content)
    assert array.shape == (2, client.get("/v1/models/tiny").json()["embedding_dimension"])
    assert array.dtype == np.dtype("<f4")
    for item, row in zip(embed().json()["data"], array, strict=True):
        assert np.array_equal(np.array(item["embedding"], np.float32), row)
    for item, row in zip(embed(encoding_format="base64").json()["data"], array, strict=True):
        assert np.array_equal(np.frombuffer(base64.b64decode(item["embedding"]), "<f4"), row)
    assert_problem(embed(encoding_format="hex"), 422, "invalid_parameter")


def test_npy_of_uint8_is_images_and_other_integers_are_codes(client):
    """So that embedding knows which is which."""
    images = client.post("/v1/embed", content=npy(picture(16, 16)), headers={"content-type": NPY})
    assert len(images.json()["data"]) == 1
    codes = client.post(
        "/v1/embed?model=tiny",
        content=npy(np.zeros((2, 3, 3), np.int32)),
        headers={"content-type": NPY},
    )
    assert len(codes.json()["data"]) == 2


def test_reconstructing_is_encoding_then_decoding_with_measures(client):
    """The same pixels in one call, and how near they are."""
    pixels = picture(50, 33)
    codes = encode(client, png(pixels)).json()
    decoded = pixels_of(client.post("/v1/decode", json=codes).content)
    answer = client.post("/v1/reconstruct", content=png(pixels), headers=PNG)
    assert np.array_equal(pixels_of(answer.content), decoded)
    mse = np.mean((pixels.astype(float) - decoded) ** 2)
    assert float(answer.headers["tessera-psnr"]) == pytest.approx(
        10 * np.log10(255**2 / mse), abs=1e-3
    )
    assert float(answer.headers["tessera-bits-per-pixel"]) == pytest.approx(
        5 * 7 * 8 / (50 * 33), abs=1e-5
    )
    assert answer.headers["tessera-code-space"] == codes["code_space"]


def test_several_reconstructions_carry_their_measures(client):
    """In JSON, in each item."""
    images = {"images": [b64(png(picture(16, 16, seed=i))) for i in range(2)]}
    data = client.post("/v1/reconstruct", json=images).json()["data"]
    assert all(item["psnr"] > 0 and item["bits_per_pixel"] == 0.125 for item in data)


def test_classifying_without_a_recognizer_says_how_to_get_one(client):
    """404, with the command."""
    answer = client.post("/v1/classify", content=png(picture(16, 16)), headers=PNG)
    assert_problem(answer, 404, "recognizer_not_found")
    assert "python -m training.recognize" in answer.json()["detail"]


# --- models, health ----------------------------------------------------------------------------


def test_models_are_listed_and_described(client):
    """With what a client needs to use their codes."""
    body = client.get("/v1/models").json()
    assert body["default"] == "tiny"
    (facts,) = body["data"]
    assert facts == client.get("/v1/models/tiny").json()
    assert (facts["stride"], facts["codebook_size"], facts["bits_per_code"]) == (8, 256, 8)
    assert facts["device"] == "cpu"
    assert_problem(client.get("/v1/models/absent"), 404, "model_not_found")


def test_the_card_is_the_bundles(client, tiny_bundle):
    """As Markdown, byte for byte; as plain text for who asks for that."""
    answer = client.get("/v1/models/tiny/card")
    assert answer.headers["content-type"] == "text/markdown; charset=utf-8"
    assert answer.content == (tiny_bundle / "MODEL_CARD.md").read_bytes()
    plain = client.get("/v1/models/tiny/card", headers={"accept": "text/plain"})
    assert plain.headers["content-type"] == "text/plain; charset=utf-8"
    assert client.get("/v1/models/other/card").json()["code"] == "model_not_found"


def test_a_bundle_without_a_card_answers_404(run_app, tiny_bundle, tmp_path):
    """Cards are for people: a bundle may have none."""
    shutil.copytree(tiny_bundle, tmp_path / "tiny")
    (tmp_path / "tiny" / "MODEL_CARD.md").unlink()
    path = tmp_path / "tiny" / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["files"]["MODEL_CARD.md"]
    path.write_text(json.dumps(manifest))
    with run_app(models_dir=tmp_path) as client:
        answer = client.get("/v1/models/tiny/card")
    assert (answer.status_code, answer.json()["code"]) == (404, "card_not_found")
    assert "MODEL_CARD.md" in answer.json()["detail"]


def test_the_codebook_comes_as_json_or_npy(client):
    """One row for each code."""
    array = read_npy(client.get("/v1/models/tiny/codebook", headers={"accept": NPY}).content)
    assert array.shape == (256, 4)
    body = client.get("/v1/models/tiny/codebook").json()
    assert np.array_equal(np.array(body["vectors"], np.float32), array)


def test_health_and_metrics_answer(client):
    """Prometheus text, with what was encoded counted."""
    assert client.get("/livez").json() == {"status": "alive"}
    assert client.get("/readyz").json() == {"status": "ready", "models": ["tiny"]}
    encode(client, png(picture(16, 16)))
    text = client.get("/metrics").text
    for name in (
        'tessera_requests_total{route="/v1/encode",status="200"}',
        'tessera_request_duration_seconds_bucket{le="0.1",route="/v1/encode"}',
        'tessera_stage_duration_seconds_count{stage="infer"}',
        "tessera_batch_items_sum",
        "tessera_queue_items 0.0",
        'tessera_code_perplexity{model="tiny@1"}',
        'tessera_code_usage_ratio{model="tiny@1"}',
        "process_resident_memory_bytes",
    ):
        assert name in text


# --- every response ------------------------------------------------------------------------------


def test_every_response_has_an_id_and_times(client):
    """Errors and probes too; the client's id is kept if it is sane."""
    for path in ("/livez", "/v1/models", "/absent"):
        answer = client.get(path, headers={"x-request-id": "mine-1"})
        assert answer.headers["x-request-id"] == "mine-1"
        timing = answer.headers["server-timing"]
        assert re.fullmatch(
            r"decode;dur=[\d.]+, queue;dur=[\d.]+, infer;dur=[\d.]+, encode;dur=[\d.]+", timing
        )
        assert answer.headers["x-content-type-options"] == "nosniff"
    odd = client.get("/livez", headers={"x-request-id": "a b"}).headers["x-request-id"]
    assert re.fullmatch("[0-9a-f]{32}", odd)
    timing = encode(client, png(picture(64, 64))).headers["server-timing"]
    assert float(re.search(r"infer;dur=([\d.]+)", timing)[1]) > 0


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "kind", "status", "code"),
    [
        (b"", "image/png", 400, "malformed_request"),
        (b"{", "application/json", 400, "malformed_request"),
        (b"[]", "application/json", 400, "malformed_request"),
        (b'{"images": []}', "application/json", 400, "malformed_request"),
        (b'{"images": [1]}', "application/json", 400, "malformed_request"),
        (b'{"images": ["http://host/a.png"]}', "application/json", 400, "malformed_request"),
        (b'{"images": ["data:image/png,x"]}', "application/json", 400, "malformed_request"),
        (b'{"images": NaN}', "application/json", 400, "malformed_request"),
        (b"[" * 100_000, "application/json", 400, "malformed_request"),
        (b"x", "multipart/form-data; boundary=b", 400, "malformed_request"),
        (b"x", "application/x-npy", 400, "malformed_request"),
        (npy(np.zeros((0, 8, 8, 3), np.uint8)), NPY, 400, "malformed_request"),
        (npy(np.zeros((8, 8, 3), np.float32)), NPY, 422, "image_corrupt"),
        (b"x", "text/plain", 415, "unsupported_media_type"),
        (b"x", "", 415, "unsupported_media_type"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "image/png", 415, "unsupported_media_type"),
        (b"\x89PNG\r\n\x1a\nxx", "image/png", 422, "image_corrupt"),
    ],
)
def test_bodies_that_are_no_images_are_refused(client, content, kind, status, code):
    """Each with the status and code of the table."""
    answer = client.post("/v1/encode", content=content, headers={"content-type": kind})
    assert_problem(answer, status, code)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v1/encode?size=0x8", "invalid_parameter"),
        ("/v1/encode?size=99999x99999", "invalid_parameter"),
        ("/v1/encode?fit=squeeze", "invalid_parameter"),
        ("/v1/reconstruct?quality=0", "invalid_parameter"),
        ("/v1/reconstruct?quality=high", "invalid_parameter"),
        ("/v1/classify?k=0", "invalid_parameter"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(client, path, code):
    """422, naming the parameter."""
    answer = client.post(path, content=png(picture(8, 8)), headers=PNG)
    assert_problem(answer, 422, code)
    assert re.search(r"[?](\w+)=", path)[1] in answer.json()["detail"]


def test_compressed_bodies_are_refused(client):
    """A few bytes could unfold to gigabytes."""
    headers = PNG | {"content-encoding": "gzip"}
    answer = client.post("/v1/encode", content=b"\x1f\x8b", headers=headers)
    assert_problem(answer, 415, "unsupported_media_type")


def test_paths_and_methods_that_do_not_exist_are_problems_too(client):
    """404 and 405, with Allow."""
    assert_problem(client.get("/v1/absent"), 404, "not_found")
    assert_problem(client.post("/v1/encode/"), 404, "not_found")
    answer = client.get("/v1/encode")
    assert_problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"


def test_details_never_repeat_what_was_sent(client):
    """An error that quotes its input carries secrets into logs."""
    secret = "s3cr3t-marker"
    for answer in (
        client.post("/v1/encode", json={"images": [secret]}),
        client.post("/v1/encode", content=secret.encode(), headers=PNG),
        client.post(f"/v1/encode?size={secret}", content=png(picture(8, 8)), headers=PNG),
        client.post(f"/v1/encode?fit={secret}", content=png(picture(8, 8)), headers=PNG),
        client.post(f"/v1/encode?model={secret}", content=png(picture(8, 8)), headers=PNG),
        client.get(f"/v1/models/{secret}"),
        client.post("/v1/decode", json={"code_space": secret, "data": [{"codes": [[1]]}]}),
    ):
        assert answer.status_code >= 400
        assert secret not in answer.text


HEADS = ["/livez", "/readyz", "/metrics", "/v1/models", "/v1/models/tiny", "/v2", "/v2/models"]


@pytest.mark.parametrize("path", [*HEADS, "/", "/docs", "/openapi.json", "/v1/models/tiny/card"])
def test_head_is_answered_wherever_get_is(client, path):
    """Monitors ask so: the same status and headers, and no body."""
    head, get = client.head(path), client.get(path)
    assert (head.status_code, head.content) == (get.status_code, b"") == (200, b"")
    assert head.headers["content-type"] == get.headers["content-type"]
    if path != "/metrics":  # which counts itself
        assert head.headers["content-length"] == str(len(get.content))


def test_head_where_there_is_no_get_is_refused(client):
    """405 for operations, 404 for nothing; without a body, like any answer to HEAD."""
    assert client.head("/v1/encode").status_code == 405
    assert client.head("/v1/encode").headers["allow"] == "POST"
    assert client.head("/nowhere").status_code == 404
    assert client.head("/v1/models/absent").status_code == 404


def test_head_is_logged_and_counted_as_what_it_is(client):
    """By its own route, so that probes are told from clients."""
    client.head("/v1/models/tiny/card")
    text = client.get("/metrics").text
    assert 'requests_total{route="/v1/models/{name}/card",status="200"}' in text


# --- limits and keys ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def strict(tiny_bundle, run_app):
    """A service with small limits, keys, and one origin."""
    with run_app(
        models_dir=tiny_bundle.parent,
        max_body_bytes=20_000,
        max_images=3,
        max_pixels=10_000,
        api_keys="first-key,second-key",
        cors_origins="https://a.example",
        max_queue=4,
    ) as client:
        yield client


KEY = {"authorization": "Bearer second-key"}


def test_limits_are_named_when_passed(strict):
    """413 for bytes, images and pixels."""

    def post(content, kind="image/png"):
        return strict.post("/v1/encode", content=content, headers=KEY | {"content-type": kind})

    def chunks():
        for _ in range(30):
            yield bytes(1000)

    for answer, code, name in (
        (post(bytes(20_001)), "body_too_large", "TESSERA_MAX_BODY_BYTES"),
        (post(chunks()), "body_too_large", "TESSERA_MAX_BODY_BYTES"),
        (
            post(orjson.dumps({"images": ["x"] * 4}), "application/json"),
            *("too_many_images", "TESSERA_MAX_IMAGES"),
        ),
        (
            post(npy(np.zeros((4, 8, 8, 3), np.uint8)), NPY),
            *("too_many_images", "TESSERA_MAX_IMAGES"),
        ),
        (post(png(np.zeros((101, 100, 3), np.uint8))), "image_too_large", "TESSERA_MAX_PIXELS"),
    ):
        assert_problem(answer, 413, code)
        assert name in answer.json()["detail"]
    assert post(png(picture(100, 100))).status_code == 200


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer wrong", "Basic second-key", "Bearer second-keyy"]
)
def test_without_a_valid_key_nothing_but_probes_answers(strict, authorization):
    """Not even the documentation, nor whether a path exists."""
    headers = {} if authorization is None else {"authorization": authorization}
    for path in ("/v1/models", "/docs", "/openapi.json", "/absent"):
        answer = strict.get(path, headers=headers)
        assert_problem(answer, 401, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"
    for path in ("/livez", "/readyz", "/metrics"):
        assert strict.get(path, headers=headers).status_code == 200


def test_every_key_is_valid(strict):
    """The scheme's case doesn't matter."""
    for value in ("Bearer first-key", "bearer second-key"):
        assert strict.get("/v1/models", headers={"authorization": value}).status_code == 200


def test_browsers_may_call_from_configured_origins_alone(strict, client):
    """By default from none."""
    origin = {"origin": "https://a.example"}
    answer = strict.get("/v1/models", headers=origin)
    assert answer.headers["access-control-allow-origin"] == "https://a.example"
    other = strict.get("/v1/models", headers={"origin": "https://b.example"})
    assert "access-control-allow-origin" not in other.headers
    assert "access-control-allow-origin" not in client.get("/v1/models", headers=origin).headers


def test_reloading_over_http_needs_keys(strict, client):
    """With them it answers what is served from now on."""
    assert_problem(client.post("/v1/models:reload"), 401, "unauthorized")
    answer = strict.post("/v1/models:reload", headers=KEY)
    assert answer.json() == {"default": "tiny", "models": ["tiny"]}


# --- documentation -----------------------------------------------------------------------------


def test_the_documentation_works_without_another_host(client):
    """Everything the page loads is served from here."""
    page = client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "http://" not in page.text
    assert "https://" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for path in re.findall(r'(?:src|href)="(docs/[^"]+)"', page.text):
        assert client.get(f"/{path}").status_code == 200
    assert client.get("/openapi.json").json()["info"]["title"] == "Tessera"
