"""Every kind of image becomes the same 8-bit RGB, and every refusal has its own error."""

from __future__ import annotations

import csv
import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from imaging.decode import decode_image
from imaging.errors import (
    CorruptImage,
    ImageError,
    ImageTooLarge,
    TooManyPixels,
    UnsupportedFormat,
)
from imaging.headers import inspect_image
from imaging.resize import resize

CORPUS = Path(__file__).parents[1] / "data" / "corpus"
MAX_PIXELS = 16_000_000
WHITE, BLACK, RED, GREEN, BLUE = (
    *((255, 255, 255), (0, 0, 0)),
    *((255, 0, 0), (0, 255, 0), (0, 0, 255)),
)


def saved(image: Image.Image, name: str, **options) -> bytes:
    """Return an image file that Pillow writes."""
    file = io.BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


def pixels_of(data: bytes, max_pixels: int = MAX_PIXELS, **options) -> np.ndarray:
    """Inspect and decode; RGB uint8 `[h, w, 3]`."""
    return decode_image(inspect_image(data, max_pixels=max_pixels), **options).pixels


def decoded(data: bytes, **options) -> list:
    """Decode within a generous limit; rows of (red, green, blue)."""
    pixels = pixels_of(data, **options)
    assert pixels.dtype == np.uint8
    return [[tuple(pixel) for pixel in row] for row in pixels.tolist()]


def raw_png(size: tuple[int, int], depth: int, colour: int, rows: bytes, **chunks: bytes) -> bytes:
    """Return a PNG of any bit depth and colour type, some of which Pillow can't write."""

    def chunk(kind: str, body: bytes) -> bytes:
        named = kind.encode() + body
        return struct.pack(">I", len(body)) + named + struct.pack(">I", zlib.crc32(named))

    width, height = size
    stride = len(rows) // height
    filtered = b"".join(b"\0" + rows[n : n + stride] for n in range(0, len(rows), stride))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk("IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
        + b"".join(chunk(kind, body) for kind, body in chunks.items())
        + chunk("IDAT", zlib.compress(filtered))
        + chunk("IEND", b"")
    )


# --- What becomes of each kind of picture ----------------------------------------------------

CORNERS = Image.fromarray(
    np.array([[RED, GREEN, BLUE], [BLACK, WHITE, (9, 99, 199)]], dtype=np.uint8)
)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("BMP", {}),
        ("GIF", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_adobe_deflate"}),
        ("TIFF", {"compression": "packbits"}),
        ("TIFF", {"big_tiff": True}),
    ],
)
def test_lossless_formats_are_exact(name, options):
    """RGB pixels come out of each lossless format as they went in."""
    assert decoded(saved(CORNERS, name, **options)) == decoded(saved(CORNERS, "PNG"))
    np.testing.assert_array_equal(
        pixels_of(saved(CORNERS, name, **options), max_pixels=6), np.asarray(CORNERS)
    )


def test_jpeg_is_close():
    """A JPEG comes out as JPEG allows, upright and in the right colours."""
    image = Image.new("RGB", (40, 24), (200, 100, 50))
    pixels = pixels_of(saved(image, "JPEG", quality=95), max_pixels=960)
    assert np.abs(pixels.astype(int) - np.asarray(image)).max() <= 3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["PNG", "WEBP", "TIFF", "JPEG"])
def test_orientation_is_applied(name, orientation):
    """A picture stored in any of the eight orientations comes out upright."""
    quadrants = np.zeros((32, 48, 3), dtype=np.uint8)  # 16 × 16 blocks, which JPEG keeps apart
    quadrants[:16, :16], quadrants[:16, 16:], quadrants[16:, 16:] = RED, GREEN, BLUE
    # How each orientation is stored, by the table of EXIF: row 0 and column 0 are … of the scene.
    stored = {
        1: quadrants,
        2: quadrants[:, ::-1],  # top, right
        3: quadrants[::-1, ::-1],  # bottom, right
        4: quadrants[::-1],  # bottom, left
        5: quadrants.transpose(1, 0, 2),  # left, top
        6: quadrants.transpose(1, 0, 2)[::-1],  # right, top
        7: quadrants[::-1, ::-1].transpose(1, 0, 2),  # right, bottom
        8: quadrants[::-1].transpose(1, 0, 2),  # left, bottom
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}.get(name, {})
    data = saved(Image.fromarray(np.ascontiguousarray(stored)), name, exif=exif, **options)
    pixels = pixels_of(data)
    assert pixels.shape == quadrants.shape
    assert np.abs(pixels.astype(int) - quadrants).max() <= 3


