"""Stages of codes and named decoders over HTTP, with a model of two of each."""

from __future__ import annotations

import io
import json

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from app.api.responses import CODED
from app.codecs.code_file import CodeFile
from app.codecs.grids import CodeGrid, first_stages
from app.codecs.tess import MEDIA_TYPE as PACKED
from app.codecs.tess import pack_codes, unpack_codes
from bundle import open_bundle

NPY, JSON = "application/x-npy", "application/json"
LIMITS = {"max_images": 16, "max_pixels": 1_000_000}


@pytest.fixture(scope="module")
def staged(staged_bundle, run_app):
    """A client of the service with the model of two stages and two decoders."""
    with run_app(models_dir=staged_bundle.parent) as client:
        yield client


@pytest.fixture(scope="module")
def graphs(staged_bundle):
    """Runs a graph of the bundle by ONNX Runtime alone: name, values → its first output."""
    bundle = open_bundle(staged_bundle)

    def run(name: str, values: np.ndarray) -> np.ndarray:
        graph = bundle.manifest.graphs[name]
        options = onnxruntime.SessionOptions()
        for file, content in bundle.read_weights(name).items():
            options.add_external_initializers_from_files_in_memory(
                [file], [content], [len(content)]
            )
        session = onnxruntime.InferenceSession(
            bundle.read_graph(name, "fp32"), options, providers=["CPUExecutionProvider"]
        )
        return session.run(None, {graph.inputs[0].name: values})[0]

    return run


@pytest.fixture(scope="module")
def lake(photos):
    """A photograph of 56 × 48 pixels, a multiple of the stride, as PNG."""
    return png(np.asarray(Image.open(photos / "lake.webp").convert("RGB").resize((56, 48))))


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def pixels_of(file: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))


def array(response) -> np.ndarray:
    assert response.status_code == 200, response.text
    return np.load(io.BytesIO(response.content))


def encode(client, image: bytes, accept: str = JSON, **params):
    headers = {"content-type": "image/png", "accept": accept}
    return client.post("/v1/encode", content=image, headers=headers, params=params)


def send(client, route: str, body: bytes, kind: str, accept: str = "*/*", **params):
    headers = {"content-type": kind, "accept": accept}
    return client.post(route, content=body, headers=headers, params=params)


def assert_problem(response, status: int, code: str) -> str:
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    return response.json()["detail"]


def sent_npy(codes: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, codes)
    return file.getvalue()


# --- encode ----------------------------------------------------------------------------------


def test_codes_are_what_the_graphs_give(staged, graphs, lake):
    """All stages, where nobody says how many, equal encoder and quantizer run by themselves."""
    (item,) = encode(staged, lake).json()["data"]
    expected = graphs("quantizer", graphs("encoder", pixels_of(lake)[None]))[0]
    assert (item["grid"], item["stages"]) == ([6, 7], 2)
    assert item["codes"] == expected.tolist()


def test_one_stage_has_the_form_that_it_always_had(staged, lake):
    """Rows of codes without another axis, in every form, and the first of the two."""
    both = encode(staged, lake).json()["data"][0]
    first = encode(staged, lake, stages=1).json()["data"][0]
    assert (first["stages"], first["codes"]) == (1, both["codes"][0])
    assert array(encode(staged, lake, NPY, stages=1)).shape == (1, 6, 7)
    packed = encode(staged, lake, PACKED, stages=1).content
    assert packed[8] == 1
    assert unpack_codes(packed, **LIMITS).grids[0].codes.tolist() == first["codes"]


def test_every_form_has_both_stages(staged, lake):
    """An array with an axis of stages, packed in version 2, the same codes as in JSON."""
    codes = encode(staged, lake, stages=2).json()["data"][0]["codes"]
    npy = array(encode(staged, lake, NPY))
    assert (npy.shape, npy[0].tolist()) == ((1, 2, 6, 7), codes)
    packed = encode(staged, lake, PACKED).content
    file = unpack_codes(packed, **LIMITS)
    assert (packed[8], file.codebook_size, file.residual_sizes) == (2, 256, (16,))
    assert file.grids[0].codes.tolist() == codes
    assert len(packed) == 56 + 4 + 21 + 42 + 21 + 4  # 8 and 4 bits for each of 42 patches


