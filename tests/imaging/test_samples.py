"""Pictures of 1, 3 and 4 channels with 8 and 16 bits: read, resized, written."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from imaging.encode import encode_image
from imaging.errors import CorruptImage, UnsupportedFormat
from imaging.headers import inspect_image
from imaging.samples import RGB, SampleFormat, check_samples, decode_samples, to_8_bits

random = np.random.default_rng(0)


def _decoded(data: bytes, form: SampleFormat, **options):
    return decode_samples(inspect_image(data, max_pixels=10**6), form, **options).pixels


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("bits", [8, 16])
def test_what_is_written_is_read_again_to_the_last_bit(channels, bits):
    """PNG keeps every sample of each form."""
    dtype = np.uint8 if bits == 8 else np.uint16
    pixels = random.integers(0, 2**bits, (13, 21, channels)).astype(dtype)
    form = SampleFormat(channels, 2**bits - 1)
    if (channels, bits) == (4, 8):
        pixels[..., 3] = 255  # colours that nobody sees aren't kept: transparency is over white
    assert np.array_equal(_decoded(encode_image(pixels, "image/png"), form), pixels)


def test_pillow_reads_what_is_written_in_16_bits():
    """Grey to the last bit; of colours the high bytes, which is all that it reads."""
    grey = random.integers(0, 2**16, (9, 7, 1)).astype(np.uint16)
    with Image.open(io.BytesIO(encode_image(grey, "image/png"))) as image:
        assert image.mode == "I;16"
        assert np.array_equal(np.asarray(image), grey[..., 0])
    colours = random.integers(0, 2**16, (9, 7, 3)).astype(np.uint16)
    with Image.open(io.BytesIO(encode_image(colours, "image/png"))) as image:
        assert np.array_equal(np.asarray(image), (colours >> 8).astype(np.uint8))


def test_samples_of_8_bits_are_scaled_so_that_white_is_white():
    """0 stays 0, 255 becomes the maximum."""
    pixels = np.array([[[0], [128], [255]]], np.uint8)
    found = _decoded(encode_image(pixels, "image/png"), SampleFormat(1, 4095))
    assert found.dtype == np.uint16
    assert found.ravel().tolist() == [0, 2056, 4095]


def test_samples_of_16_bits_stay_as_they_are_stored():
    """12 bits in 16 suit a maximum of 4095; what is above it is white."""
    pixels = np.array([[[0], [4095], [5000]]], np.uint16)
    found = _decoded(encode_image(pixels, "image/png"), SampleFormat(1, 4095))
    assert found.ravel().tolist() == [0, 4095, 4095]


def test_colours_become_grey_as_in_pillow():
    """Within a level, of 8 bits."""
    pixels = random.integers(0, 256, (16, 16, 3)).astype(np.uint8)
    found = _decoded(encode_image(pixels, "image/png"), SampleFormat(1, 255))
    wanted = np.asarray(Image.fromarray(pixels).convert("L")).astype(int)
    assert np.abs(found[..., 0] - wanted).max() <= 1


def test_the_orientation_is_applied_to_16_bits_too():
    """As Pillow turns it, for all eight."""
    pixels = np.arange(6, dtype=np.uint16).reshape(2, 3) * 9000
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG", exif=exif)
        found = _decoded(file.getvalue(), SampleFormat(1, 65535))[..., 0]
        eight = _decoded(file.getvalue(), RGB)[..., 0]
        assert np.array_equal((found >> 8).astype(np.uint8), eight)


def test_other_sizes_keep_depth_and_range():
    """A ramp of 16 bits stays one, with more than 256 levels; bars are white."""
    ramp = np.tile(np.linspace(0, 65535, 512).round().astype(np.uint16), (64, 1))[..., None]
    data = encode_image(ramp, "image/png")
    form = SampleFormat(1, 65535)
    smaller = _decoded(data, form, size=(384, 48), fit="stretch")
    assert smaller.shape == (48, 384, 1)
    assert len(np.unique(smaller)) > 256
    assert _decoded(data, form, size=(64, 64), fit="contain")[0, 0, 0] == 65535


def test_what_no_file_has_is_refused():
    """Seven channels come as an array."""
    data = encode_image(np.zeros((4, 4, 3), np.uint8), "image/png")
    with pytest.raises(UnsupportedFormat, match="send 7 as an array"):
        _decoded(data, SampleFormat(7, 255))
    with pytest.raises(UnsupportedFormat, match="not 7"):
        encode_image(np.zeros((4, 4, 7), np.uint8), "image/png")
    with pytest.raises(UnsupportedFormat, match="for image/png"):
        encode_image(np.zeros((4, 4, 1), np.uint16), "image/webp")


@pytest.mark.parametrize(
    ("array", "form", "says"),
    [
        (np.zeros((4, 4, 1)), SampleFormat(1, 255), "not uint8"),
        (np.zeros((4, 4, 1), np.uint8), SampleFormat(1, 65535), r"\.astype\(numpy\.uint16\)"),
        (np.zeros((4, 4, 2), np.uint8), SampleFormat(1, 255), r"\[h, w, 1\]"),
        (np.zeros((4, 4), np.uint8), RGB, r"\[h, w, 3\]"),
        (np.full((4, 4), 4096, np.uint16), SampleFormat(1, 4095), "above 4095"),
    ],
)
def test_an_array_of_another_form_is_refused(array, form, says):
    """In a line that says what to send."""
    with pytest.raises(CorruptImage, match=says):
        check_samples(array, form)


def test_8_bits_of_more_are_rounded():
    """White stays white."""
    assert to_8_bits(np.array([0, 2048, 4095], np.uint16), 4095).tolist() == [0, 128, 255]


def test_a_cut_file_of_16_bits_is_refused():
    """As one of 8 bits is."""
    data = encode_image(random.integers(0, 2**16, (64, 64, 1)).astype(np.uint16), "image/png")
    with pytest.raises(CorruptImage):
        _decoded(data[: len(data) // 2], SampleFormat(1, 65535))