@pytest.mark.parametrize("orientation", [0, 9, 65_535])
def test_impossible_orientations_are_upright(orientation):
    """An orientation that doesn't exist changes nothing."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert decoded(saved(CORNERS, "PNG", exif=exif)) == decoded(saved(CORNERS, "PNG"))


@pytest.mark.parametrize(
    "directory",
    [b"\xff\xff\x12\1\3\0\1", b"\2\0\x12\1\3\0\1", b"\1\0\x12\1\3\0\xff\xff\xff\xff\6\0\0\0", b""],
)
def test_broken_exif_is_no_reason_to_refuse(directory):
    """EXIF that ends in the middle or lies, which makes Pillow warn, is passed over."""
    exif = b"Exif\0\0II*\0\x08\0\0\0" + directory
    for name in ("PNG", "JPEG", "WEBP"):
        assert decoded(saved(CORNERS, name, exif=exif)) == decoded(saved(CORNERS, name)), name


HALF_RED = Image.fromarray(np.array([[(*RED, 0), (*RED, 128), (*RED, 255)]], dtype=np.uint8))


@pytest.mark.parametrize("name", ["PNG", "WEBP", "TIFF"])
def test_alpha_is_laid_over_white(name):
    """RGBA: transparent is white, half red is pink, opaque red is red."""
    options = {"lossless": True, "exact": True} if name == "WEBP" else {}
    assert decoded(saved(HALF_RED, name, **options)) == [[WHITE, (255, 127, 127), RED]]


def test_grey_alpha_is_laid_over_white():
    """LA: transparent black is white, half black is middle grey."""
    image = Image.fromarray(np.array([[(0, 0), (0, 128), (0, 255)]], dtype=np.uint8), "LA")
    assert decoded(saved(image, "PNG")) == [[WHITE, (127, 127, 127), BLACK]]


@pytest.mark.parametrize("transparency", [0, bytes((0, 255, 128))])
def test_a_palettes_transparency_is_laid_over_white(transparency):
    """Palette with tRNS, one colour or one alpha for each."""
    image = Image.new("P", (3, 1))
    image.putpalette([*RED, *GREEN, *BLACK])
    image.putdata([0, 1, 2])
    last = (127, 127, 127) if transparency else BLACK
    assert decoded(saved(image, "PNG", transparency=transparency)) == [[WHITE, GREEN, last]]


def test_a_gifs_transparency_is_laid_over_white():
    """GIF: the transparent index becomes white."""
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *GREEN])
    image.putdata([0, 1])
    assert decoded(saved(image, "GIF", transparency=0)) == [[WHITE, GREEN]]


def test_what_a_gifs_picture_leaves_uncovered_is_white():
    """A frame smaller than the screen: the rest is transparent, as browsers show it."""
    gif = saved(Image.new("P", (1, 1), 0), "GIF")
    assert decoded(gif) == [[BLACK]]
    wider = gif[:6] + struct.pack("<HH", 3, 2) + gif[10:]
    assert decoded(wider) == [[BLACK, WHITE, WHITE], [WHITE, WHITE, WHITE]]


def test_an_rgb_png_with_a_transparent_colour():
    """RGB with tRNS: that one colour becomes white."""
    assert decoded(saved(CORNERS, "PNG", transparency=RED))[0] == [WHITE, GREEN, BLUE]


@pytest.mark.parametrize(
    ("depth", "colour", "row", "transparent", "expected"),
    [
        (1, 0, b"\x40", b"\0\1", [(0,) * 3, WHITE]),
        (2, 0, b"\x60", b"\0\2", [(85,) * 3, WHITE]),
        (4, 0, b"\x5a", b"\0\5", [WHITE, (170,) * 3]),
        (8, 0, b"\x05\x0a", b"\0\x0a", [(5,) * 3, WHITE]),
        (16, 0, b"\x80\x00\x80\x01", b"\x80\x01", [(128,) * 3, WHITE]),
        (16, 2, b"\x12\x34" * 3 + b"\x56\x78" * 3, b"\x56\x78" * 3, [(0x12,) * 3, WHITE]),
    ],
)
def test_transparent_colours_of_other_depths(depth, colour, row, transparent, expected):
    """The transparent colour is found at every bit depth, where Pillow's own compare fails."""
    data = raw_png((2, 1), depth, colour, row, tRNS=transparent)
    assert decoded(data) == [expected]


