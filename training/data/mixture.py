"""What a batch is mixed of: crops of images, some of them in other colours, and drawn ones.

Each crop is a function of seed, step and index alone, as in `training.data.crops`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from training.data.colour_jitter import jittered
from training.data.crops import Crops
from training.data.dataset import Folder, Pixels

# Keeps these random numbers apart from those that choose crops by the same seed.
_STREAM = 0x3117

# A drawn crop: step and index → uint8 `[crop, crop, 3]`.
Draw = Callable[[int, int], Pixels]


class Mixture(Crops):
    """Crops of images, a share of them in other colours, and a share of drawn crops.

    Args:
        folder: images to crop from.
        crop, flip, seed, enlarge: as in `Crops`.
        synthetic: share of the crops that are drawn.
        colour_jitter: share of the others that are shown in other colours.
        cache_gib: decoded images are kept up to this; beyond it they are decoded anew.
        draw: makes the drawn crops.

    Raises:
        DataError: there are no images, or none as large as a crop where they aren't enlarged.
        ValueError: a share of drawn crops, and nothing that draws them.
    """

    def __init__(
        self,
        folder: Folder,
        *,
        crop: int,
        flip: bool,
        seed: int,
        cache_gib: float,
        enlarge: bool = True,
        synthetic: float = 0.0,
        colour_jitter: float = 0.0,
        draw: Draw | None = None,
    ) -> None:
        super().__init__(
            folder, crop=crop, flip=flip, seed=seed, cache_gib=cache_gib, enlarge=enlarge
        )
        if synthetic > 0 and draw is None:
            raise ValueError("a share of drawn crops needs something that draws them")
        self._draw, self._synthetic, self._colour_jitter = draw, synthetic, colour_jitter

    def one(self, step: int, index: int) -> Pixels:
        """The crop at a place in a step's batch: uint8 `[crop, crop, 3]`."""
        random = np.random.default_rng((self._seed, step, index, _STREAM))
        if self._draw is not None and random.random() < self._synthetic:
            return self._draw(step, index)
        pixels = super().one(step, index)
        return jittered(pixels, random) if random.random() < self._colour_jitter else pixels
