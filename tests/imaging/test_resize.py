"""Sizes: resized to, padded to the stride and cropped back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from imaging.resize import crop, pad_to_multiple, resize


@settings(deadline=None)  # other work may hold the machine
@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.sampled_from(["cover", "contain", "stretch"]),
)
def test_the_result_has_exactly_the_size(source, size, fit):
    """Whatever the source and the fit, the result has the size asked for, so that grids agree."""
    pixels = np.zeros((source[1], source[0], 3), dtype=np.uint8)
    resized = resize(pixels, size, fit)
    assert resized.shape == (size[1], size[0], 3)
    assert resized.dtype == np.uint8


@settings(deadline=None)  # other work may hold the machine
@given(st.integers(1, 50), st.integers(1, 50), st.sampled_from(["cover", "contain", "stretch"]))
def test_its_own_size_changes_nothing(width, height, fit):
    """Resizing to the size it has leaves every pixel."""
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    np.testing.assert_array_equal(resize(pixels, (width, height), fit), pixels)


THIRDS = np.zeros((20, 60, 3), dtype=np.uint8)
THIRDS[:, :20, 0] = THIRDS[:, 20:40, 1] = THIRDS[:, 40:, 2] = 255


def test_cover_keeps_the_middle():
    """A wide picture in a square: as if it were resized whole, then cut evenly on both sides."""
    square = resize(THIRDS, (10, 10), "cover")
    np.testing.assert_array_equal(square[:, 1:9].argmax(axis=-1), np.ones((10, 8)))
    whole = resize(THIRDS, (30, 10), "stretch")
    assert np.abs(square.astype(int) - whole[:, 10:20]).max() <= 1


def test_contain_leaves_white_bars():
    """A wide picture in a square: all of it is there, white above and below."""
    square = resize(THIRDS, (30, 30), "contain")
    assert (square[:10] == 255).all()
    assert (square[20:] == 255).all()
    np.testing.assert_array_equal(square[15, [3, 15, 26]], np.eye(3) * 255)


def test_stretch_keeps_nothing_but_order():
    """A wide picture in a square, squeezed: three upright stripes, all the way."""
    square = resize(THIRDS, (30, 30), "stretch")
    for row in (0, 29):
        np.testing.assert_array_equal(square[row, [3, 15, 26]], np.eye(3) * 255)


@pytest.mark.parametrize("fit", ["cover", "contain", "stretch"])
@pytest.mark.parametrize(
    ("source", "size"),
    [((1, 65_535), (65_535, 1)), ((65_535, 1), (1, 65_535)), ((1, 65_535), (1024, 1024))],
)
def test_extreme_shapes_need_little_memory(fit, source, size, cpu_seconds):
    """One column to one row: never an image as tall as the one and as wide as the other."""
    pixels = np.zeros((source[1], source[0], 3), dtype=np.uint8)
    Path("/proc/self/clear_refs").write_text("5", "ascii")
    before = _peak()
    assert resize(pixels, size, fit).shape == (size[1], size[0], 3)
    assert _peak() - before < 64e6
    assert cpu_seconds(lambda: resize(pixels, size, fit)) < 0.5


def _peak() -> int:
    status = Path("/proc/self/status").read_text("ascii")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def test_both_orders_of_resizing_agree():
    """Down first and across first, which the shapes decide, give the same picture."""
    pixels = np.random.default_rng(0).integers(0, 256, (90, 30, 3), dtype=np.uint8)
    ours = resize(pixels, (60, 20), "stretch")  # down first
    pillows = np.asarray(Image.fromarray(pixels).resize((60, 20), Image.Resampling.LANCZOS))
    assert np.abs(ours.astype(int) - pillows).max() <= 2


@settings(deadline=None)  # other work may hold the machine
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 17))
def test_padding_repeats_the_edge_and_crop_undoes_it(width, height, stride):
    """Both sides become multiples; what is added repeats the last column and row."""
    pixels = np.random.default_rng(stride).integers(0, 256, (height, width, 3), dtype=np.uint8)
    padded = pad_to_multiple(pixels, stride)
    assert padded.shape[0] % stride == padded.shape[1] % stride == 0
    assert padded.shape[0] - height < stride
    assert padded.shape[1] - width < stride
    np.testing.assert_array_equal(
        padded[:height, width:], pixels[:, -1:].repeat(-width % stride, 1)
    )
    np.testing.assert_array_equal(
        padded[height:], padded[height - 1 : height].repeat(-height % stride, 0)
    )
    np.testing.assert_array_equal(crop(padded, width, height), pixels)


def test_a_multiple_is_not_copied():
    """An image that fits already is handed through."""
    pixels = np.zeros((16, 24, 3), dtype=np.uint8)
    assert pad_to_multiple(pixels, 8) is pixels
