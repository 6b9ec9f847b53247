"""The embedders that were compared: each takes any grid of codes."""

import pytest
import torch

from training.embedding.embedder import (
    Whitening,
    fit_projection,
)
from training.embedding.grid_features import (
    PooledVectors,
)
from training.experiments.embedder_candidates import (
    BagOfCodes,
    DecoderFeatures,
    NeighbourCovariances,
    patch_words,
)
from training.onnx_export.any_size import encode_images
from training.onnx_export.codec import CheckpointCodec
from training.tokenizer.model import Tokenizer


@pytest.fixture(scope="module")
def model(tiny):
    """A tokenizer of random weights."""
    torch.manual_seed(0)
    return Tokenizer(tiny).eval().requires_grad_(requires_grad=False)


@pytest.fixture(scope="module")
def grids(model, images):
    """Codes of the photographs."""
    return encode_images(CheckpointCodec(model), images)


def test_a_bag_of_codes_is_the_square_root_of_shares():
    """Four codes, one of them twice: √½, √¼, √¼, whatever their places."""
    bag = BagOfCodes(torch.ones(5))(torch.tensor([[[3, 0], [4, 3]]]))
    torch.testing.assert_close(bag, torch.tensor([[0.25, 0, 0, 0.5, 0.25]]).sqrt())


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
        for rows, columns in [(1, 1), (1, 2), (3, 1), (2, 3), (4, 4), (5, 7), (16, 11)]:
            made = embedder(torch.randint(0, len(codebook), (2, rows, columns)))
            torch.testing.assert_close(made.norm(dim=1), torch.ones(2))
