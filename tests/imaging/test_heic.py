"""HEIC: read where pi-heif is installed, under the limits and the judging that AVIF has."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imaging import heif_picture
from imaging.decode import decode_image
from imaging.errors import CorruptImage, ImageError, TooManyPixels, UnsupportedFormat
from imaging.headers import inspect_image

MAX_PIXELS = 10**6
FILES = Path(__file__).parents[1] / "data" / "heic"
KINDS = ("colour", "full-chroma", "odd-size", "alpha", "grey", "ten-bit", "several", "grid")


def heic(name: str) -> bytes:
    """A file of the folder."""
    return (FILES / f"{name}.heic").read_bytes()


def pixels_of(data: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    return decode_image(inspect_image(data, max_pixels=max_pixels)).pixels


def libheifs(data: bytes) -> np.ndarray:
    """What libheif makes of the whole file: over white, RGB uint8 `[h, w, 3]`."""
    with Image.open(io.BytesIO(data), formats=("HEIF",)) as image:
        upright = image.convert("RGBA")
    white = Image.new("RGB", upright.size, "white")
    white.paste(upright, mask=upright.getchannel("A"))
    return np.asarray(white)


def waves(width: int, height: int) -> np.ndarray:
    """What the files show, RGB uint8 `[h, w, 3]`."""
    y, x = np.mgrid[:height, :width]
    channels = [np.sin(x / 25 + n) + np.cos(y / 15 - n) for n in range(3)]
    return (np.stack(channels, -1) * 60 + 128).astype(np.uint8)


def with_bitstream(data: bytes, change) -> bytes:
    """A file whose one item has other data, with its length put right."""
    start = data.index(b"mdat") + 4
    item = data[start:]
    new = change(item)
    (length, other) = (struct.pack(">I", len(one)) for one in (item, new))
    assert data[:start].count(length) == 1
    return data[:start].replace(length, other) + new


# --- what is read ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_pixels_are_libheifs(name):
    """Each kind of HEIC gives the very pixels of libheif, over white."""
    np.testing.assert_array_equal(pixels_of(heic(name)), libheifs(heic(name)))


@pytest.mark.parametrize(("name", "size"), [("full-chroma", (128, 96)), ("odd-size", (77, 51))])
def test_pixels_are_those_of_the_picture(name, size):
    """Nothing is mixed up on the way, and a side that HEVC can't code is cut to its length."""
    made = pixels_of(heic(name))
    assert made.shape == (size[1], size[0], 3)
    assert np.abs(made.astype(int) - waves(*size)).mean() < 3


def with_property(data: bytes, place: bytes, kind: bytes, value: int) -> bytes:
    """A file with a property of one byte in the place of another, of which there is one."""
    at = data.index(place) - 4
    (length,) = struct.unpack_from(">I", data, at)
    body = kind + bytes((value,)) + bytes(length - 9)
    return data[: at + 4] + body + data[at + length :]


@pytest.mark.parametrize("turn", range(4))
@pytest.mark.parametrize("mirror", [None, 0, 1])
@pytest.mark.parametrize("places", [(b"colr", b"pixi"), (b"pixi", b"colr")])
def test_orientation_is_applied(turn, mirror, places):
    """Turned to the left by quarters and mirrored, in the order in which the file names both."""
    data = with_property(heic("colour"), places[0], b"irot", turn)
    if mirror is not None:
        data = with_property(data, places[1], b"imir", mirror)
    np.testing.assert_array_equal(pixels_of(data), libheifs(data))
    if mirror is None:
        plain = with_property(heic("colour"), places[0], b"irot", 0)
        np.testing.assert_array_equal(pixels_of(data), np.rot90(pixels_of(plain), turn))


def test_of_several_pictures_the_main_one_is_decoded():
    """The others are cut away before the decoder sees the file."""
    file = inspect_image(heic("several"), max_pixels=MAX_PIXELS)
    assert len(file.data) < len(heic("several")) / 2
    np.testing.assert_array_equal(decode_image(file).pixels, pixels_of(heic("colour")))


def test_a_colour_profile_is_applied():
    """What iPhones write: (200, 120, 60) in Display P3 is (213, 115, 43) in sRGB."""
    made = decode_image(inspect_image(heic("display-p3"), max_pixels=MAX_PIXELS))
    assert np.abs(made.pixels.astype(int) - (213, 115, 43)).max() <= 3
    assert made.warnings == ()


