"""What a batch is mixed of: crops of images, some of them in other colours, and drawn ones.

Each crop is a function of seed, step and index alone, as in `training.data.crops`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from training.data.colour_jitter import jittered
from training.data.crops import Crops
from training.data.dataset import Pixels

# Keeps these random numbers apart from those that choose crops by the same seed.
_STREAM = 0x3117

# A drawn crop: step and index → uint8 `[crop, crop, 3]`.
Draw = Callable[[int, int], Pixels]


class Mixture:
    """Batches of crops of images and of drawn crops.

    Args:
        crops: of images.
        draw: makes the drawn ones.
        seed: decides which crop is which.
        synthetic: share of the crops that are drawn.
        colour_jitter: share of the others that are shown in other colours.
    """

    def __init__(
        self,
        crops: Crops,
        draw: Draw | None,
        *,
        seed: int,
        synthetic: float = 0.0,
        colour_jitter: float = 0.0,
    ) -> None:
        if synthetic > 0 and draw is None:
            raise ValueError("a share of drawn crops needs something that draws them")
        self._crops, self._draw, self._seed = crops, draw, seed
        self._synthetic, self._colour_jitter = synthetic, colour_jitter

    def batch(self, step: int, size: int, part: int = 0, parts: int = 1) -> Pixels:
        """The crops of a step.

        Args:
            step: of the run.
            size: crops in the step, over all parts.
            part: which share of them to make …
            parts: … of how many, so that several processes make one batch together.

        Returns:
            uint8 `[size / parts, crop, crop, 3]`.
        """
        mine = range(part * size // parts, (part + 1) * size // parts)
        return np.stack([self._one(step, index) for index in mine])

    def batches(
        self, first: int, last: int, size: int, part: int = 0, parts: int = 1
    ) -> Iterator[Pixels]:
        """The batches of steps `first` … `last` − 1, each made while the one before is used."""
        with ThreadPoolExecutor(1) as pool:
            ahead = [
                pool.submit(self.batch, step, size, part, parts)
                for step in range(first, min(first + 2, last))
            ]
            for step in range(first, last):
                made = ahead.pop(0).result()
                if step + 2 < last:
                    ahead.append(pool.submit(self.batch, step + 2, size, part, parts))
                yield made

    def _one(self, step: int, index: int) -> Pixels:
        if self._synthetic == 0 and self._colour_jitter == 0:
            return self._crops.one(step, index)
        random = np.random.default_rng((self._seed, step, index, _STREAM))
        if self._draw is not None and random.random() < self._synthetic:
            return self._draw(step, index)
        pixels = self._crops.one(step, index)
        return jittered(pixels, random) if random.random() < self._colour_jitter else pixels
