"""Graphs of a model of two stages and two decoders: tiled, in parts and batched as ever."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from app.errors import PriorNotFound
from app.runtime.device import Device
from app.runtime.engine import Graphs
from app.runtime.model import load_model
from app.runtime.operations import Operation
from app.runtime.sessions import GraphRefused
from app.runtime.warm_up import warm_up
from bundle import open_bundle, write_bundle

CPU = Device("cpu", 0, 2)
DECODERS = ("decoder", "decoder-texture")


@pytest.fixture(scope="module")
def bundle(staged_bundle):
    return open_bundle(staged_bundle)


@pytest.fixture(scope="module", params=["fp32", "int8"])
def graphs(request, bundle):
    return Graphs(bundle, CPU, request.param)


@pytest.fixture(scope="module")
def model(staged_bundle):
    return load_model(staged_bundle, CPU, "fp32", 2**22, concurrent=False)


def noise(n, height, width):
    return np.random.default_rng(0).integers(0, 256, (n, height, width, 3), dtype=np.uint8)


def test_many_latents_get_the_codes_they_get_in_one_run(graphs):
    """The quantizer sees them in parts, which are put together along the rows."""
    latents = np.random.default_rng(0).normal(size=(3, 4, 40, 24)).astype(np.float32)
    (codes,) = graphs._sessions["quantizer"].run(None, {"latents": latents})
    assert codes.shape == (3, 2, 40, 24)
    assert np.array_equal(graphs.quantize(latents), codes)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("stages", [1, 2])
def test_tiles_give_what_the_whole_image_gives(bundle, graphs, decoder, stages):
    """Codes of both stages, and pictures of either decoder from any of them, to the last bit."""
    pixels = noise(1, 264, 328)
    tiled = Graphs(bundle, CPU, graphs.precision, tile_pixels=2**14)
    codes = graphs.encode(pixels)
    assert np.array_equal(tiled.encode(pixels), codes)
    part = codes[:, :stages]
    assert np.array_equal(tiled.decode(part, decoder), graphs.decode(part, decoder))


def test_a_batch_gives_what_its_items_give_alone(graphs):
    """Bit for bit: codes, pictures of both decoders, vectors."""
    pixels = noise(3, 24, 40)
    codes = graphs.encode(pixels)
    for index in range(3):
        alone = graphs.encode(pixels[index : index + 1])
        assert np.array_equal(alone[0], codes[index])
        assert np.array_equal(graphs.embed(alone)[0], graphs.embed(codes)[index])
        for decoder in DECODERS:
            together = graphs.decode(codes, decoder)[index]
            assert np.array_equal(graphs.decode(alone, decoder)[0], together)


def test_one_stage_needs_no_axis(graphs):
    """`[n, rows, columns]` decodes as the first stage, and embeds the same."""
    codes = graphs.encode(noise(2, 16, 24))
    assert np.array_equal(graphs.decode(codes[:, 0]), graphs.decode(codes[:, :1]))
    assert np.array_equal(graphs.embed(codes[:, 0]), graphs.embed(codes))


def test_what_stays_on_a_device_gives_the_same_codes(bundle):
    """Encoder and quantizer bound to each other, as on a GPU, with stages as the last axis."""
    graphs = Graphs(bundle, CPU, "fp32")
    pixels = noise(2, 24, 40)
    chained = graphs._encode_on_device(pixels, None)
    assert np.array_equal(np.moveaxis(chained, -1, 1), graphs.encode(pixels))


def test_pictures_to_pictures_pass_through_so_many_stages(model):
    """None are all of them."""
    pixels = noise(1, 16, 24)
    codes = model.graphs.encode(pixels)
    for decoder in DECODERS:
        for stages, part in ((1, codes[:, :1]), (2, codes), (None, codes)):
            (made,) = model.run(Operation("pixels", "pixels", decoder, stages), list(pixels))
            assert np.array_equal(made, model.graphs.decode(part, decoder)[0])


@pytest.mark.parametrize("sizes", [(15,), (16, 4)])
def test_codes_other_than_the_manifest_says_are_refused_at_the_start(bundle, tmp_path, sizes):
    """Warming up finds a code that a stage shouldn't have, and a stage that isn't there."""
    manifest = dataclasses.replace(bundle.manifest, residual_sizes=sizes)
    files = {name: bundle.read(name) for name in manifest.files}
    if len(sizes) == 2:
        files["codebook-3.npy"] = files["codebook-2.npy"]
    write_bundle(tmp_path / "b", manifest, files)
    graphs = Graphs(open_bundle(tmp_path / "b"), CPU, "fp32")
    with pytest.raises(GraphRefused, match=r"codes"):
        warm_up(graphs)


def test_a_decoder_that_gives_something_else_is_refused_at_the_start(bundle, tmp_path):
    """Each further decoder runs once before it is served."""
    graphs = Graphs(bundle, CPU, "fp32")
    graphs._sessions["decoder-texture"] = graphs._sessions["embedder"]
    with pytest.raises(GraphRefused, match=r"don't run|images of decoder-texture"):
        warm_up(graphs)


def test_a_prior_of_fewer_stages_is_for_fewer_stages(model):
    """It codes the first alone; of both it says why not."""
    prior = SimpleNamespace(digest="ab" * 32, codes=[np.arange(256)[None]])
    covered = dataclasses.replace(model, prior=prior)
    assert covered.prior_of(stages=1) is prior
    with pytest.raises(PriorNotFound, match="1 of the 2 stages"):
        covered.prior_of(stages=2)