def test_several_images_of_several_sizes(staged, photos):
    """Each has its stages; of equal sizes they fit one array."""
    files = [path.read_bytes() for path in sorted(photos.glob("*.webp"))[:3]]
    parts = [("image", (f"{i}.webp", data)) for i, data in enumerate(files)]
    items = staged.post("/v1/encode", files=parts).json()["data"]
    for item in items:
        assert np.array(item["codes"]).shape == (2, *item["grid"])
    sized = staged.post("/v1/encode?size=40x24", files=parts, headers={"accept": NPY})
    assert array(sized).shape == (3, 2, 3, 5)


@pytest.mark.parametrize("stages", ["3", "0", "-1", "17", "all"])
@pytest.mark.parametrize("route", ["/v1/encode", "/v1/reconstruct"])
def test_a_wrong_number_of_stages_is_refused(staged, lake, route, stages):
    """422, naming the parameter; where the model hasn't so many, also how many it has."""
    headers = {"content-type": "image/png"}
    answer = staged.post(route, content=lake, headers=headers, params={"stages": stages})
    detail = assert_problem(answer, 422, "invalid_parameter")
    assert "stages" in detail
    assert stages != "3" or "1 to 2" in detail


def test_a_model_of_one_stage_knows_one(client, lake):
    """`stages=1` changes nothing, not even a byte; 2 are refused."""
    for accept in (JSON, PACKED, NPY):
        assert (
            encode(client, lake, accept, stages=1).content == encode(client, lake, accept).content
        )
    assert "stages" not in encode(client, lake).json()["data"][0]
    detail = assert_problem(encode(client, lake, stages=2), 422, "invalid_parameter")
    assert "must be 1" in detail


# --- decode ----------------------------------------------------------------------------------


@pytest.mark.parametrize("decoder", ["default", "texture"])
@pytest.mark.parametrize("stages", [1, 2])
def test_every_decoder_decodes_every_prefix(staged, graphs, lake, decoder, stages):
    """In every form codes are sent in, to what the decoder's graph gives by itself."""
    graph = "decoder" if decoder == "default" else f"decoder-{decoder}"
    codes = array(encode(staged, lake, NPY, stages=stages))
    expected = graphs(graph, codes.reshape(1, stages, 6, 7))[0]
    params = {"decoder": decoder}
    bodies = {JSON: encode(staged, lake, stages=stages).content}
    bodies |= {PACKED: encode(staged, lake, PACKED, stages=stages).content, NPY: sent_npy(codes)}
    for kind, body in bodies.items():
        named = {"model": "tiny-staged"} if kind == NPY else {}
        decoded = send(staged, "/v1/decode", body, kind, NPY, **params, **named)
        assert np.array_equal(array(decoded)[0], expected), kind


def test_decoders_and_stages_differ(staged, lake):
    """Both decoders with one stage and with two are four pictures; no name is the default."""
    body = encode(staged, lake, PACKED).content
    pictures = {
        send(staged, "/v1/decode", body, PACKED, decoder=decoder, stages=stages).content
        for decoder in ("default", "texture")
        for stages in (1, 2)
    }
    assert len(pictures) == 4
    plain = send(staged, "/v1/decode", body, PACKED)
    assert plain.content == send(staged, "/v1/decode", body, PACKED, decoder="default").content


def test_the_first_stages_of_stored_codes_are_decoded_alone(staged, lake):
    """`stages=1` of both is what codes of one stage decode to; more than there are is refused."""
    both, first = (encode(staged, lake, PACKED, stages=n).content for n in (2, 1))
    cut = send(staged, "/v1/decode", both, PACKED, stages=1)
    assert cut.content == send(staged, "/v1/decode", first, PACKED).content
    answer = send(staged, "/v1/decode", first, PACKED, stages=2)
    assert "have 1" in assert_problem(answer, 422, "invalid_parameter")


