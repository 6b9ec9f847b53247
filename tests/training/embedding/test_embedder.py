"""Embedders: pooling of any grid size, statistics of codes, and the way into ONNX."""

import numpy as np
import pytest
import torch

from training.data.dataset import find_images, read_image
from training.embedding.cooccurrence import (
    context_vectors,
)
from training.embedding.embedder import (
    Embedder,
    Whitening,
    apply_to_grids,
    fit_embedder,
    fit_projection,
)
from training.embedding.grid_features import (
    BagOfCodes,
    DecoderFeatures,
    NeighbourCovariances,
    PooledVectors,
    patch_words,
    pool,
)
from training.onnx_export.codec import CheckpointCodec, encode_images
from training.onnx_export.graphs import export_graph, graph_shapes, run, session_of
from training.tokenizer.model import Tokenizer

SIZES = [(1, 1), (1, 2), (3, 1), (2, 3), (4, 4), (5, 7), (16, 11)]


@pytest.fixture(scope="module")
def model(tiny):
    torch.manual_seed(0)
    return Tokenizer(tiny).eval().requires_grad_(requires_grad=False)


@pytest.fixture(scope="module")
def images(photos):
    return [read_image(path) for path in find_images([photos]).paths]


@pytest.fixture(scope="module")
def grids(model, images):
    return encode_images(CheckpointCodec(model), images)


@pytest.fixture(scope="module")
def embedder(model, images):
    return fit_embedder(model, images)


def codes_of(rows, columns, count=2, size=256, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, size, (count, rows, columns), generator=generator)


def reference_pool(features, cells):
    """Averages each part from a 60-fold enlarged copy, on which every border is whole."""
    height = features.shape[2]
    large = features.repeat_interleave(60, dim=2).repeat_interleave(60, dim=3)
    return large.reshape(*features.shape[:2], cells, 60 * height // cells, cells, -1).mean((3, 5))


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("cells", [1, 2, 4])
def test_pooling_equals_an_average_over_an_enlarged_copy(height, width, cells):
    """A position that two parts share counts in each with the fraction that lies in it."""
    features = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(pool(features, cells), reference_pool(features, cells))


def test_pooling_keeps_the_mean():
    """The mean over the parts is the mean over the positions."""
    features = torch.randn(2, 3, 5, 9)
    torch.testing.assert_close(pool(features, 4).mean((2, 3)), features.mean((2, 3)))


def test_a_bag_of_codes_is_the_square_root_of_shares():
    """Four codes, one of them twice: √½, √¼, √¼, whatever their places."""
    bag = BagOfCodes(torch.ones(5))(torch.tensor([[[3, 0], [4, 3]]]))
    torch.testing.assert_close(bag, torch.tensor([[0.25, 0, 0, 0.5, 0.25]]).sqrt())


def test_deviation_of_a_single_code_is_zero():
    """Rounding never makes a negative variance, nor a NaN of its root."""
    description = PooledVectors(torch.randn(4, 3), means=(), deviations=(1, 2))
    deviations = description(torch.full((1, 7, 5), 2))
    assert torch.isfinite(deviations).all()
    assert deviations.abs().max() < 1e-2


def test_codes_of_like_surroundings_have_like_vectors():
    """Codes 0 and 1 both live among code 2, codes 3 and 4 among code 5: like goes with like."""
    random = np.random.default_rng(0)
    grids = [
        np.where(random.random((12, 12)) < 0.3, one, common).astype(np.int64)
        for one, common in [(0, 2), (1, 2), (3, 5), (4, 5)] * 3
    ]
    vectors = context_vectors(grids, size=6, width=2)
    likeness = vectors @ vectors.T
    print(likeness)
    assert likeness[0, 1] > 0.9
    assert likeness[3, 4] > 0.9
    assert likeness[:2, 3:5].abs().max() < 0.1


def test_context_vectors_of_many_codes_are_those_of_few(monkeypatch):
    """Counted in blocks of rows and factorised as a sparse matrix, or at once: the same."""
    random = np.random.default_rng(0)
    likely = random.dirichlet(np.full(40, 0.3), size=6)
    grids = [random.choice(40, (7, 9), p=likely[i % 6]) for i in range(60)]
    whole = context_vectors(grids, size=40, width=6)
    monkeypatch.setattr(
        "training.embedding.cooccurrence._BLOCK", 3 * 40
    )  # 13 blocks of 3 rows and one of 1
    blocks = context_vectors(grids, size=40, width=6)
    torch.testing.assert_close(blocks @ blocks.T, whole @ whole.T, rtol=1e-4, atol=1e-4)


def test_context_vectors_count_every_pair_once_in_either_direction():
    """On a row of two codes each has the other as its whole surroundings."""
    vectors = context_vectors([np.array([[0, 1]])], size=3, width=2)
    assert vectors[2].abs().max() < 1e-5  # never occurs
    torch.testing.assert_close(vectors[:2].norm(dim=1), torch.ones(2))


def test_embeddings_have_unit_length_for_every_grid_size(embedder):
    """From a single code on; the vector's length is 1 and its size the same."""
    for rows, columns in SIZES:
        embedding = embedder(codes_of(rows, columns))
        assert embedding.shape == (2, embedder.size)
        torch.testing.assert_close(embedding.norm(dim=1), torch.ones(2))


def test_the_embedding_is_at_most_512_wide(model, embedder):
    """A vector store should not have to hold more than 2 KiB an image."""
    assert embedder.size <= 512
    assert embedder.size == graph_shapes(model, embedder.size)["embedder"].output.axes[1]


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
    shape = graph_shapes(model, embedder.size)["embedder"]
    session = session_of(export_graph(embedder, shape, model.config.network.stride), threads=1)
    for count, (rows, columns) in enumerate(SIZES, 1):
        codes = codes_of(rows, columns, count)
        made = run(session, codes.numpy())
        np.testing.assert_allclose(made, embedder(codes).numpy(), rtol=0, atol=1e-5)


def test_every_candidate_embeds_every_grid_size(model, grids):
    """What the embedder was chosen among stays usable, down to a single code."""
    codebook = model.quantizer.normalized_codebook()
    candidates = [
        BagOfCodes(torch.ones(len(codebook))),
        PooledVectors(codebook, (1,), (1, 4)),
        NeighbourCovariances(codebook),
        DecoderFeatures(model, 4),
        patch_words(codebook, grids, 32),
    ]
    for description in candidates:
        embedder = fit_projection(description, grids, Whitening(4, 0.5))
        for rows, columns in SIZES:
            made = embedder(codes_of(rows, columns))
            torch.testing.assert_close(made.norm(dim=1), torch.ones(2))


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