def test_16_bit_grey_is_scaled():
    """16-bit grey keeps its high byte; nothing is clipped at 255."""
    samples = np.array([[0, 255, 256, 32768, 65535]], dtype=np.uint16)
    expected = [[(level,) * 3 for level in (0, 0, 1, 128, 255)]]
    assert decoded(saved(Image.fromarray(samples), "PNG")) == expected
    assert decoded(saved(Image.fromarray(samples), "TIFF")) == expected
    big_endian = saved(Image.fromarray(samples.astype(">u2")), "TIFF")
    assert big_endian[:2] == b"MM"
    assert decoded(big_endian) == expected
    assert decoded(saved(Image.fromarray(samples), "TIFF", compression="tiff_lzw")) == expected


def test_16_bit_white_is_zero_is_turned_round():
    """A 16-bit TIFF that counts down from white, which Pillow reads as it stands, is inverted."""
    data = saved(Image.fromarray(np.array([[0, 65535]], dtype=np.uint16)), "TIFF")
    tag = struct.pack("<HHIH", 262, 3, 1, 1)  # photometric interpretation: black is zero
    assert tag in data
    assert decoded(data.replace(tag, struct.pack("<HHIH", 262, 3, 1, 0))) == [[WHITE, BLACK]]


def test_16_bit_colour_is_scaled():
    """16-bit RGB and RGBA keep the high byte of each sample."""
    row = struct.pack(">3H", 0x1234, 0x5678, 0xFFFF)
    assert decoded(raw_png((1, 1), 16, 2, row)) == [[(0x12, 0x56, 0xFF)]]
    assert decoded(raw_png((1, 1), 16, 6, row + b"\xff\xff")) == [[(0x12, 0x56, 0xFF)]]
    assert decoded(raw_png((1, 1), 16, 6, row + b"\0\0")) == [[WHITE]]


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([(0x5678, 0x5678, 0x5678), (0x5678, 0x5678, 0x5679)], [WHITE, (0x56,) * 3]),
        ([(0x56FF, 0x5600, 0x5678), (0x5678, 0x5678, 0x5678)], [(0x56,) * 3, WHITE]),
    ],
)
@pytest.mark.parametrize("interlaced", [False, True])
def test_a_transparent_colour_has_16_bits(samples, expected, interlaced):
    """Of a 16-bit RGB PNG, a pixel is transparent only if its low bytes are those of tRNS too."""
    rows = b"".join(struct.pack(">3H", *sample) for sample in samples)
    data = raw_png((2, 1), 16, 2, rows, tRNS=struct.pack(">3H", 0x5678, 0x5678, 0x5678))
    if interlaced:  # of two pixels, Adam7's first pass has the left one and its sixth the other
        passes = b"".join(b"\0" + rows[n : n + 6] for n in (0, 6))
        header = b"IHDR" + struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 1)
        body = b"IDAT" + zlib.compress(passes)
        chunks = (header, data[data.index(b"tRNS") :][:10], body, b"IEND")
        data = data[:8] + b"".join(
            struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
            for chunk in chunks
        )
    assert decoded(data) == [expected]


# --- Alpha that was never filled, samples that use few of their bits --------------------------


def bmp32(pixels: np.ndarray) -> bytes:
    """A 32-bit BMP whose header says where alpha is; `pixels` are BGRA `[h, w, 4]`."""
    height, width, _ = pixels.shape
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    info = struct.pack("<IiiHHIIiiII", 124, width, -height, 1, 32, 3, 0, 0, 0, 0, 0)
    head = info + masks + b"BGRs" + bytes(124 - len(info) - len(masks) - 4)
    return b"BM" + struct.pack("<IHHI", 138 + pixels.nbytes, 0, 0, 138) + head + pixels.tobytes()


