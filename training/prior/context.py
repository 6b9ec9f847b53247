"""What a prior looks at and how it names a code: neighbours, and codes in groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Grid = NDArray[np.uint16]

# (stage, rows down, columns to the right) from the place that is predicted.
Neighbour = tuple[int, int, int]

# Up to so many codes one distribution is cheaper than two.
_UNDIVIDED = 64


def causal_neighbours(
    left: int, above: Sequence[tuple[int, int]], stage: int = 0
) -> list[Neighbour]:
    """Neighbours that were coded before: some to the left, and a span in each row above.

    Args:
        left: how many in the same row.
        above: for each row above, the nearest first, the first and the last column.
        stage: whose codes they are.
    """
    spans = [(0, -left, -1), *((-1 - i, *span) for i, span in enumerate(above))]
    return [(stage, down, right) for down, a, b in spans for right in range(a, b + 1)]


def earlier_neighbours(stage: int, radius: int = 1) -> list[Neighbour]:
    """Neighbours in an earlier stage, which is known everywhere: a square around the place."""
    span = range(-radius, radius + 1)
    return [(stage, down, right) for down in span for right in span]


@dataclass(frozen=True)
class Margins:
    """How far neighbours reach beyond a place, in rows and columns."""

    above: int
    below: int
    left: int
    right: int

    @classmethod
    def of(cls, neighbours: Sequence[Neighbour]) -> Margins:
        """Those of some neighbours."""
        down = [0, *(d for _, d, _ in neighbours)]
        right = [0, *(r for _, _, r in neighbours)]
        return cls(-min(down), max(down), -min(right), max(right))

    def around(self, grid: Grid, sizes: Sequence[int]) -> Grid:
        """A grid uint16 `[stages, rows, columns]` in a frame of codes that mean "outside".

        Args:
            grid: codes.
            sizes: number of codes of each stage; what is outside is numbered after them.
        """
        rows, columns = grid.shape[1:]
        framed = np.empty(
            (len(grid), rows + self.above + self.below, columns + self.left + self.right),
            dtype=np.uint16,
        )
        framed[:] = np.array(sizes)[: len(grid), None, None]
        framed[:, self.above : self.above + rows, self.left : self.left + columns] = grid
        return framed

    def contexts(
        self, framed: NDArray[np.integer], neighbours: Sequence[Neighbour]
    ) -> NDArray[np.integer]:
        """The neighbours of every place inside the frame.

        Args:
            framed: integers `[n, stages, rows, columns]`, frame included.
            neighbours: C of them.

        Returns:
            `[n, rows, columns, C]`, without the frame.
        """
        rows = framed.shape[2] - self.above - self.below
        columns = framed.shape[3] - self.left - self.right
        return np.stack(
            [
                framed[
                    :,
                    stage,
                    self.above + down : self.above + down + rows,
                    self.left + right : self.left + right + columns,
                ]
                for stage, down, right in neighbours
            ],
            axis=-1,
        )


def group_codes(vectors: NDArray[np.float32]) -> NDArray[np.int32]:
    """Codes in groups of like vectors: a code is then named by its group and its place in it.

    Halves of halves: the codes are sorted along the direction in which they differ most and cut
    in the middle, until a group has its size.

    Args:
        vectors: float32 `[K, d]`, the codebook.

    Returns:
        int32 `[groups, members]`: every code once; -1 fills the groups up. One member each where
        there are few codes.
    """
    count = len(vectors)
    if count <= _UNDIVIDED:
        return np.arange(count, dtype=np.int32)[:, None]
    members = 1 << (count - 1).bit_length() // 2
    groups = -(-count // members)
    table = np.full((groups, members), -1, dtype=np.int32)

    def place(codes: NDArray[np.int64], first: int, last: int) -> None:
        if last - first == 1:
            table[first, : len(codes)] = np.sort(codes)
            return
        there = vectors[codes].astype(np.float64)
        axis = np.linalg.svd(there - there.mean(axis=0), full_matrices=False)[2][0]
        axis *= np.sign(axis[np.abs(axis).argmax()])
        ordered = codes[np.argsort(there @ axis, kind="stable")]
        middle = (first + last) // 2
        cut = (middle - first) * members
        place(ordered[:cut], first, middle)
        place(ordered[cut:], middle, last)

    place(np.arange(count), 0, groups)
    return table