def test_grids_of_one_and_two_stages_in_one_request(staged, lake):
    """JSON may mix them; each is decoded as it is."""
    answers = [encode(staged, lake, stages=n).json() for n in (1, 2)]
    mixed = answers[0] | {"data": [answer["data"][0] for answer in answers]}
    together = array(staged.post("/v1/decode", json=mixed, headers={"accept": NPY}))
    for picture, answer in zip(together, answers, strict=True):
        alone = array(staged.post("/v1/decode", json=answer, headers={"accept": NPY}))
        assert np.array_equal(picture, alone[0])
    refused = staged.post("/v1/recode", json=mixed, headers={"accept": PACKED})
    assert "stages=1" in assert_problem(refused, 406, "not_acceptable")
    thin = staged.post("/v1/recode?stages=1", json=mixed, headers={"accept": PACKED})
    assert [grid.stages for grid in unpack_codes(thin.content, **LIMITS).grids] == [1, 1]


def test_an_unknown_decoder_is_404_with_the_names(staged, client, lake):
    """On every route that decodes; a model of one decoder has its name alone."""
    body = encode(staged, lake, PACKED).content
    headers = {"content-type": "image/png"}
    for answer in (
        send(staged, "/v1/decode", body, PACKED, decoder="sharp"),
        staged.post("/v1/reconstruct?decoder=sharp", content=lake, headers=headers),
    ):
        assert "default, texture" in assert_problem(answer, 404, "decoder_not_found")
    answer = client.post("/v1/reconstruct?decoder=texture", content=lake, headers=headers)
    assert assert_problem(answer, 404, "decoder_not_found").endswith("it has: default")
    plain = client.post("/v1/reconstruct", content=lake, headers=headers)
    named = client.post("/v1/reconstruct?decoder=default", content=lake, headers=headers)
    assert named.content == plain.content


def test_codes_that_the_stages_don_t_have_are_refused(staged, lake):
    """Each stage is held to its own codebook, in every form, and three stages are too many."""
    answer = encode(staged, lake).json()
    answer["data"][0]["codes"][1][0][0] = 16
    assert_problem(staged.post("/v1/decode", json=answer), 422, "codes_invalid")
    codes = np.array(encode(staged, lake).json()["data"][0]["codes"])
    for wrong in (np.where(codes == codes[1, 0, 0], 255, codes), np.concatenate([codes, codes])):
        sent = send(staged, "/v1/decode", sent_npy(wrong[None]), NPY, model="tiny-staged")
        assert_problem(sent, 422, "codes_invalid")


@pytest.mark.parametrize(
    ("sizes", "status"),
    [((256, 16), 200), ((256, 15), 422), ((255, 16), 422), ((256, 16, 4), 422), ((256,), 200)],
)
def test_a_packed_file_of_other_stages_is_refused(staged, sizes, status):
    """Its codebook sizes must be those of the first stages of the model."""
    space = staged.get("/v1/models/tiny-staged").json()["code_space"]
    codes = np.zeros((len(sizes), 2, 3), np.int64)
    grid = CodeGrid(first_stages(codes, len(sizes)), 24, 16)
    file = pack_codes(CodeFile(space, sizes[0], 8, "fp32", [grid], sizes[1:]))
    answer = send(staged, "/v1/decode", file, PACKED)
    assert answer.status_code == status
    assert status == 200 or answer.json()["code"] == "codes_invalid"


# --- reconstruct -----------------------------------------------------------------------------


@pytest.mark.parametrize("decoder", ["default", "texture"])
@pytest.mark.parametrize("stages", [1, 2])
def test_reconstructing_is_encoding_and_decoding(staged, lake, decoder, stages):
    """By any decoder with any number of stages; the rate counts the bits of these stages."""
    headers = {"content-type": "image/png", "accept": NPY}
    params = {"decoder": decoder, "stages": stages}
    once = staged.post("/v1/reconstruct", content=lake, headers=headers, params=params)
    codes = encode(staged, lake, PACKED, stages=stages).content
    twice = send(staged, "/v1/decode", codes, PACKED, NPY, decoder=decoder)
    assert np.array_equal(array(once), array(twice))
    bits = 42 * {1: 8, 2: 12}[stages] / (56 * 48)
    assert float(once.headers["tessera-bits-per-pixel"]) == pytest.approx(bits)


