"""Large images in overlapping tiles: the same result bit for bit, in bounded memory.

A convolutional graph sees no further than its *reach*: the radius of its receptive field, in
cells of the code grid. A tile that brings so many cells of its surroundings along, its *halo*,
gives in its core what the whole image gives there. Where a tile ends with the image it has no
halo, and the graph pads as it would pad the image.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Span:
    """Part of one axis, in cells: the core `[start, stop)` and with its halo `[low, high)`."""

    start: int
    stop: int
    low: int
    high: int

    @property
    def core(self) -> slice:
        """The core, counted from the axis' beginning."""
        return slice(self.start, self.stop)

    @property
    def whole(self) -> slice:
        """Core and halo, counted from the axis' beginning."""
        return slice(self.low, self.high)

    @property
    def inner(self) -> slice:
        """The core, counted from the beginning of the halo."""
        return slice(self.start - self.low, self.stop - self.low)


def in_tiles(
    values: NDArray[Any],
    scale: tuple[int, int],
    reach: int,
    most: int,
    run: Callable[[NDArray[Any], bool], NDArray[Any]],
) -> NDArray[Any]:
    """What `run` makes of an image, put together from what it makes of its tiles.

    Args:
        values: `[n, rows · scale[0], columns · scale[0], …]`.
        scale: elements along one side of a cell, of what goes in and of what comes out.
        reach: radius of the receptive field of `run`, in cells.
        most: cells of one tile with its halo.
        run: `run(tile, last)` → `[n, rows of the tile · scale[1], columns … · scale[1], …]`.

    Returns:
        `[n, rows · scale[1], columns · scale[1], …]`, with the further axes and dtype of `run`.
    """
    given, wanted = scale
    rows, columns = values.shape[1] // given, values.shape[2] // given
    divided = list(tiles(rows, columns, reach, most))
    made: NDArray[Any] | None = None
    for index, (row, column) in enumerate(divided):
        tile = values[:, _times(row.whole, given), _times(column.whole, given)]
        part = run(tile, index == len(divided) - 1)
        if made is None:
            shape = (len(values), rows * wanted, columns * wanted, *part.shape[3:])
            made = np.empty(shape, part.dtype)
        made[:, _times(row.core, wanted), _times(column.core, wanted)] = part[
            :, _times(row.inner, wanted), _times(column.inner, wanted)
        ]
    assert made is not None  # noqa: S101  (there is at least one tile)
    return made


def tiles(rows: int, columns: int, reach: int, most: int) -> Iterator[tuple[Span, Span]]:
    """Divide a grid so that the tiles, halos and all, add up to as little as possible.

    Args:
        rows: rows of the grid, in cells.
        columns: columns of the grid, in cells.
        reach: radius of the graph's receptive field, in cells.
        most: most cells of one tile with its halo. If the halo alone takes more, tiles get a core
            as small as their halo and are larger than asked.

    Yields:
        The rows and the columns of each tile; their cores cover the grid once.
    """
    finest = max(1, rows // max(1, reach)), max(1, columns // max(1, reach))
    fitting = [
        (_covered(rows, down, reach) * _covered(columns, across, reach), down, across)
        for down in range(1, finest[0] + 1)
        if (across := _fewest(columns, most // _longest(rows, down, reach), reach)) <= finest[1]
    ]
    _, down, across = min(fitting, default=(0, *finest))
    for row in _spans(rows, down, reach):
        for column in _spans(columns, across, reach):
            yield row, column


def _spans(length: int, count: int, reach: int) -> list[Span]:
    edges = [length * i // count for i in range(count + 1)]
    return [
        Span(start, stop, max(0, start - reach), min(length, stop + reach))
        for start, stop in pairwise(edges)
    ]


def _times(span: slice, factor: int) -> slice:
    """The same span, in elements of which a cell has so many."""
    return slice(span.start * factor, span.stop * factor)


def _longest(length: int, count: int, reach: int) -> int:
    """Cells of the longest of so many spans: the first and the last have one halo, others two."""
    return min(length, -(-length // count) + min(count - 1, 2) * reach)


def _covered(length: int, count: int, reach: int) -> int:
    """Cells of all spans together."""
    return length + 2 * (count - 1) * reach


def _fewest(length: int, most: int, reach: int) -> int:
    """The smallest number of spans of which none is longer; more than cells if there is none."""
    for count in (1, 2):
        if _longest(length, count, reach) <= most:
            return count
    core = most - 2 * reach
    return -(-length // core) if core > 0 else length + 1
