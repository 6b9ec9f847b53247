"""A JPEG with all of its pixels is read, whatever its end is; one that lacks some is not."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imaging.decode import decode_image
from imaging.errors import CorruptImage, UnsupportedFormat
from imaging.headers import inspect_image

ARITHMETIC = Path(__file__).parents[1] / "data" / "corpus" / "mozjpeg-testimgari.jpg"
END = b"\xff\xd9"


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """A picture with waves and noise."""
    y, x = np.mgrid[:height, :width]
    waves = np.stack([np.sin(x / 45 + n) + np.cos(y / 35 - n) for n in range(3)], -1) * 50 + 128
    noise = np.random.default_rng(seed).normal(0, 8, waves.shape)
    return Image.fromarray((waves + noise).clip(0, 255).astype(np.uint8))


def jpeg(image: Image.Image, **options) -> bytes:
    """A JPEG that Pillow writes."""
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


def pixels_of(data: bytes, size: tuple[int, int] | None = None) -> np.ndarray:
    return decode_image(inspect_image(data, max_pixels=10**7), size).pixels


def first_scan(data: bytes) -> int:
    return data.index(b"\xff\xda")


def without_end(data: bytes) -> bytes:
    assert data.endswith(END)
    return data[:-2]


WHOLE = {
    "colour": jpeg(picture(203, 149)),
    "grey": jpeg(picture(203, 149).convert("L")),
    "CMYK": jpeg(picture(203, 149).convert("CMYK")),
    "no subsampling": jpeg(picture(203, 149), subsampling=0),
    "restart intervals": jpeg(picture(203, 149), restart_marker_blocks=5),
    "progressive": jpeg(picture(203, 149), progressive=True),
    "progressive grey": jpeg(picture(203, 149).convert("L"), progressive=True),
    "progressive with restart intervals": jpeg(
        picture(203, 149), progressive=True, restart_marker_blocks=7
    ),
    "more than a buffer": jpeg(picture(640, 480), quality=97),
    "flat": jpeg(Image.new("RGB", (64, 64), (200, 100, 50))),
    "black": jpeg(Image.new("RGB", (64, 64))),
    "one pixel": jpeg(Image.new("RGB", (1, 1), "red")),
    "arithmetic": ARITHMETIC.read_bytes(),
}
LARGE = ["colour", "grey", "CMYK", "restart intervals", "more than a buffer", "arithmetic"]


@pytest.mark.parametrize("name", WHOLE)
def test_a_lost_end_mark_changes_nothing(name):
    """Without its last two bytes, or its last one, a JPEG gives the very same pixels."""
    data = WHOLE[name]
    pillows = Image.open(io.BytesIO(data)).convert("RGB")
    np.testing.assert_array_equal(pixels_of(data), np.asarray(pillows))
    for cut in (data[:-2], data[:-1]):
        np.testing.assert_array_equal(pixels_of(cut), np.asarray(pillows))


@pytest.mark.parametrize("name", ["colour", "progressive", "more than a buffer"])
def test_a_lost_end_mark_changes_nothing_at_a_smaller_scale(name):
    """The same where the decoder is asked for an eighth of the picture."""
    data = WHOLE[name]
    np.testing.assert_array_equal(pixels_of(data, (20, 16)), pixels_of(data[:-2], (20, 16)))


@pytest.mark.parametrize("name", WHOLE)
def test_what_follows_the_end_mark_is_not_read(name):
    """Trailing bytes, a second picture among them, change nothing."""
    data = WHOLE[name]
    for more in (b"\0" * 100, b"\xff" * 9, WHOLE["flat"], b"\xff\xda\0\2", np.random.bytes(5000)):
        np.testing.assert_array_equal(pixels_of(data + more), pixels_of(data))


@pytest.mark.parametrize("size", [None, (20, 16)])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("name", LARGE)
def test_half_a_jpeg_with_an_end_mark_is_refused(name, share, size):
    """Cut within its pixels and closed with an end mark: grey below for others, refused here."""
    data = without_end(WHOLE[name])
    start = first_scan(data) + 20
    cut = data[: start + int(share * (len(data) - start))].rstrip(b"\xff") + END
    with pytest.raises(CorruptImage, match="truncated"):
        pixels_of(cut, size)


@pytest.mark.parametrize("scans", range(1, 10))
def test_a_progressive_jpeg_that_lacks_scans_is_refused(scans):
    """Of ten scans all are needed: coefficients without their last bits would leave it blurred."""
    data = WHOLE["progressive"]
    starts = [n for n in range(len(data)) if data.startswith(b"\xff\xda", n)]
    assert len(starts) == 10
    tables = data.rindex(b"\xff\xc4", 0, starts[scans])
    for cut in (data[:tables], data[: (starts[scans - 1] + starts[scans]) // 2]):
        for closed in (cut, cut + END):
            with pytest.raises(CorruptImage, match="truncated"):
                pixels_of(closed)


def test_a_progressive_jpeg_cut_in_its_last_refinement():
    """Refused without an end mark; with one, the last bits of some coefficients are missing.

    Finding that out would take a second decoding of every progressive file.
    """
    data = without_end(WHOLE["progressive"])
    cut = data[: (data.rindex(b"\xff\xda") + len(data)) // 2].rstrip(b"\xff")
    with pytest.raises(CorruptImage, match="truncated"):
        pixels_of(cut)
    off = np.abs(pixels_of(cut + END).astype(int) - pixels_of(data))
    assert (off[:60] == 0).all()
    assert off.mean() < 3


def test_a_progressive_jpeg_cut_in_its_first_scan_of_all_is_refused():
    """Scans of spectral selection alone, of which the last one is cut, are decoded twice."""
    grey = WHOLE["progressive grey"]
    frame = grey.index(b"\xff\xc2")
    assert grey[frame + 4] == 8
    scans = [n for n in range(len(grey)) if grey.startswith(b"\xff\xda", n)]
    # Rewritten so that each scan says it gives the coefficients whole: other pixels, but legal.
    data = bytearray(grey[: scans[1]])
    data[scans[0] + 9] = 0
    whole = pixels_of(bytes(data) + END)
    assert whole.shape == (149, 203, 3)
    with pytest.raises(CorruptImage, match="pixels are missing"):
        pixels_of(bytes(data[: (scans[0] + scans[1]) // 2]) + END)


@pytest.mark.parametrize("name", WHOLE)
def test_without_its_end_a_jpeg_is_never_guessed(name):
    """Cut anywhere, without an end mark: the very pixels of the whole, or refused."""
    data = WHOLE[name]
    expected = pixels_of(data)
    start = first_scan(data)
    refused = 0
    lengths = {
        *np.linspace(start, len(data) - 1, 60).astype(int),
        *range(len(data) - 12, len(data)),
    }
    for length in sorted(lengths):
        try:
            np.testing.assert_array_equal(pixels_of(data[:length]), expected, err_msg=f"{length}")
        except CorruptImage:
            refused += 1
    assert refused >= len(lengths) - 12


@pytest.mark.parametrize("last", [(0, 0, 0), (128, 128, 128), (255, 255, 255)])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_flat_last_rows_are_no_sign_of_damage(last, mode):
    """A picture that ends in black, grey or white is whole."""
    image = picture(64, 64)
    image.paste(last, (0, 40, 64, 64))
    data = jpeg(image.convert(mode), quality=95)
    pillows = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(pixels_of(data), pillows)
    np.testing.assert_array_equal(pixels_of(data[:-2]), pillows)


@pytest.mark.parametrize(
    ("marker", "bits"),
    [(0xC1, 12), (0xC0, 12), (0xC2, 12), (0xC3, 8), (0xC3, 16), (0xC5, 8), (0xCF, 8), (0xF7, 8)],
)
def test_other_kinds_of_jpeg_are_not_called_broken(marker, bits):
    """12 bits, lossless, hierarchical and JPEG-LS: an unsupported format, with the way out."""
    data = bytearray(WHOLE["colour"])
    frame = data.index(b"\xff\xc0")
    data[frame + 1], data[frame + 4] = marker, bits
    with pytest.raises(UnsupportedFormat, match="try"):
        pixels_of(bytes(data))
