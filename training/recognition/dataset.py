"""What recognizers are trained on: labelled images, each in several views, in batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.recognition.augmented_views import Views
from training.recognition.calibration import Labels

_T = TypeVar("_T", bound=np.generic)


class Source(ABC):
    """Images to learn from, each in several views.

    Attributes:
        views: how many of each image; the first `PLAIN_VIEWS` are the image and its mirror image.
        labels: int64 `[images]`, a class of each.
    """

    views: int
    labels: Labels

    @abstractmethod
    def shape(self, image: int, view: int) -> tuple[int, int]:
        """`(rows, columns)` of the grid that one view of one image gives."""

    @abstractmethod
    def batch(self, images: Sequence[int], views: Sequence[int]) -> Tensor:
        """Views of several images for a network's `look_up`, cut to the smallest among them."""


class CodeSource(Source):
    """Grids of codes.

    Args:
        codes: of every view of the images.
        labels: int64 `[images]`.
    """

    def __init__(self, codes: Views, labels: Labels) -> None:
        self.views, self.labels, self._codes = codes.count, labels, codes

    def shape(self, image: int, view: int) -> tuple[int, int]:  # noqa: ARG002  (all the same)
        """`(rows, columns)`."""
        return self._codes.shapes[image]

    def batch(self, images: Sequence[int], views: Sequence[int]) -> Tensor:
        """int64 `[len(images), rows, columns]`."""
        grids = [self._codes.grid(i, v) for i, v in zip(images, views, strict=True)]
        rows, columns = (min(g.shape[axis] for g in grids) for axis in (0, 1))
        return torch.from_numpy(np.stack([middle(g, rows, columns) for g in grids]))


def middle(grid: NDArray[_T], rows: int, columns: int) -> NDArray[_T]:
    """The middle of `[h, w, …]`: `[rows, columns, …]`."""
    top, left = (grid.shape[0] - rows) // 2, (grid.shape[1] - columns) // 2
    return grid[top : top + rows, left : left + columns]
