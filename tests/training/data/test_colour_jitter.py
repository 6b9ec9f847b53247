"""Colour jitter for photographs."""

import numpy as np
import pytest

from training.data.colour_jitter import STRONG_SHARE, jittered


@pytest.fixture(scope="module")
def picture():
    """A smooth picture of muted colours."""
    y, x = np.mgrid[:48, :64]
    return np.stack([80 + x, 90 + y, 150 - x // 2], axis=-1).astype(np.uint8)


def test_depends_on_picture_and_numbers_alone(picture):
    """The same numbers give the same colours, others give others; the picture stays as it was."""
    before = picture.copy()
    one = jittered(picture, np.random.default_rng(5))
    np.testing.assert_array_equal(one, jittered(picture, np.random.default_rng(5)))
    assert not np.array_equal(one, jittered(picture, np.random.default_rng(6)))
    np.testing.assert_array_equal(picture, before)
    assert one.shape == picture.shape
    assert one.dtype == np.uint8
    assert one.flags.writeable


def test_mild_for_most_and_strong_for_few(picture):
    """About one of seven moves far from its colours, as documented; of the others none does."""
    assert f"| {STRONG_SHARE:.2f} | strong" in jittered.__doc__
    moved = []
    for seed in range(1000):
        made = jittered(picture, np.random.default_rng(seed)).astype(int)
        moved.append(np.abs(made - picture).mean())
    far = np.mean(np.array(moved) > 35)
    assert 0.5 * STRONG_SHARE < far <= STRONG_SHARE + 0.03


def test_grey_stays_grey(picture):
    """All changes turn around the grey axis: grey differs by its brightness alone."""
    grey = np.repeat(picture[..., :1], 3, axis=2)
    made = np.stack([jittered(grey, np.random.default_rng(seed)) for seed in range(50)])
    # Permutation and inversion leave grey grey as well; rounding may move one level.
    assert np.ptp(made.astype(int), axis=-1).max() <= 1


def test_photographs_fill_the_cube(picture):
    """A picture that sits in a corner of the cube reaches most of it over many draws."""
    cells = set()
    for seed in range(3000):
        made = jittered(picture, np.random.default_rng(seed))
        cells |= {tuple(cell) for cell in (made[::12, ::12].reshape(-1, 3) // 64).tolist()}
    assert len(cells) >= 60  # of 64
