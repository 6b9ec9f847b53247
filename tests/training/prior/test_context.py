"""What a prior looks at, and codes in groups."""

import numpy as np
import pytest

from training.prior.context import Margins, causal_neighbours, earlier_neighbours, group_codes


def test_neighbours_are_the_codes_that_they_say():
    """Row, column and what is outside are as in a grid that is looked at by hand."""
    grid = np.arange(12, dtype=np.uint16).reshape(1, 3, 4)
    neighbours = [(0, 0, -1), (0, -1, 2), (0, -2, 0)]
    margins = Margins.of(neighbours)
    framed = margins.around(grid, [12])
    seen = margins.contexts(framed[None], neighbours)[0]
    assert seen.shape == (3, 4, 3)
    assert seen[0, 0].tolist() == [12, 12, 12]
    assert seen[2, 1].tolist() == [8, 7, 1]
    assert seen[1, 3].tolist() == [6, 12, 12]


def test_causal_neighbours_come_before_the_place():
    """None lies below, or to the right in the same row."""
    found = causal_neighbours(2, [(-1, 1), (0, 0)])
    assert found == [(0, 0, -2), (0, 0, -1), (0, -1, -1), (0, -1, 0), (0, -1, 1), (0, -2, 0)]


def test_earlier_stages_are_known_all_around():
    """A square of them, the place itself in its middle."""
    assert earlier_neighbours(0) == [(0, d, r) for d in (-1, 0, 1) for r in (-1, 0, 1)]


@pytest.mark.parametrize(
    ("count", "shape"), [(2, (2, 1)), (64, (64, 1)), (65, (9, 8)), (256, (16, 16)), (500, (32, 16))]
)
def test_every_code_is_in_one_group(count, shape):
    """Groups are of one size, and what fills them up is -1."""
    vectors = np.random.default_rng(count).normal(size=(count, 4)).astype(np.float32)
    table = group_codes(vectors)
    assert table.shape == shape
    assert sorted(table[table >= 0].tolist()) == list(range(count))


def test_like_codes_are_in_one_group():
    """Vectors in two heaps are parted by heaps."""
    heaps = np.repeat([[0.0, 0.0], [9.0, 9.0]], 128, axis=0)
    vectors = (heaps + np.random.default_rng(0).normal(size=(256, 2))).astype(np.float32)
    table = group_codes(vectors)
    assert all(len({code // 128 for code in group}) == 1 for group in table.tolist())
