"""The order in which a context coder goes through code grids, and what it sees at each place.

A code is coded given the codes at some places around it, its neighbours, all of them coded before
it. Row after row that would be one code at a time. But a code waits for its neighbours alone, so
that codes on a slanted line across the grid can be coded together, and the lines follow each other
like a wave (docs/codes-format.md, "Order"): a grid of 64 × 96 codes takes 285 steps, not 6,144.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    # (stage, rows down, columns to the right) from the place that is coded; stages before its own
    # are known everywhere, its own stage only before the wave.
    Neighbour = tuple[int, int, int]


def slant(neighbours: Sequence[Neighbour], stage: int) -> int:
    """How many steps each row is behind the row above it: the least that suits the neighbours.

    Raises:
        ValueError: a neighbour is never coded before the place itself.
    """
    steps = 1
    for of, down, right in neighbours:
        if of > stage or (of == stage and (down > 0 or (down == 0 and right >= 0))):
            raise ValueError(f"stage {stage} can't know stage {of} at {down} down, {right} right")
        if of == stage and down < 0:
            steps = max(steps, right // -down + 1)
    return steps


class Wavefront:
    """Grids of any shapes in one array with margins, and their places in the order of coding.

    Args:
        shapes: `(rows, columns)` of each grid.
        stages: for each stage, its neighbours.
        outside: stands for the codes that are not in a grid; for each stage.

    Attributes:
        image: int32 `[places]`, which grid a place belongs to, in the order of the current stage.
        step: int64 `[places]`, in which step it is coded.
    """

    def __init__(
        self,
        shapes: Sequence[tuple[int, int]],
        stages: Sequence[Sequence[Neighbour]],
        outside: Sequence[int],
    ) -> None:
        offsets = [(down, right) for neighbours in stages for _, down, right in neighbours]
        self._stages, self._shapes = stages, shapes
        self._above = max([0, *(-down for down, _ in offsets)])
        self._below = max([0, *(down for down, _ in offsets)])
        self._left = max([0, *(-right for _, right in offsets)])
        self._right = max([0, *(right for _, right in offsets)])
        self._widths = [columns + self._left + self._right for _, columns in shapes]
        heights = [rows + self._above + self._below for rows, _ in shapes]
        areas = [h * w for h, w in zip(heights, self._widths, strict=True)]
        self._starts = np.concatenate([[0], np.cumsum(areas, dtype=np.int64)])
        # Margins hold what is outside; inside, places that aren't coded yet are never looked at.
        self._codes = [np.full(self._starts[-1], value, dtype=np.int32) for value in outside]
        self.image: NDArray[np.int32] = np.zeros(0, np.int32)
        self.step: NDArray[np.int64] = np.zeros(0, np.int64)
        self._places: NDArray[np.int64] = np.zeros(0, np.int64)
        self._ends: NDArray[np.int64] = np.zeros(0, np.int64)

    def begin(self, stage: int) -> None:
        """Put the places into the order of a stage: by step, then by grid, then by row."""
        behind = slant(self._stages[stage], stage)
        steps, images, places = [], [], []
        for image, (rows, columns) in enumerate(self._shapes):
            row, column = np.divmod(np.arange(rows * columns, dtype=np.int64), columns)
            steps.append(row * behind + column)
            images.append(np.full(rows * columns, image, dtype=np.int32))
            first = self._starts[image] + self._left
            places.append(first + (row + self._above) * self._widths[image] + column)
        step = np.concatenate(steps)
        order = np.argsort(step, kind="stable")
        self.image, self._places = np.concatenate(images)[order], np.concatenate(places)[order]
        self.step = step[order]
        self._ends = np.cumsum(np.bincount(step))
        down = np.array([down for _, down, _ in self._stages[stage]], dtype=np.int64)
        self._down = down
        self._across = np.array([right for _, _, right in self._stages[stage]], dtype=np.int64)
        self._of = [of for of, _, _ in self._stages[stage]]
        self._width = np.array(self._widths, dtype=np.int64)

    def steps(self) -> Iterator[slice]:
        """The places that are coded together, step after step."""
        first = 0
        for end in self._ends.tolist():
            yield slice(first, end)
            first = end

    def runs(self, part: slice) -> list[tuple[int, int]]:
        """The grids that some places of one step belong to: `(grid, places of it)`, in order."""
        counts = np.bincount(self.image[part])
        return [(image, int(counts[image])) for image in np.flatnonzero(counts).tolist()]

    def by_image(self, values: NDArray[Any]) -> list[NDArray[Any]]:
        """What belongs to each grid, in the order of the stage: `[places, …]` → one for each."""
        order = np.argsort(self.image, kind="stable")
        ends = np.cumsum([rows * columns for rows, columns in self._shapes])[:-1]
        return np.split(values[order], ends)

    def as_grids(self, values: NDArray[Any]) -> list[NDArray[Any]]:
        """Values of all places where they belong: `[places]` → `[rows, columns]` for each grid."""
        flat = np.empty(self._starts[-1], dtype=values.dtype)
        flat[self._places] = values
        return [self._inside(flat, image).copy() for image in range(len(self._shapes))]

    def neighbours(self, part: slice) -> NDArray[np.int32]:
        """Codes around some places: int32 `[places, neighbours]`."""
        width = self._width[self.image[part], None]
        around = self._places[part, None] + self._down * width + self._across
        if len(set(self._of)) == 1:
            return self._codes[self._of[0]][around]
        seen = np.empty(around.shape, dtype=np.int32)
        for column, of in enumerate(self._of):
            seen[:, column] = self._codes[of][around[:, column]]
        return seen

    def set_grid(self, image: int, stage: int, codes: NDArray[np.int64]) -> None:
        """Fill in one stage of a grid: `[rows, columns]`."""
        self._inside(self._codes[stage], image)[:] = codes

    def grid(self, image: int, stage: int) -> NDArray[np.int64]:
        """One stage of a grid: int64 `[rows, columns]`."""
        return self._inside(self._codes[stage], image).astype(np.int64)

    def put(self, part: slice, stage: int, codes: NDArray[np.int32]) -> None:
        """Fill in codes at some places."""
        self._codes[stage][self._places[part]] = codes

    def codes(self, part: slice, stage: int) -> NDArray[np.int32]:
        """Codes at some places: int32 `[places]`."""
        return self._codes[stage][self._places[part]]

    def _inside(self, flat: NDArray[Any], image: int) -> NDArray[Any]:
        rows, columns = self._shapes[image]
        plane = flat[self._starts[image] : self._starts[image + 1]]
        return plane.reshape(-1, self._widths[image])[
            self._above : self._above + rows, self._left : self._left + columns
        ]
