"""Grid features: pooling over any grid size."""

import pytest
import torch

from training.embedding.grid_features import (
    PooledVectors,
    pool,
)


def reference_pool(features, cells):
    """Averages each part from a 60-fold enlarged copy, on which every border is whole."""
    height = features.shape[2]
    large = features.repeat_interleave(60, dim=2).repeat_interleave(60, dim=3)
    return large.reshape(*features.shape[:2], cells, 60 * height // cells, cells, -1).mean((3, 5))


@pytest.mark.parametrize(
    ("height", "width"), [(1, 1), (1, 2), (3, 1), (2, 3), (4, 4), (5, 7), (16, 11)]
)
@pytest.mark.parametrize("cells", [1, 2, 4])
def test_pooling_equals_an_average_over_an_enlarged_copy(height, width, cells):
    """A position that two parts share counts in each with the fraction that lies in it."""
    features = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(pool(features, cells), reference_pool(features, cells))


def test_pooling_keeps_the_mean():
    """The mean over the parts is the mean over the positions."""
    features = torch.randn(2, 3, 5, 9)
    torch.testing.assert_close(pool(features, 4).mean((2, 3)), features.mean((2, 3)))


def test_deviation_of_a_single_code_is_zero():
    """Rounding never makes a negative variance, nor a NaN of its root."""
    description = PooledVectors(torch.randn(4, 3), means=(), deviations=(1, 2))
    deviations = description(torch.full((1, 7, 5), 2))
    assert torch.isfinite(deviations).all()
    assert deviations.abs().max() < 1e-2