def test_another_stage_is_nearer(staged, lake):
    """The second stage of the trained model gains, over the photograph."""
    headers = {"content-type": "image/png"}
    psnr = [
        float(
            staged.post(
                "/v1/reconstruct", content=lake, headers=headers, params={"stages": n}
            ).headers["tessera-psnr"]
        )
        for n in (1, 2)
    ]
    assert psnr[0] < psnr[1]


# --- what is made of codes -------------------------------------------------------------------


def test_an_image_and_all_its_codes_have_one_vector(staged, lake):
    """The first stage alone decides, whether the codes have one or two."""
    headers = {"content-type": "image/png", "accept": NPY}
    vectors = [array(staged.post("/v1/embed", content=lake, headers=headers))]
    for stages in (1, 2):
        codes = encode(staged, lake, PACKED, stages=stages).content
        vectors.append(array(send(staged, "/v1/embed", codes, PACKED, NPY)))
    assert np.array_equal(vectors[0], vectors[1])
    assert np.array_equal(vectors[0], vectors[2])


def test_recoding_drops_stages(staged, lake):
    """To what encoding answers with so many stages, in every form."""
    both = encode(staged, lake, PACKED).content
    for accept in (JSON, PACKED, NPY):
        for stages in (1, 2):
            thin = send(staged, "/v1/recode", both, PACKED, accept, stages=stages)
            assert thin.content == encode(staged, lake, accept, stages=stages).content
    assert send(staged, "/v1/recode", both, PACKED, PACKED).content == both
    one = encode(staged, lake, PACKED, stages=1).content
    answer = send(staged, "/v1/recode", one, PACKED, stages=2)
    assert_problem(answer, 422, "invalid_parameter")


def test_a_model_without_a_prior_says_so(staged, lake):
    """Of one stage and of two, codes can't be coded by their context."""
    for stages in (1, 2):
        answer = encode(staged, lake, CODED, stages=stages)
        assert_problem(answer, 404, "prior_not_found")
    assert_problem(
        staged.post("/v1/bits", content=lake, headers={"content-type": "image/png"}),
        404,
        "prior_not_found",
    )


# --- what the service says -------------------------------------------------------------------


def test_models_list_stages_and_decoders(staged, client, staged_bundle):
    """Sizes, bits and metrics; of a model with one of each, that one."""
    manifest = json.loads((staged_bundle / "manifest.json").read_text("utf-8"))
    facts = staged.get("/v1/models/tiny-staged").json()
    assert facts["stages"] == [
        {"codebook_size": 256, "bits_per_code": 8},
        {"codebook_size": 16, "bits_per_code": 4},
    ]
    assert facts["default_stages"] == 2
    assert list(facts["decoders"]) == ["default", "texture"]
    texture = facts["decoders"]["texture"]
    assert texture == {"precision": "fp32", "metrics": manifest["decoders"]["texture"]["metrics"]}
    facts = client.get("/v1/models/tiny").json()
    assert facts["stages"] == [{"codebook_size": 256, "bits_per_code": 8}]
    assert (facts["default_stages"], list(facts["decoders"])) == (1, ["default"])


def test_every_stage_has_its_codebook(staged):
    """The first where nobody says; one that there isn't is refused."""
    books = [
        array(staged.get("/v1/models/tiny-staged/codebook", headers={"accept": NPY}, params=params))
        for params in ({}, {"stage": 1}, {"stage": 2})
    ]
    assert [book.shape for book in books] == [(256, 4), (256, 4), (16, 4)]
    answer = staged.get("/v1/models/tiny-staged/codebook?stage=3")
    assert_problem(answer, 422, "invalid_parameter")


def test_metrics_tell_decoders_and_stages_apart(staged, lake):
    """Images are counted by decoder, codes by stage."""
    headers = {"content-type": "image/png"}
    staged.post("/v1/reconstruct?decoder=texture", content=lake, headers=headers)
    staged.post("/v1/reconstruct", content=lake, headers=headers)
    encode(staged, lake)
    text = staged.get("/metrics").text
    for line in (
        'tessera_decoded_images_total{decoder="texture",model="tiny-staged@1"}',
        'tessera_decoded_images_total{decoder="default",model="tiny-staged@1"}',
        'tessera_code_perplexity{model="tiny-staged@1",stage="1"}',
        'tessera_code_perplexity{model="tiny-staged@1",stage="2"}',
    ):
        assert line in text
