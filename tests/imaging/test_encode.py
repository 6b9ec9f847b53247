"""Pixels become PNG, WebP and JPEG."""

from __future__ import annotations

import numpy as np
import pytest

from imaging.decode import decode_image
from imaging.encode import encode_image
from imaging.errors import SideTooLong
from imaging.headers import inspect_image


def pixels_of(data: bytes) -> np.ndarray:
    """Inspect and decode; RGB uint8 `[h, w, 3]`."""
    return decode_image(inspect_image(data, max_pixels=10_000)).pixels


def waves(width: int, height: int) -> np.ndarray:
    """Return a picture without hard edges: a few waves in each channel."""
    y, x = np.mgrid[:height, :width]
    channels = [np.sin(x / 45 + n) + np.cos(y / 35 - n) for n in range(3)]
    return (np.stack(channels, -1) * 60 + 128).astype(np.uint8)


def test_png_is_lossless():
    """What is encoded as PNG is decoded the same."""
    pixels = np.random.default_rng(0).integers(0, 256, (17, 23, 3), dtype=np.uint8)
    data = encode_image(pixels, "image/png")
    assert data.startswith(b"\x89PNG")
    np.testing.assert_array_equal(pixels_of(data), pixels)


@pytest.mark.parametrize(
    ("media_type", "magic"), [("image/webp", b"RIFF"), ("image/jpeg", b"\xff\xd8")]
)
def test_quality_matters(media_type, magic):
    """The lossy formats are close at quality 95, and smaller at quality 10."""
    pixels = waves(64, 48)
    fine, coarse = (encode_image(pixels, media_type, quality) for quality in (95, 10))
    assert fine.startswith(magic)
    assert len(coarse) < len(fine)
    assert np.abs(pixels_of(fine).astype(int) - pixels).mean() < 3


def test_flat_pictures_stay_small():
    """The quick strategy of compression doesn't blow up drawings: a white megapixel is 6 KB."""
    assert len(encode_image(np.full((1000, 1000, 3), 255, np.uint8), "image/png")) < 20_000


@pytest.mark.parametrize("quality", [0, 101, -1])
def test_impossible_qualities_are_refused(quality):
    """Quality is 1…100."""
    with pytest.raises(ValueError):
        encode_image(np.zeros((1, 1, 3), np.uint8), "image/jpeg", quality)


@pytest.mark.parametrize(("media_type", "side"), [("image/webp", 16_384), ("image/jpeg", 65_501)])
def test_sides_a_format_cannot_have_are_refused(media_type, side):
    """A picture too wide for the format is refused, and PNG is named instead."""
    with pytest.raises(SideTooLong, match="png"):
        encode_image(np.zeros((1, side, 3), np.uint8), media_type)
    assert encode_image(np.zeros((1, side - 1, 3), np.uint8), media_type)
