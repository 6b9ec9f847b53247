"""Facts about batches that are mixed of photographs and drawn pictures."""

import numpy as np
import pytest

from training.data.crops import Crops
from training.data.dataset import find_images
from training.data.mixture import Mixture

SETTINGS = {"crop": 32, "flip": True, "seed": 3, "cache_gib": 1.0}


def drawn(step, index):
    """A crop that can be told from photographs: one colour, of its place in the batch."""
    return np.full((32, 32, 3), (step * 7 + index) % 256, np.uint8)


def is_drawn(batch):
    """Which crops of a batch have one colour: bool `[n]`."""
    return (batch == batch[:, :1, :1, :1]).all(axis=(1, 2, 3))


@pytest.fixture(scope="module")
def folder(photos):
    """The photographs of the tests."""
    return find_images([photos])


def test_without_shares_it_is_the_crops(folder):
    """No drawn crops and no other colours: the batches of plain crops, bit for bit."""
    plain, mixed = Crops(folder, **SETTINGS), Mixture(folder, **SETTINGS)
    assert np.array_equal(plain.batch(4, 8), mixed.batch(4, 8))


def test_share_of_drawn_crops(folder):
    """A quarter of the crops are drawn, by step and index; the others are the plain ones."""
    mixed = Mixture(folder, **SETTINGS, synthetic=0.25, draw=drawn)
    plain = Crops(folder, **SETTINGS)
    found = []
    for step in range(25):
        batch, wanted = mixed.batch(step, 16), plain.batch(step, 16)
        which = is_drawn(batch)
        assert np.array_equal(batch[~which], wanted[~which])
        assert all(batch[i, 0, 0, 0] == (step * 7 + i) % 256 for i in np.flatnonzero(which))
        found.append(which.mean())
    assert np.mean(found) == pytest.approx(0.25, abs=0.05)


def test_share_of_other_colours(folder):
    """A third of the photographs' crops are shown in other colours."""
    mixed = Mixture(folder, **SETTINGS, colour_jitter=1 / 3)
    plain = Crops(folder, **SETTINGS)
    changed = [
        (mixed.batch(step, 16) != plain.batch(step, 16)).any(axis=(1, 2, 3)).mean()
        for step in range(25)
    ]
    assert np.mean(changed) == pytest.approx(1 / 3, abs=0.06)


def test_same_seed_same_batches(folder):
    """A batch depends on seed and step alone, and the parts make the whole."""
    shares = {"synthetic": 0.3, "colour_jitter": 0.5, "draw": drawn}
    one, other = (Mixture(folder, **SETTINGS, **shares) for _ in range(2))
    other.batch(0, 8)
    assert np.array_equal(one.batch(5, 8), other.batch(5, 8))
    parts = [one.batch(5, 8, part, 2) for part in (0, 1)]
    assert np.array_equal(np.concatenate(parts), one.batch(5, 8))
    third = Mixture(folder, **{**SETTINGS, "seed": 4}, **shares)
    assert not np.array_equal(is_drawn(third.batch(5, 64)), is_drawn(one.batch(5, 64)))


def test_drawn_crops_need_something_that_draws(folder):
    """Instead of batches that silently have none."""
    with pytest.raises(ValueError, match="something that draws them"):
        Mixture(folder, **SETTINGS, synthetic=0.1)
