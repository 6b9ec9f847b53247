"""Contrastive learning on codes: edits of one photograph come to embed alike."""

import numpy as np
import pytest
import torch

from training.embedding.contrastive import (
    FeatureNetwork,
    PooledFeatures,
    Recipe,
    _with_folded_normalization,
    info_nce,
    learn_features,
)
from training.embedding.embedder import apply_to_grids
from training.embedding.learnt_embedder import prepare_for_export

SMALL = Recipe(steps=80, batch=24, width=24, blocks=1, features=16, bf16=False)
SIZES = [(1, 1), (1, 2), (3, 1), (5, 7), (16, 11)]


@pytest.fixture(scope="module")
def toy():
    """24 "photographs": each has five codes of its own, mixed with noise, in 6 copies."""
    random = np.random.default_rng(0)
    own = random.permutation(120).reshape(24, 1, 5)
    picked = np.take_along_axis(
        np.broadcast_to(own, (24, 6, 5)), random.integers(5, size=(24, 6, 64)), axis=2
    )
    noise = random.integers(120, size=picked.shape)
    noisy = np.where(random.random(picked.shape) < 0.25, noise, picked)
    return noisy.reshape(24, 6, 8, 8).astype(np.uint16)


@pytest.fixture(scope="module")
def table():
    return torch.randn(120, 12, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def learnt(toy, table):
    """Learnt from the first five copies; the sixth is for the test."""
    return learn_features(table, toy[:, :5], SMALL)


def alike(description, toy):
    """Share of unseen copies whose nearest other grid is a copy of the same photograph."""
    grids = [grid.astype(np.int64) for grid in toy.reshape(-1, 8, 8)]
    rows = apply_to_grids(description, grids)
    unit = torch.nn.functional.normalize(rows - rows.mean(0), dim=1).reshape(24, 6, -1)
    nearest = (unit[:, 5] @ unit[:, :5].flatten(0, 1).T).argmax(dim=1) // 5
    return float((nearest == torch.arange(24)).float().mean())


def test_copies_embed_closer_than_other_pictures(toy, table, learnt):
    """Learning finds more unseen copies than the network it began with, and most of them."""
    torch.manual_seed(SMALL.seed)
    before = alike(PooledFeatures(FeatureNetwork(table, SMALL).eval()), toy)
    after = alike(PooledFeatures(learnt), toy)
    print(before, after)
    assert after > before + 0.2
    assert after > 0.7


def test_the_same_seed_gives_the_same_weights(toy, table, learnt):
    """Every random choice comes from the seed."""
    again = learn_features(table, toy[:, :5], SMALL)
    for name, value in again.state_dict().items():
        torch.testing.assert_close(value, learnt.state_dict()[name], rtol=0, atol=0)


def test_another_seed_gives_other_weights(toy, table, learnt):
    """The seed is not ignored."""
    recipe = Recipe(**{**SMALL.__dict__, "seed": 1, "steps": 2})
    assert not torch.equal(learn_features(table, toy, recipe).table, learnt.table)


def test_folding_the_normalisation_changes_nothing(table):
    """What is exported computes what was trained, with running means that are not trivial."""
    torch.manual_seed(0)
    network = FeatureNetwork(table, SMALL).train()
    codes = torch.randint(0, 120, (8, 6, 6))
    for _ in range(3):
        network(codes)
    torch.testing.assert_close(_with_folded_normalization(network)(codes), network.eval()(codes))


def test_unit_length_for_every_grid_size(toy, learnt):
    """From a single code on."""
    embedder = prepare_for_export(learnt, [grid.astype(np.int64) for grid in toy[:, 0]])
    for rows, columns in SIZES:
        made = embedder(torch.zeros(2, rows, columns, dtype=torch.int64))
        assert made.shape == (2, embedder.size)
        torch.testing.assert_close(made.norm(dim=1), torch.ones(2))


def test_the_loss_of_perfect_pairs_is_near_zero():
    """Halves that are alike and unlike all others are all found."""
    loss, found = info_nce(torch.eye(4).repeat(2, 1), 0.05)
    assert found == 1
    assert loss < 1e-6


def test_the_loss_of_swapped_pairs_is_high():
    """Rows i and n + i belong together, and no others."""
    loss, found = info_nce(torch.cat([torch.eye(4), torch.eye(4).roll(1, 0)]), 0.05)
    assert found == 0
    assert loss > 10


def test_one_photograph_is_not_enough(table):
    """There is nothing to tell it from."""
    with pytest.raises(ValueError, match="two photographs"):
        learn_features(table, np.zeros((1, 4, 8, 8), np.uint16), SMALL)
