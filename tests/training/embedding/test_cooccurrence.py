"""Co-occurrence vectors: what they say, and that counting in blocks changes nothing."""

import numpy as np
import torch

from training.embedding.cooccurrence import (
    cooccurrence_vectors,
)


def test_codes_of_like_surroundings_have_like_vectors():
    """Codes 0 and 1 both live among code 2, codes 3 and 4 among code 5: like goes with like."""
    random = np.random.default_rng(0)
    grids = [
        np.where(random.random((12, 12)) < 0.3, one, common).astype(np.int64)
        for one, common in [(0, 2), (1, 2), (3, 5), (4, 5)] * 3
    ]
    vectors = cooccurrence_vectors(grids, size=6, width=2)
    likeness = vectors @ vectors.T
    print(likeness)
    assert likeness[0, 1] > 0.9
    assert likeness[3, 4] > 0.9
    assert likeness[:2, 3:5].abs().max() < 0.1


def test_cooccurrence_vectors_of_many_codes_are_those_of_few(monkeypatch):
    """Counted in blocks of rows and factorised as a sparse matrix, or at once: the same."""
    random = np.random.default_rng(0)
    likely = random.dirichlet(np.full(40, 0.3), size=6)
    grids = [random.choice(40, (7, 9), p=likely[i % 6]) for i in range(60)]
    whole = cooccurrence_vectors(grids, size=40, width=6)
    monkeypatch.setattr(
        "training.embedding.cooccurrence._BLOCK", 3 * 40
    )  # 13 blocks of 3 rows and one of 1
    blocks = cooccurrence_vectors(grids, size=40, width=6)
    torch.testing.assert_close(blocks @ blocks.T, whole @ whole.T, rtol=1e-4, atol=1e-4)


def test_codes_that_never_occur_are_left_out_where_there_are_very_many():
    """131,072 codes, of which six occur: the same vectors as of six codes, at their places."""
    random = np.random.default_rng(0)
    few = [random.integers(0, 6, (5, 7)) for _ in range(8)]
    places = np.array([3, 500, 70_000, 70_001, 99_999, 131_071])
    vectors = cooccurrence_vectors([places[grid] for grid in few], size=1 << 17, width=64)
    assert vectors.shape == (1 << 17, 64)
    assert torch.equal(vectors[places][:, :6], cooccurrence_vectors(few, size=6, width=64))
    assert vectors.count_nonzero() == vectors[places].count_nonzero()


def test_cooccurrence_vectors_count_every_pair_once_in_either_direction():
    """On a row of two codes each has the other as its whole surroundings."""
    vectors = cooccurrence_vectors([np.array([[0, 1]])], size=3, width=2)
    assert vectors[2].abs().max() < 1e-5  # never occurs
    torch.testing.assert_close(vectors[:2].norm(dim=1), torch.ones(2))
