"""How a grid is divided into tiles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.runtime.tiling import tiles

SIDE = st.integers(1, 150)


@given(rows=SIDE, columns=SIDE, reach=st.integers(0, 12), most=st.integers(1, 4000))
def test_cores_cover_the_grid_once_and_bring_their_surroundings(rows, columns, reach, most):
    """Each cell is in one core; each halo is as wide as the reach or ends with the grid."""
    count = np.zeros((rows, columns), int)
    for row, column in tiles(rows, columns, reach, most):
        count[row.core, column.core] += 1
        for span, length in ((row, rows), (column, columns)):
            assert span.low == max(0, span.start - reach)
            assert span.high == min(length, span.stop + reach)
            assert span.inner.stop - span.inner.start == span.stop - span.start > 0
    assert (count == 1).all()


@given(rows=SIDE, columns=SIDE, reach=st.integers(0, 12))
def test_tiles_are_no_larger_than_asked(rows, columns, reach):
    """Wherever a core as large as its halo fits."""
    most = max(64, (4 * reach) ** 2)
    for row, column in tiles(rows, columns, reach, most):
        assert (row.high - row.low) * (column.high - column.low) <= most


@pytest.mark.parametrize(("side", "extra"), [(512, 0.13), (625, 0.14), (2000, 0.17)])
def test_halos_cost_little(side, extra):
    """The default model's encoder, reach 10, in tiles of 4 megapixels: 65,536 cells."""
    covered = sum(
        (row.high - row.low) * (column.high - column.low)
        for row, column in tiles(side, side, 10, 65_536)
    )
    assert covered <= (1 + extra) * side * side