def test_a_bmp_whose_alpha_is_all_zero_is_opaque():
    """Programs that draw into 32-bit bitmaps often leave alpha zero; one value fills it."""
    pixels = np.array([[(0, 0, 255, 0), (255, 0, 0, 0)]], np.uint8)
    assert decoded(bmp32(pixels)) == [[RED, BLUE]]
    pixels[0, 1, 3] = 255
    assert decoded(bmp32(pixels)) == [[WHITE, BLUE]]


def raw_tiff(pixels: np.ndarray, order: str, compression: int = 1) -> bytes:
    """A TIFF of 16-bit samples `[h, w, channels]`, in one strip."""
    height, width, channels = pixels.shape
    strip = pixels.astype(f"{order}u2").tobytes()
    strip = zlib.compress(strip) if compression == 8 else strip
    strip += bytes(len(strip) % 2)
    bits_at = 8 + len(strip)
    tags = [
        *((256, 3, 1, width), (257, 3, 1, height), (258, 3, channels, bits_at)),
        *((259, 3, 1, compression), (262, 3, 1, 2), (273, 4, 1, 8), (277, 3, 1, channels)),
        *((278, 3, 1, height), (279, 4, 1, len(strip))),
        *(((338, 3, 1, 2),) if channels == 4 else ()),
    ]
    directory = struct.pack(order + "H", len(tags))
    for number, kind, count, value in tags:
        short = kind == 3 and count == 1
        field = struct.pack(order + ("HH" if short else "I"), *((value, 0) if short else (value,)))
        directory += struct.pack(order + "HHI", number, kind, count) + field
    bits = struct.pack(f"{order}{channels}H", *[16] * channels)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", bits_at + len(bits))
    return head + strip + bits + directory + bytes(4)


