"""Random edits of images."""

import numpy as np
import pytest

from training.data.augmentation import random_edit


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (300, 2), (90, 160)])
def test_random_edits_have_the_wanted_size(size):
    """Of images of any shape, however small."""
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    for seed in range(20):
        edited = random_edit(image, 24, np.random.default_rng(seed))
        assert edited.shape == (24, 24, 3)
        assert edited.dtype == np.uint8
