"""Stages and further decoders over the Open Inference Protocol, by Triton's own client."""

from __future__ import annotations

import io
import tracemalloc

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

STAGED = "tiny-staged"


@pytest.fixture(scope="module")
def staged(staged_bundle, run_app):
    """A client of the service with the model of two stages and two decoders."""
    with run_app(models_dir=staged_bundle.parent) as client:
        yield client


@pytest.fixture(scope="module")
def official(staged):
    """Triton's client of the same service."""
    with triton.InferenceServerClient(f"{staged.base_url.host}:{staged.base_url.port}") as official:
        yield official


@pytest.fixture(scope="module")
def pixels():
    """Two pictures of 24 × 16 pixels."""
    return np.random.default_rng(0).integers(0, 256, (2, 16, 24, 3), dtype=np.uint8)


def given(name: str, array: np.ndarray) -> triton.InferInput:
    kind = {"u": "UINT8", "i": "INT64", "f": "FP32"}[array.dtype.kind]
    tensor = triton.InferInput(name, array.shape, kind)
    tensor.set_data_from_numpy(array)
    return tensor


def infer(official, task: str, name: str, array: np.ndarray, output: str, **parameters):
    answer = official.infer(f"{STAGED}.{task}", [given(name, array)], parameters=parameters or None)
    return answer.as_numpy(output)


def ours(staged, route: str, array: np.ndarray, **params) -> np.ndarray:
    """What our own endpoint makes of it."""
    file = io.BytesIO()
    np.save(file, array)
    headers = {"content-type": "application/x-npy", "accept": "application/x-npy"}
    params = {"model": STAGED} | params
    answer = staged.post(route, content=file.getvalue(), headers=headers, params=params)
    assert answer.status_code == 200, answer.text
    return np.load(io.BytesIO(answer.content))


def test_each_further_decoder_is_two_models(official):
    """They are listed, ready, and take and give what the decoder does."""
    names = {entry["name"] for entry in official.get_model_repository_index()}
    assert {f"{STAGED}.decode.texture", f"{STAGED}.decoder.texture"} <= names
    for task in ("decode", "decoder"):
        assert official.is_model_ready(f"{STAGED}.{task}.texture")
        assert official.is_model_ready(f"{STAGED}.{task}.default")
        for field in ("inputs", "outputs"):
            facts = official.get_model_metadata(f"{STAGED}.{task}.texture")
            assert facts[field] == official.get_model_metadata(f"{STAGED}.{task}")[field]
    codes = {"name": "codes", "datatype": "INT64", "shape": [-1, -1, -1, -1]}
    assert official.get_model_metadata(f"{STAGED}.decode.texture")["inputs"] == [codes]
    assert official.get_model_metadata(f"{STAGED}.encode")["outputs"][0] == codes
    assert official.get_model_config(f"{STAGED}.decode")["input"][0]["dims"] == [-1, -1, -1]


def test_an_unknown_decoder_lists_those_there_are(official, pixels):
    """404, by the name of our own error."""
    with pytest.raises(InferenceServerException, match=r"decoder_not_found.*default, texture"):
        infer(official, "decode.sharp", "codes", np.zeros((1, 2, 1, 1), np.int64), "pixels")


def test_encoding_gives_the_stages_that_are_asked_for(staged, official, pixels):
    """An axis of stages in any case, so that the metadata is right."""
    both = infer(official, "encode", "pixels", pixels, "codes")
    assert both.shape == (2, 2, 2, 3)
    assert np.array_equal(both, ours(staged, "/v1/encode", pixels))
    first = infer(official, "encode", "pixels", pixels, "codes", stages=1)
    assert np.array_equal(first, both[:, :1])
    for wrong in (3, 0, "1"):
        with pytest.raises(InferenceServerException, match="stages"):
            infer(official, "encode", "pixels", pixels, "codes", stages=wrong)


@pytest.mark.parametrize("task", ["decode", "decoder"])
@pytest.mark.parametrize("decoder", ["default", "texture"])
def test_every_decoder_decodes_every_prefix(staged, official, pixels, task, decoder):
    """As our own endpoint does; codes without the axis are of the first stage."""
    codes = infer(official, "encode", "pixels", pixels, "codes")
    name = task if decoder == "default" else f"{task}.{decoder}"
    for part in (codes, codes[:, :1], codes[:, 0]):
        expected = ours(staged, "/v1/decode", part, decoder=decoder)
        assert np.array_equal(infer(official, name, "codes", part, "pixels"), expected)
    cut = infer(official, name, "codes", codes, "pixels", stages=1)
    assert np.array_equal(cut, infer(official, name, "codes", codes[:, 0], "pixels"))


def test_the_graphs_by_themselves_make_up_the_whole(official, pixels):
    """Encoder and quantizer give both stages; the embedder takes the first."""
    latents = infer(official, "encoder", "pixels", pixels, "latents")
    codes = infer(official, "quantizer", "latents", latents, "codes")
    assert np.array_equal(codes, infer(official, "encode", "pixels", pixels, "codes"))
    vectors = infer(official, "embed", "pixels", pixels, "embedding")
    for task, part in (("embedder", codes[:, 0]), ("embed", codes), ("embed", codes[:, 0])):
        assert np.array_equal(infer(official, task, "codes", part, "embedding"), vectors)


def test_codes_that_a_stage_doesn_t_have_are_refused(official):
    """Each stage by its own codebook, and no more stages than there are."""
    for shape, value in (((1, 2, 1, 1), 16), ((1, 1, 1, 1), 256), ((1, 3, 1, 1), 0)):
        with pytest.raises(InferenceServerException, match="codes_invalid"):
            infer(official, "decode", "codes", np.full(shape, value), "pixels")


def test_codes_that_are_no_numbers_are_refused_as_they_are(official):
    """Elements of very different lengths are never made one array, which would fill the memory."""
    elements = np.array([b"x" * 2**20, *[b"y"] * 63], object)
    tensor = triton.InferInput("codes", elements.shape, "BYTES")
    tensor.set_data_from_numpy(elements)
    tracemalloc.start()
    with pytest.raises(InferenceServerException, match="malformed_request: codes must be INT"):
        official.infer(f"{STAGED}.decode", [tensor])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 32 * 2**20