TWELVE_BITS = np.array([[0, 1, 16, 255, 2048, 4095]], np.uint16)
COLOURS_OF_TWELVE = np.stack([TWELVE_BITS, TWELVE_BITS[:, ::-1], TWELVE_BITS // 2], -1)
DEEP = {
    "grey PNG": saved(Image.fromarray(TWELVE_BITS), "PNG"),
    "grey TIFF": saved(Image.fromarray(TWELVE_BITS), "TIFF"),
    "big-endian grey TIFF": saved(Image.fromarray(TWELVE_BITS.astype(">u2")), "TIFF"),
    "LZW grey TIFF": saved(Image.fromarray(TWELVE_BITS), "TIFF", compression="tiff_lzw"),
    "RGB PNG": raw_png((6, 1), 16, 2, COLOURS_OF_TWELVE.astype(">u2").tobytes()),
    "RGBA PNG": raw_png(
        (6, 1), 16, 6, np.insert(COLOURS_OF_TWELVE, 3, 65535, -1).astype(">u2").tobytes()
    ),
    "RGB TIFF": raw_tiff(COLOURS_OF_TWELVE, "<"),
    "big-endian RGB TIFF": raw_tiff(COLOURS_OF_TWELVE, ">"),
    "deflated RGB TIFF": raw_tiff(COLOURS_OF_TWELVE, "<", 8),
    "big-endian deflated RGB TIFF": raw_tiff(COLOURS_OF_TWELVE, ">", 8),
    "RGBA TIFF": raw_tiff(np.insert(COLOURS_OF_TWELVE, 3, 65535, -1), "<"),
}


@pytest.mark.parametrize("name", DEEP)
def test_12_bits_in_16_are_told_and_scaled_when_asked(name):
    """Nearly black as the file says, with a warning; `sample_bits=12` gives the picture."""
    file = inspect_image(DEEP[name], max_pixels=6)
    samples = TWELVE_BITS[..., None].repeat(3, -1) if "grey" in name else COLOURS_OF_TWELVE
    dark = decode_image(file)
    np.testing.assert_array_equal(dark.pixels, samples >> 8)
    (warning,) = dark.warnings
    assert warning.code == "dark_samples"
    assert "sample_bits=12" in warning.detail
    bright = decode_image(file, sample_bits=12)
    np.testing.assert_array_equal(bright.pixels, samples >> 4)
    assert bright.warnings == ()


@pytest.mark.parametrize("largest", [0, 4096, 65535])
def test_black_and_bright_pictures_are_not_told(largest):
    """A picture of 16 bits that is all black, or has one sample above 4095, has no warning."""
    grey = np.array([[0, largest]], np.uint16)
    rows = grey[..., None].repeat(3, -1).astype(">u2").tobytes()
    for data in (saved(Image.fromarray(grey), "PNG"), raw_png((2, 1), 16, 2, rows)):
        assert decode_image(inspect_image(data, max_pixels=2)).warnings == ()


def test_very_low_samples_of_colour_are_told():
    """8 bits in 16, whose high bytes are all zero, are told from black."""
    row = struct.pack(">6H", 0, 1, 255, 4, 5, 6)
    file = inspect_image(raw_png((2, 1), 16, 2, row), max_pixels=2)
    (warning,) = decode_image(file).warnings
    assert "no sample is above 255" in warning.detail
    assert decode_image(file, sample_bits=9).pixels.tolist() == [[[0, 0, 127], [2, 2, 3]]]


def test_samples_above_the_given_bits_are_white():
    """Nothing wraps round: 4096 and more, of 12 bits, is 255; and WhiteIsZero is still turned."""
    samples = Image.fromarray(np.array([[0, 4095, 4096, 65535]], np.uint16))
    assert pixels_of(saved(samples, "PNG"), sample_bits=12)[..., 0].tolist() == [[0, 255, 255, 255]]
    tag = struct.pack("<HHIH", 262, 3, 1, 1)
    turned = saved(samples, "TIFF").replace(tag, struct.pack("<HHIH", 262, 3, 1, 0))
    assert pixels_of(turned, sample_bits=12)[..., 0].tolist() == [[255, 0, 0, 0]]


def test_bits_change_no_other_picture():
    """`sample_bits` is heeded where samples have 16 bits alone."""
    for name in ("PNG", "JPEG", "TIFF", "BMP"):
        data = saved(CORNERS, name)
        np.testing.assert_array_equal(pixels_of(data, sample_bits=12), pixels_of(data))


@pytest.mark.parametrize("bits", [-1, 0, 8, 17])
def test_impossible_bits_are_refused(bits):
    """Samples of 16 bits have 9 to 16."""
    with pytest.raises(ValueError, match="9…16"):
        pixels_of(DEEP["grey PNG"], sample_bits=bits)


def test_bits_of_grey_with_alpha_are_refused():
    """Of 16-bit grey with alpha the low bytes are out of reach: refused, not ignored."""
    data = raw_png((1, 1), 16, 4, b"\x0f\xff\xff\xff")
    assert decoded(data) == [[(15,) * 3]]
    with pytest.raises(UnsupportedFormat, match="sample_bits"):
        pixels_of(data, sample_bits=12)


def test_bilevel_and_grey_become_rgb():
    """1-bit and 8-bit grey have three equal channels."""
    bits = Image.fromarray(np.array([[True, False]]))
    for name in ("PNG", "TIFF", "BMP", "GIF"):
        assert decoded(saved(bits, name)) == [[WHITE, BLACK]], name
    assert decoded(saved(Image.new("L", (1, 1), 77), "PNG")) == [[(77,) * 3]]


def test_fax_is_read():
    """A 1-bit TIFF of group 4 fax has black on white."""
    bits = Image.fromarray(np.eye(16, dtype=bool))
    pixels = pixels_of(saved(bits, "TIFF", compression="group4"), max_pixels=256)
    np.testing.assert_array_equal(pixels[..., 0], np.eye(16) * 255)


@pytest.mark.parametrize("name", ["TIFF", "JPEG"])
def test_cmyk_becomes_rgb(name):
    """CMYK: no ink is white, all of one ink is its complement, and Adobe's inversion is undone."""
    inks = [(0, 0, 0, 0), (0, 255, 255, 0), (0, 0, 0, 255)]
    image = Image.new("CMYK", (48, 16))
    for n, ink in enumerate(inks):
        image.paste(ink, (16 * n, 0, 16 * n + 16, 16))
    pixels = pixels_of(saved(image, name), max_pixels=768)
    for n, expected in enumerate([WHITE, RED, BLACK]):
        assert np.abs(pixels[8, 16 * n + 8].astype(int) - expected).max() <= 3


def test_ycbcr_and_lab_become_rgb():
    """TIFFs in YCbCr and in L*a*b* have the colours they had as RGB."""
    image = Image.new("RGB", (16, 16), (200, 100, 50))
    lab = ImageCms.applyTransform(
        image,
        ImageCms.buildTransform(
            ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
        ),
    )
    for stored in (image.convert("YCbCr"), lab):
        pixels = pixels_of(saved(stored, "TIFF"), max_pixels=256)
        assert np.abs(pixels.astype(int) - (200, 100, 50)).max() <= 3, stored.mode


def test_the_first_of_several_pictures_is_taken():
    """Animations and multi-page files give their first picture."""
    first, second = Image.new("RGB", (4, 4), RED), Image.new("RGB", (4, 4), BLUE)
    for name in ("GIF", "WEBP", "PNG", "TIFF"):
        options = {"lossless": True} if name == "WEBP" else {}
        data = saved(first, name, save_all=True, append_images=[second], **options)
        assert decoded(data) == [[RED] * 4] * 4, name


# --- Limits and errors -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_the_pixel_limit_is_exact(name):
    """As many pixels as the limit are decoded; one more is refused by the limit's name."""
    data = saved(Image.new("RGB", (20, 10)), name)
    assert pixels_of(data, max_pixels=200).shape == (10, 20, 3)
    with pytest.raises(TooManyPixels, match=r"200 pixels; the limit is 199$"):
        pixels_of(data, max_pixels=199)


def test_a_side_is_limited():
    """A side above 65,535 pixels is refused whatever the pixel limit."""
    with pytest.raises(ImageTooLarge, match="65535"):
        pixels_of(saved(Image.new("1", (65_536, 1)), "PNG"))


def test_pillows_own_limit_is_out_of_the_way():
    """Of 90 megapixels Pillow would warn; where our limit allows them, it isn't even asked."""
    small = raw_png((1, 1), 1, 0, b"\0")
    header = b"IHDR" + struct.pack(">II", 10_000, 9_000) + small[24:29]
    data = small[:12] + header + struct.pack(">I", zlib.crc32(header)) + small[33:]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(CorruptImage) as caught:
            pixels_of(data, max_pixels=90_000_000)
    assert "truncated or broken" in str(caught.value)  # it got as far as the missing rows


def test_no_pixels_is_corrupt():
    """A width or height of zero is a broken image."""
    with pytest.raises(CorruptImage):
        pixels_of(raw_png((0, 1), 8, 0, b"\0"), max_pixels=9)


def test_errors_never_quote_the_file():
    """The detail of a decoder's failure is our own sentence."""
    data = saved(CORNERS, "PNG").replace(b"IDAT", b"iDAT")
    with pytest.raises(CorruptImage) as caught:
        pixels_of(data, max_pixels=9)
    assert str(caught.value) == "the PNG image is truncated or broken"


# 32 × 32 and such: rows, columns; otherwise the error.
OUTCOMES = {
    "gofuzz-bmp-6cbce3.bmp": ImageTooLarge,
    "gofuzz-gif-06b7cc.gif": CorruptImage,
    "gofuzz-gif-all-1a14aa.gif": TooManyPixels,
    "gofuzz-gif-all-b4d6e2.gif": CorruptImage,
    "gofuzz-webp-83997e.webp": ImageTooLarge,
    "gofuzz-webp-883551.webp": CorruptImage,
    "imagers-gif-anim-any-disposal.gif": (32, 32),
    "imagers-ico-images-png-32bpp-alpha.ico": UnsupportedFormat,
    "imagers-webp-lossless-images-2-color.webp": (300, 300),
    "mozjpeg-testimgari.jpg": (149, 227),
    "mozjpeg-testorig12.jpg": UnsupportedFormat,
    "pillow-16-bit-binary.pgm": UnsupportedFormat,
    "pillow-16-bit-noise.tif": (32, 32),
    "pillow-apng-chunk-multi-actl.png": (64, 128),
    "pillow-avif-hopper.avif": (128, 128),
    "pillow-bmp-b-reallybig.bmp": ImageTooLarge,
    "pillow-bmp-b-shortfile.bmp": CorruptImage,
    "pillow-bmp-g-pal8topdown.bmp": (64, 127),
    "pillow-crash-0c7e0e.tif": CorruptImage,
    "pillow-drawing.emf": UnsupportedFormat,
    "pillow-hopper-16bit-qtables.jpg": (128, 128),
    "pillow-hopper-orientation-3.webp": (128, 128),
    "pillow-hopper-orientation-8.jpg": (128, 128),
    "pillow-icc-after-SOF.jpg": (10, 10),
    "pillow-libtiff-segfault.tif": TooManyPixels,
    "pillow-mmap-error.bmp": (64, 127),
    "pillow-multipage-multiple-frame-loop.tiff": (10, 10),
    "pillow-pil-sample-cmyk.jpg": (100, 100),
    "pillow-png-decompression-dos.png": (1, 1),
    "pillow-seek-too-large.tif": CorruptImage,
    "pillow-transparent.webp": (150, 200),
    "pngsuite-basi0g16.png": (32, 32),
    "pngsuite-xc9n2c08.png": CorruptImage,
    "pngsuite-xcsn0g01.png": CorruptImage,
    "pngsuite-xdtn0g01.png": CorruptImage,
    "sharp-2x2-fdcce6.png": (2, 2),
    "sharp-corrupt-header.jpg": CorruptImage,
    "sharp-rotating-squares.webp": (80, 80),
    "sharp-truncated.png": CorruptImage,
    "zune-fuzz-jpeg-2a17a9.jpeg": CorruptImage,
    "zune-fuzz-png-efb8f2.png": CorruptImage,
}


@pytest.mark.parametrize("name", OUTCOMES)
def test_nasty_files(name):
    """Each odd or hostile file of other projects' test suites has a known outcome."""
    data = (CORPUS / name).read_bytes()
    try:
        outcome: tuple[int, ...] | type = pixels_of(data).shape[:2]
    except ImageError as error:
        outcome = type(error)
    assert outcome == OUTCOMES[name]


def test_every_nasty_file_names_its_licence():
    """No file is committed without its source and licence, and none is left untested."""
    with (CORPUS / "LICENCES.csv").open(encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table))
    assert {row["file"] for row in rows} == set(OUTCOMES)
    assert {path.name for path in CORPUS.iterdir()} == {*OUTCOMES, "LICENCES.csv"}
    assert all(row["source"] and row["licence"] for row in rows)


# --- Decoding to a size ----------------------------------------------------------------------


def smooth(width: int, height: int) -> Image.Image:
    """Return a picture without hard edges: a few waves in each channel."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 45 + n) + np.cos(y / 35 - n) for n in range(3)]
    return Image.fromarray((np.stack(waves, -1) * 60 + 128).astype(np.uint8))


@pytest.mark.parametrize("fit", ["cover", "contain", "stretch"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_decoding_at_reduced_scale_keeps_the_picture(fit, orientation):
    """A JPEG decoded small and resized differs hardly from one decoded whole and resized."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(smooth(800, 600), "JPEG", quality=95, exif=exif)
    lossless = saved(Image.fromarray(pixels_of(data)), "PNG")
    small = pixels_of(data, size=(48, 32), fit=fit)
    whole = pixels_of(lossless, size=(48, 32), fit=fit)
    assert small.shape == (32, 48, 3)
    error = np.abs(small.astype(float) - whole)
    assert error.mean() < 0.5
    assert error.max() <= 6


@pytest.mark.parametrize(("side", "scale"), [(479, 1), (480, 2), (959, 2), (960, 4)])
def test_a_jpeg_is_decoded_at_a_half_from_three_times_the_size_on(side, scale):
    """And at a quarter from six times on: what is resized is what libjpeg decodes at that scale."""
    data = saved(smooth(side, side), "JPEG", quality=95)
    with Image.open(io.BytesIO(data)) as image:
        image.draft("RGB", (side // scale, side // scale))
        decoded = np.asarray(image)
    expected = resize(decoded, (160, 160), "cover")
    np.testing.assert_array_equal(pixels_of(data, size=(160, 160)), expected)


def test_a_small_jpeg_is_decoded_whole():
    """No scale is dropped where the target is more than half the source."""
    data = saved(smooth(160, 120), "JPEG", quality=95)
    lossless = saved(Image.fromarray(pixels_of(data)), "PNG")
    np.testing.assert_array_equal(
        pixels_of(data, size=(90, 70)),
        pixels_of(lossless, size=(90, 70)),
    )