def test_colours_that_are_not_converted_are_told():
    """A picture in HDR is read as it stands, with a warning; one in sRGB has none."""
    data = heic("colour")
    nclx = data.index(b"nclx")
    hdr = data[: nclx + 4] + struct.pack(">HH", 9, 16) + data[nclx + 8 :]
    (warning,) = decode_image(inspect_image(hdr, max_pixels=MAX_PIXELS)).warnings
    assert warning.code == "profile_ignored"
    assert decode_image(inspect_image(data, max_pixels=MAX_PIXELS)).warnings == ()


# --- what is refused -------------------------------------------------------------------------


def test_without_the_package_it_is_said_how_to_get_it(monkeypatch):
    """The extra is named, and AVIF is read all the same."""
    monkeypatch.setattr(heif_picture, "HEIC_IS_READ", False)
    with pytest.raises(UnsupportedFormat, match="needs the extra heic"):
        pixels_of(heic("colour"))
    avif = Path(__file__).parents[1] / "data" / "corpus" / "pillow-avif-hopper.avif"
    assert pixels_of(avif.read_bytes()).shape == (128, 128, 3)


@pytest.mark.parametrize(("name", "pixels"), [("colour", 128 * 96), ("grid", 256 * 192)])
def test_the_pixel_limit_is_exact(name, pixels):
    """As many pixels as the limit are decoded; one more is refused, and nothing is decoded."""
    assert pixels_of(heic(name), pixels).size == 3 * pixels
    with pytest.raises(TooManyPixels):
        inspect_image(heic(name), max_pixels=pixels - 1)


SIZE = struct.pack(">II", 2048, 2048)
APERTURE = struct.pack(">IIII", 77, 1, 51, 1)
HOSTILE = {
    "a large picture behind a small size": heic("large").replace(SIZE, struct.pack(">II", 16, 16)),
    "a small part of a large picture": heic("odd-size")
    .replace(struct.pack(">II", 78, 64), SIZE)
    .replace(APERTURE, struct.pack(">IIII", 1, 1, 1, 1)),
    "a part of no size": heic("odd-size").replace(APERTURE, struct.pack(">IIII", 0, 1, 51, 1)),
    "a part by zero": heic("odd-size").replace(APERTURE, struct.pack(">IIII", 77, 0, 51, 1)),
    "more than there is": heic("odd-size").replace(APERTURE, struct.pack(">IIII", 99, 1, 51, 1)),
    "hundreds of pictures": with_bitstream(heic("colour"), lambda item: item * 300),
    "no bits": with_bitstream(heic("colour"), lambda _: bytes(4)),
    "noise for bits": with_bitstream(heic("colour"), lambda _: b"\x55" * 999),
    "parameters without end": with_bitstream(
        heic("colour"), lambda item: (struct.pack(">I", 3) + b"\x42\1\1") * 999 + item
    ),
    "tiles that share their bytes": heic("hostile-shared-tiles"),
    "more tiles than pictures have": heic("hostile-many-tiles"),
    "large tiles behind a small grid": heic("hostile-large-tiles"),
    "another codec": heic("colour").replace(b"hvc1", b"vvc1"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_before_anything_is_decoded(name, cpu_seconds):
    """By their headers, within 0.05 s."""

    def answer():
        with pytest.raises((CorruptImage, UnsupportedFormat)):
            inspect_image(HOSTILE[name], max_pixels=10**8)

    assert cpu_seconds(answer) < 0.05


@pytest.mark.parametrize("name", ["alpha", "grid", "odd-size", "ten-bit"])
def test_cut_off_or_damaged_files_never_escape(name):
    """Cut anywhere they are refused; with a byte changed, a picture or one of our errors."""
    data = heic(name)
    for length in range(8, len(data), 1 + len(data) // 200):
        with pytest.raises(ImageError):
            pixels_of(data[:length])
    for position in range(0, len(data), 1 + len(data) // 300):
        broken = bytearray(data)
        broken[position] ^= 0xFF
        try:
            pixels_of(bytes(broken))
        except ImageError:
            continue


def test_a_size_that_differs_from_what_is_decoded_is_found_out():
    """A file that says 64 × 48 and holds 128 × 96 pixels is refused."""
    data = heic("colour").replace(struct.pack(">II", 128, 96), struct.pack(">II", 64, 48))
    with pytest.raises(CorruptImage):
        pixels_of(data)
