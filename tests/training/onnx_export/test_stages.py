"""Several stages of codes, and several decoders for them: graphs, codec and bundle."""

import numpy as np
import pytest
import torch

from bundle import open_bundle
from training.onnx_export.any_size import encode_first_stage, encode_images
from training.onnx_export.codec import BundleCodec
from training.onnx_export.graphs import (
    DecoderGraph,
    export_graph,
    graph_signatures,
    run,
    session_of,
)
from training.onnx_export.proof import mean_psnr
from training.tokenizer.config_file import override
from training.tokenizer.model import Tokenizer


@pytest.fixture(scope="module")
def bundle(staged_bundle):
    """Two stages, two decoders."""
    return open_bundle(staged_bundle)


@pytest.fixture(scope="module")
def codec(bundle):
    """Its graphs, run by ONNX Runtime."""
    return BundleCodec(bundle, threads=1)


@pytest.fixture(scope="module")
def pictures(images):
    """Parts of photographs, uint8 `[n, 96, 96, 3]`."""
    return np.stack([image[:96, :96] for image in images])


@pytest.fixture(scope="module")
def random_model(tiny):
    """Three stages of random weights, of which every one changes the picture."""
    torch.manual_seed(0)
    config = override(tiny, ["quantizer.residual_sizes=[16, 8]"])
    model = Tokenizer(config).eval().requires_grad_(requires_grad=False)
    for weight in model.decoder.parameters():
        weight.normal_(std=0.1)
    for stage in model.quantizer.stages[1:]:
        stage.codebook.normal_()
    return model


def test_the_quantizer_gives_the_networks_codes_of_all_stages(random_model):
    """At any grid size; the number of stages is fixed."""
    signature = graph_signatures(random_model, 8)["quantizer"]
    session = session_of(export_graph(random_model.quantizer.assignment(), signature, 8))
    assert session.get_outputs()[0].shape == ["n", 3, "h/8", "w/8"]
    for shape in ((1, 4, 1, 1), (3, 4, 5, 6)):
        latents = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        wanted = random_model.quantizer(latents).codes.numpy()
        assert (run(session, latents.numpy()) == wanted).mean() > 0.99


def test_a_decoder_takes_every_prefix_of_the_stages(random_model):
    """One graph for one, two and three stages, each as the network decodes it."""
    signature = graph_signatures(random_model, 8)["decoder"]
    session = session_of(export_graph(DecoderGraph(random_model), signature, 8))
    random = np.random.default_rng(0)
    codes = np.stack([random.integers(0, k, (2, 3, 5)) for k in (256, 16, 8)], axis=1)
    pictures = []
    for stages in (1, 2, 3):
        prefix = np.ascontiguousarray(codes[:, :stages])
        made = run(session, prefix)
        wanted = random_model.decode(torch.from_numpy(prefix)).numpy()
        assert np.abs(made.astype(int) - wanted).max() <= 1
        pictures.append(made)
    assert not np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[1], pictures[2])


def test_the_manifest_says_what_the_graphs_take_and_give(bundle):
    """Names, axes and types of all graphs in all precisions, decoders of other names too."""
    manifest = bundle.manifest
    assert manifest.format_version == 2
    assert manifest.codebook_sizes == (256, 16)
    assert set(manifest.decoders) == {"texture"}
    for name, graph in manifest.graphs.items():
        for precision in graph.files:
            content, weights = bundle.read_graph(name, precision), bundle.read_weights(name)
            session = session_of(content, 1, weights)
            real = [*session.get_inputs(), *session.get_outputs()]
            for port, found in zip([*graph.inputs, *graph.outputs], real, strict=True):
                assert (port.name, list(port.axes)) == (found.name, found.shape)


def test_a_further_stage_makes_the_picture_better(codec, pictures):
    """By PSNR, for both decoders; the codes of a stage stay within its codebook."""
    codes = codec.encode(pictures)
    assert codes.shape == (len(pictures), 2, 12, 12)
    assert codes[:, 0].max() < 256
    assert codes[:, 1].max() < 16
    for decoder in (None, "texture"):
        one, two = (codec.decode(codes[:, :n], decoder) for n in (1, 2))
        assert mean_psnr([two], [pictures]) > mean_psnr([one], [pictures]) + 0.02


def test_decoders_differ_on_the_same_codes(codec, pictures):
    """The further one is no copy of the main one."""
    codes = codec.encode(pictures[:1])
    assert not np.array_equal(codec.decode(codes), codec.decode(codes, "texture"))


def test_vectors_are_of_the_first_stage(codec, pictures):
    """Whatever the further stages hold, or whether they are there."""
    codes = codec.encode(pictures[:2])
    other = codes.copy()
    other[:, 1] = 0
    vectors = codec.embed(codes)
    np.testing.assert_array_equal(codec.embed(other), vectors)
    np.testing.assert_array_equal(codec.embed(codes[:, 0]), vectors)


def test_the_first_stage_of_images_of_any_size(codec, images):
    """What embedders and recognizers learn from has no axis of stages."""
    parts = [images[0][:40, :60], images[1][:17, :8]]
    grids = encode_images(codec, parts)
    assert [grid.shape for grid in grids] == [(2, 5, 8), (2, 3, 1)]
    for whole, first in zip(grids, encode_first_stage(codec, parts), strict=True):
        np.testing.assert_array_equal(first, whole[0])


def test_one_image_there_and_back(codec, images):
    """Of its own size, from all stages and from the first alone."""
    image = images[0][:41, :59]
    codes = codec.encode_image(image)
    assert codec.decode_image(codes, 41, 59).shape == image.shape
    assert codec.decode_image(codes[0], 41, 59, "texture").shape == image.shape
