"""Embedders: pooling of any grid size, statistics of codes, and the way into ONNX."""

import numpy as np
import pytest
import torch

from training.embedding.embedder import (
    Embedder,
    Whitening,
    apply_to_grids,
    fit_embedder,
    fit_projection,
)
from training.embedding.grid_features import (
    PooledVectors,
)
from training.onnx_export.any_size import encode_images
from training.onnx_export.codec import CheckpointCodec
from training.onnx_export.graphs import export_graph, graph_signatures, run, session_of
from training.tokenizer.model import Tokenizer

SIZES = [(1, 1), (1, 2), (3, 1), (2, 3), (4, 4), (5, 7), (16, 11)]


@pytest.fixture(scope="module")
def model(tiny):
    torch.manual_seed(0)
    return Tokenizer(tiny).eval().requires_grad_(requires_grad=False)


@pytest.fixture(scope="module")
def grids(model, images):
    return encode_images(CheckpointCodec(model), images)


@pytest.fixture(scope="module")
def embedder(model, images):
    return fit_embedder(model, images)


def codes_of(rows, columns, count=2, size=256, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, size, (count, rows, columns), generator=generator)


def test_embeddings_have_unit_length_for_every_grid_size(embedder):
    """From a single code on; the vector's length is 1 and its size the same."""
    for rows, columns in SIZES:
        embedding = embedder(codes_of(rows, columns))
        assert embedding.shape == (2, embedder.size)
        torch.testing.assert_close(embedding.norm(dim=1), torch.ones(2))


def test_the_embedding_is_at_most_512_wide(model, embedder):
    """A vector store should not have to hold more than 2 KiB an image."""
    assert embedder.size <= 512
    assert embedder.size == graph_signatures(model, embedder.size)["embedder"].output.axes[1]


def test_batched_equals_single(embedder):
    """An embedding does not depend on who else was in the batch."""
    codes = codes_of(6, 5, count=4)
    together = embedder(codes)
    for index in range(4):
        alone = embedder(codes[index : index + 1])[0]
        torch.testing.assert_close(together[index], alone, atol=1e-5, rtol=0)


def test_fitting_twice_gives_the_same_embedder(model, images, embedder):
    """Everything random in the fit is seeded."""
    again = fit_embedder(model, images)
    codes = codes_of(8, 8)
    torch.testing.assert_close(again(codes), embedder(codes))


def test_onnx_equals_torch_on_every_grid_size(model, embedder):
    """All axes are dynamic, and the vectors agree within rounding."""
    shape = graph_signatures(model, embedder.size)["embedder"]
    session = session_of(export_graph(embedder, shape, model.config.network.stride), threads=1)
    for count, (rows, columns) in enumerate(SIZES, 1):
        codes = codes_of(rows, columns, count)
        made = run(session, codes.numpy())
        np.testing.assert_allclose(made, embedder(codes).numpy(), rtol=0, atol=1e-5)


def test_full_whitening_makes_components_equally_strong(grids):
    """On the grids it was fitted to, before scaling to unit length."""
    description = PooledVectors(torch.randn(256, 6), (1,))
    embedder = fit_projection(description, grids, Whitening(3, 1.0))
    projected = apply_to_grids(embedder.project, grids)
    torch.testing.assert_close(projected.mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    strengths = projected.square().mean(0)
    # A little below 1, because components of almost no variance are not blown up to noise.
    assert strengths.min() > 0.7
    assert strengths.max() < 1.001


@pytest.mark.parametrize("power", [0.0, 0.4])
def test_the_first_numbers_are_the_strongest(model, grids, power):
    """So the first of them are a shorter vector that says the most (`embedding_sizes`)."""
    shares = torch.eye(model.config.quantizer.size)
    embedder = fit_projection(PooledVectors(shares), grids, Whitening(6, power))
    strengths = apply_to_grids(embedder.project, grids).square().mean(0)
    assert (strengths.diff() <= 1e-6 * strengths[0]).all()


def test_no_photographs_is_an_error(model):
    """There are no statistics of nothing."""
    with pytest.raises(ValueError, match="no photographs"):
        fit_embedder(model, [])


def test_an_embedder_is_an_affine_map_of_its_description():
    """Weight and bias go in as given."""
    description = PooledVectors(torch.eye(3), (1,))
    embedder = Embedder(description, torch.tensor([[0.0, 2.0, 0.0], [0.0, 0.0, 0.0]]),
                        torch.tensor([0.0, 2.0]))  # fmt: skip
    made = embedder(torch.ones(1, 2, 2, dtype=torch.int64)).detach()
    torch.testing.assert_close(made, torch.tensor([[0.5, 0.5]]).sqrt())
