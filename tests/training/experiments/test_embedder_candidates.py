"""TODO."""

import torch

from training.embedding.embedder import (
    Whitening,
    fit_projection,
)
from training.embedding.grid_features import (
    BagOfCodes,
    DecoderFeatures,
    NeighbourCovariances,
    PooledVectors,
    patch_words,
)


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
        for rows, columns in SIZES:
            made = embedder(codes_of(rows, columns))
            torch.testing.assert_close(made.norm(dim=1), torch.ones(2))
