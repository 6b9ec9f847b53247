"""Code grids from JSON and npy, and back."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from app.codecs.grids import (
    CodeGrid,
    grid_from_rows,
    grid_shape,
    grids_from_npy,
    grids_to_npy,
)
from app.codecs.npy import write_npy
from app.errors import (
    CodesInvalid,
    ImageTooLarge,
    InvalidParameter,
    MalformedRequest,
    NotAcceptable,
    TooManyImages,
)

SPACE = {"codebook_size": 512, "stride": 8, "max_pixels": 1_000_000}
NPY_SPACE = SPACE | {"max_images": 4}


@pytest.mark.parametrize(
    ("width", "height", "shape"),
    [(1, 1, (1, 1)), (8, 8, (1, 1)), (9, 8, (1, 2)), (8, 9, (2, 1)), (768, 512, (64, 96))],
)
def test_a_grid_covers_the_image(width, height, shape):
    """A grid has as many rows and columns as cover the image, and no more."""
    assert grid_shape(width, height, 8) == shape


@settings(deadline=None)  # other work may hold the machine
@given(
    npst.arrays(
        np.int64,
        npst.array_shapes(min_dims=2, max_dims=2, max_side=6),
        elements=st.integers(0, 511),
    )
)
def test_rows_round_trip(codes):
    """Rows written as JSON lists are read back as the same int64 codes."""
    rows = codes.tolist()
    grid = grid_from_rows(rows, **SPACE)
    assert grid.codes.dtype == np.int64
    np.testing.assert_array_equal(grid.codes, codes)


def test_without_a_size_the_whole_grid_counts():
    """Rows alone stand for an image as large as the grid covers."""
    grid = grid_from_rows([[1, 2, 3], [4, 5, 6]], **SPACE)
    assert (grid.width, grid.height) == (24, 16)


def test_with_a_size_the_image_is_cropped():
    """Width and height, where given, are kept, and so is the name."""
    grid = grid_from_rows([[1, 2, 3], [4, 5, 6]], width=17, height=9, name="a.png", **SPACE)
    assert (grid.width, grid.height, grid.name) == (17, 9, "a.png")


@pytest.mark.parametrize(
    ("width", "height"), [(16, 9), (25, 9), (17, 8), (17, 17), (0, 9), (-1, 9)]
)
def test_a_size_of_another_grid_is_refused(width, height):
    """A width or height that needs another number of columns or rows is refused."""
    with pytest.raises(CodesInvalid, match="doesn't belong"):
        grid_from_rows([[1, 2, 3], [4, 5, 6]], width=width, height=height, **SPACE)


@pytest.mark.parametrize(
    "rows",
    [
        None,
        7,
        "12",
        {},
        [],
        [[]],
        [[], []],
        [1, 2],
        [[1, 2], 3],
        [[1, 2], [3]],
        [[1], [2, 3]],
        [[1.0]],
        [[1, 2.5]],
        [[float("nan")]],
        [[True]],
        [[None]],
        [["1"]],
        [[[1]]],
        [[-1]],
        [[512]],
        [[2**63]],
        [[2**200]],
        [[-(2**200)]],
        ((1, 2),),
    ],
)
def test_rows_that_are_no_codes_are_refused(rows):
    """Ragged, empty, nested wrongly, out of range, or anything but integers: refused."""
    with pytest.raises(CodesInvalid):
        grid_from_rows(rows, **SPACE)


STAGES = SPACE | {"residual_sizes": (16, 4)}


def test_rows_of_several_stages_are_read():
    """Lists of stages, each of rows: `[stages, rows, columns]`; of one stage they are its rows."""
    grid = grid_from_rows([[[500, 1]], [[15, 0]]], width=9, **STAGES)
    assert grid.codes.tolist() == [[[500, 1]], [[15, 0]]]
    assert (grid.stages, grid.shape, grid.width, grid.height) == (2, (1, 2), 9, 8)
    for rows in ([[500, 1]], [[[500, 1]]]):
        grid = grid_from_rows(rows, **STAGES)
        assert (grid.stages, grid.codes.tolist()) == (1, [[500, 1]])


@pytest.mark.parametrize(
    "rows",
    [
        [[[1]], [[16]]],
        [[[1]], [[-1]]],
        [[[1]], [[1]], [[3]], [[0]]],
        [[[1]], [[1, 2]]],
        [[[1]], [1]],
        [[[1]], []],
        [[[1]], [[]]],
        [[[]]],
        [[[[1]]]],
        [[[1]], [[True]]],
    ],
)
def test_stages_that_are_no_codes_are_refused(rows):
    """A code out of its stage's range, too many stages, unequal or nested further: refused."""
    with pytest.raises(CodesInvalid):
        grid_from_rows(rows, **STAGES)


def test_the_first_stages_are_taken_without_a_copy():
    """As many as are asked for; more than there are is an error that says how many there are."""
    grid = grid_from_rows([[[500, 1]], [[15, 0]], [[3, 3]]], **STAGES)
    assert grid.first(3) is grid
    assert grid.first(2).codes.tolist() == [[[500, 1]], [[15, 0]]]
    assert grid.first(1).codes.tolist() == [[500, 1]]
    assert all(np.shares_memory(grid.first(n).codes, grid.codes) for n in (1, 2))
    for stages in (0, 4):
        with pytest.raises(InvalidParameter, match="these codes have 3"):
            grid.first(stages)


