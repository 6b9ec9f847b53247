"""Grid features: a row of numbers for a grid of codes, which an embedder projects to its vector.

Each code is looked up in a table, such as the codebook or one of
`training.embedding.cooccurrence`. None needs labels. docs/log.md compares what was tried.

Grids are int64 `[n, rows, columns]`, of any size from 1×1 on; every axis stays
dynamic in ONNX.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def pool(features: Tensor, cells: int) -> Tensor:
    """Means over a grid of `cells` × `cells` equal parts: `[n, c, h, w]` → `[n, c, cells, cells]`.

    A position that two parts share counts in each with the fraction that lies in
    it, so that any size works, even one smaller than the cells. (Adaptive pooling
    of a dynamic size can't be exported; a product with two small matrices can.)
    """
    rows = _shares(features.shape[2], cells, features)
    columns = _shares(features.shape[3], cells, features)
    return torch.matmul(torch.matmul(rows, features), columns.transpose(0, 1))


def _shares(length: int, cells: int, like: Tensor) -> Tensor:
    """`[cells, length]`, rows sum to 1: which share of a part each position makes up."""
    positions = torch.arange(length, dtype=like.dtype, device=like.device)[None]
    span = length / cells
    starts = torch.arange(cells, dtype=like.dtype, device=like.device)[:, None] * span
    overlap = torch.minimum(positions + 1, starts + span) - torch.maximum(positions, starts)
    return overlap.clamp_min(0) / span


def fold(parts: Tensor) -> Tensor:
    """Averages with the mirror image, left to right: `[…, cells]` → `[…, ⌈cells/2⌉]`."""
    return ((parts + parts.flip(-1)) / 2)[..., : (parts.shape[-1] + 1) // 2]


class PooledVectors(nn.Module):
    """Each code's vector from a table, averaged over the parts of a pyramid.

    Args:
        table: float32 `[K, m]`, a vector for each code.
        means: pyramid levels, in parts along one side, of which means are taken.
        deviations: levels of which standard deviations are taken.
        mirrored: each part is averaged with its mirror image, left to right: what
            is in a picture seldom depends on the side, and a mirrored copy is found.
        root: square roots of the means, for a table of shares (Hellinger).
    """

    table: Tensor

    def __init__(
        self,
        table: Tensor,
        means: Sequence[int] = (1, 2, 4),
        deviations: Sequence[int] = (),
        *,
        mirrored: bool = False,
        root: bool = False,
    ) -> None:
        super().__init__()
        self.register_buffer("table", table)
        self.means, self.deviations = tuple(means), tuple(deviations)
        self.mirrored, self.root = mirrored, root

    def forward(self, codes: Tensor) -> Tensor:
        """int64 `[n, rows, columns]` → float32 `[n, f]`.

        f is m times the number of parts of all levels, of which mirroring leaves half.
        """
        vectors = F.embedding(codes, self.table).permute(0, 3, 1, 2)
        parts = []
        for cells in self.means:
            mean = pool(vectors, cells)
            mean = fold(mean) if self.mirrored else mean
            parts.append((mean.clamp_min(0).sqrt() if self.root else mean).flatten(1))
        for cells in self.deviations:
            mean = pool(vectors, cells)
            deviation = (pool(vectors.square(), cells) - mean.square()).clamp_min(0).sqrt()
            parts.append((fold(deviation) if self.mirrored else deviation).flatten(1))
        return torch.cat(parts, dim=1)