def test_the_first_and_last_code_are_in_range():
    """The range is [0, codebook_size), both ends tried."""
    assert grid_from_rows([[0, 511]], **SPACE).codes.tolist() == [[0, 511]]


def test_rows_of_a_large_image_are_refused():
    """Rows that stand for more pixels than the limit are refused by the limit's name."""
    with pytest.raises(ImageTooLarge, match="TESSERA_MAX_PIXELS"):
        grid_from_rows([[0] * 126] * 126, **SPACE)


def test_a_side_is_limited():
    """A single row of codes can't stand for a side above 65,535 pixels."""
    with pytest.raises(ImageTooLarge, match="65535"):
        grid_from_rows([[0] * 8192], **SPACE)


def test_many_rows_are_checked_quickly(cpu_seconds):
    """262,144 codes, a 4096 × 4096 image, take far less than parsing their JSON (13 ms)."""
    rows = np.zeros((512, 512), dtype=int).tolist()
    assert cpu_seconds(lambda: grid_from_rows(rows, **SPACE | {"max_pixels": 2**24})) < 0.2


@pytest.mark.parametrize("dtype", ["<i8", ">i8", "<u2", ">u2", "<i4", "u1", "<u8", "i1"])
def test_npy_codes_of_any_integer_type_are_read(dtype):
    """Integers of any width and byte order are codes; they become int64."""
    codes = np.arange(24).reshape(2, 3, 4)
    grids = grids_from_npy(write_npy(codes.astype(dtype)), **NPY_SPACE)
    assert [(grid.width, grid.height, grid.name) for grid in grids] == [(32, 24, None)] * 2
    assert all(grid.codes.dtype == np.int64 for grid in grids)
    np.testing.assert_array_equal(np.stack([grid.codes for grid in grids]), codes)


def test_npy_codes_of_one_image_need_no_first_axis():
    """[rows, columns] is one image."""
    (grid,) = grids_from_npy(write_npy(np.arange(6).reshape(2, 3)), **NPY_SPACE)
    np.testing.assert_array_equal(grid.codes, [[0, 1, 2], [3, 4, 5]])


def test_npy_round_trip():
    """What is written as npy is [n, rows, columns] int64, and read back the same."""
    grids = [CodeGrid(np.full((2, 3), n), 24, 16) for n in range(3)]
    data = grids_to_npy(grids)
    array = np.load(io.BytesIO(data))
    assert (array.shape, array.dtype) == ((3, 2, 3), np.int64)
    for read, grid in zip(grids_from_npy(data, **NPY_SPACE), grids, strict=True):
        np.testing.assert_array_equal(read.codes, grid.codes)


def test_npy_of_several_stages_has_an_axis_more():
    """[n, stages, rows, columns], each stage held to its own codebook, and read back the same."""
    codes = np.stack([np.full((2, 1, 3), 511), np.full((2, 1, 3), 15)], axis=1)
    data = grids_to_npy([CodeGrid(one, 24, 8) for one in codes])
    assert np.load(io.BytesIO(data)).shape == (2, 2, 1, 3)
    space = NPY_SPACE | {"residual_sizes": (16,)}
    for grid, one in zip(grids_from_npy(data, **space), codes, strict=True):
        np.testing.assert_array_equal(grid.codes, one)
    assert [grid.stages for grid in grids_from_npy(write_npy(codes[:, :1]), **space)] == [1, 1]
    for wrong in (codes + 1, np.concatenate([codes, codes], axis=1), codes[None]):
        with pytest.raises(CodesInvalid):
            grids_from_npy(write_npy(wrong), **space)


def test_unequal_grids_fit_no_npy():
    """Grids of different shapes are refused as npy: 406."""
    with pytest.raises(NotAcceptable):
        grids_to_npy(
            [CodeGrid(np.zeros((2, 3), int), 24, 16), CodeGrid(np.zeros((3, 2), int), 16, 24)]
        )


@pytest.mark.parametrize(
    ("array", "error"),
    [
        (np.zeros((1, 2, 3), dtype=np.float32), CodesInvalid),
        (np.zeros((1, 2, 3), dtype=bool), CodesInvalid),
        (np.zeros(3, dtype=int), CodesInvalid),
        (np.zeros((1, 1, 2, 3), dtype=int), CodesInvalid),
        (np.zeros((0, 2, 3), dtype=int), CodesInvalid),
        (np.zeros((1, 0, 3), dtype=int), CodesInvalid),
        (np.full((1, 2, 3), 512), CodesInvalid),
        (np.full((1, 2, 3), -1), CodesInvalid),
        (np.full((1, 2, 3), 2**64 - 1, dtype=np.uint64), CodesInvalid),
        (np.zeros((5, 1, 1), dtype=int), TooManyImages),
        (np.zeros((1, 126, 126), dtype=int), ImageTooLarge),
        (np.zeros((1, 1, 8192), dtype=int), ImageTooLarge),
    ],
)
def test_npy_arrays_that_are_no_codes_are_refused(array, error):
    """Another dtype, number of axes, range, count or size is refused, each by its own error."""
    with pytest.raises(error):
        grids_from_npy(write_npy(array), **NPY_SPACE)


def test_what_is_no_npy_is_malformed():
    """A body that is no npy file is a malformed request, not invalid codes."""
    with pytest.raises(MalformedRequest):
        grids_from_npy(b"[[1, 2]]", **NPY_SPACE)
