"""Hostile image files: each is judged in moments, in little memory, before any decoder sees it."""

from __future__ import annotations

import dataclasses
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imaging.decode import decode_image
from imaging.errors import CorruptImage, EmptyFile, ImageTooLarge, UnsupportedFormat
from imaging.headers import inspect_image

MAX_PIXELS = 16_000_000


def pixels_of(data: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Inspect and decode; RGB uint8 `[h, w, 3]`."""
    return decode_image(inspect_image(data, max_pixels=max_pixels)).pixels


def saved(image: Image.Image, name: str, **options) -> bytes:
    """Return an image file that Pillow writes."""
    file = io.BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


GREY = Image.new("L", (16, 16), 100)
RGB = Image.new("RGB", (16, 16), (10, 120, 230))


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """Return one PNG chunk."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_with(chunks: bytes, size: tuple[int, int] | None = None) -> bytes:
    """Return a PNG with `chunks` after its header."""
    data = saved(GREY, "PNG")
    header = data[8:33]
    if size:
        header = png_chunk(b"IHDR", struct.pack(">II", *size) + data[24:29])
    return data[:8] + header + chunks + data[33:]


def jpeg_with(segments: bytes, size: tuple[int, int] | None = None, **options) -> bytes:
    """Return a JPEG with `segments` after its SOI."""
    data = saved(RGB, "JPEG", **options)
    if size:
        frame = data.index(b"\xff\xc2" if options.get("progressive") else b"\xff\xc0")
        data = data[: frame + 5] + struct.pack(">HH", size[1], size[0]) + data[frame + 9 :]
    return data[:2] + segments + data[2:]


def scans_jpeg(scans: int, size: tuple[int, int]) -> bytes:
    """Return a progressive JPEG whose last scan is repeated."""
    data = jpeg_with(b"", size, progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * scans + data[-2:]


def gif_with(blocks: bytes, screen: tuple[int, int], frame: tuple[int, int, int, int]) -> bytes:
    """Return a GIF of one frame, one pixel's worth of data."""
    head = b"GIF89a" + struct.pack("<HH", *screen) + b"\x80\0\0" + b"\xff\0\0\0\0\xff"
    return head + blocks + b"," + struct.pack("<4H", *frame) + b"\0\2\2\x44\1\0;"


def tiff_with(*tags: tuple[int, int, int, int], big: bool = False, body: bytes = b"") -> bytes:
    """Return a TIFF of a 16 × 16 grey page; `tags` are (number, type, count, value or offset)."""
    base = {256: (3, 1, 16), 257: (3, 1, 16), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1)}
    start = 16
    base |= {273: (4, 1, start), 277: (3, 1, 1), 278: (3, 1, 16), 279: (4, 1, 256)}
    entries = [(n, *rest) for n, rest in base.items() if n not in {tag[0] for tag in tags}]
    entries = sorted([*entries, *tags])
    pixels = bytes(range(256))
    at = start + len(pixels) + len(body)
    if big:
        head = b"II+\0\x08\0\0\0" + struct.pack("<Q", at)
        directory = struct.pack("<Q", len(entries)) + b"".join(
            struct.pack("<HHQQ", *entry) for entry in entries
        )
        return head + pixels + body + directory + bytes(8)
    head = b"II*\0" + struct.pack("<I", at) + bytes(8)
    directory = struct.pack("<H", len(entries)) + b"".join(
        struct.pack("<HHII", *entry) for entry in entries
    )
    return head + pixels + body + directory + bytes(4)


def webp_with(canvas: tuple[int, int], flags: int = 2) -> bytes:
    """Return an animated WebP that claims a canvas."""
    size = struct.pack("<I", canvas[0] - 1)[:3] + struct.pack("<I", canvas[1] - 1)[:3]
    chunks = b"VP8X" + struct.pack("<IB3x", 10, flags) + size
    chunks += b"ANIM" + struct.pack("<IIH", 6, 0, 0)
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks


def bmp_with(size: tuple[int, int], compression: int = 0, body: bytes = b"") -> bytes:
    """Return an 8-bit grey BMP."""
    info = struct.pack("<IiiHHIIiiII", 40, *size, 1, 8, compression, len(body), 0, 0, 256, 0)
    palette = b"".join(bytes((n, n, n, 0)) for n in range(256))
    return b"BM" + struct.pack("<IHHI", 1078 + len(body), 0, 0, 1078) + info + palette + body


def vm_hwm() -> int:
    """Return the most memory this process has had at once, in bytes, since it was last reset."""
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise AssertionError


def one_tile_tiff(side: int) -> bytes:
    """Return a TIFF of one deflated tile, far larger than the picture and all there."""
    tile = zlib.compress(bytes(side * side), 1)
    tags = [(259, 3, 1, 8), (322, 4, 1, side), (323, 4, 1, side)]
    return tiff_with(*tags, (324, 4, 1, 272), (325, 4, 1, len(tile)), body=tile)


BOMBS = {
    "PNG of 65,500 × 65,500": (lambda: png_with(b"", (65_500, 65_500)), ImageTooLarge),
    "PNG of 4 × 2³¹": (lambda: png_with(b"", (4, 2**31 - 1)), ImageTooLarge),
    "JPEG of 36 megapixels": (lambda: jpeg_with(b"", (6000, 6000)), ImageTooLarge),
    "GIF screen": (lambda: gif_with(b"", (65_535, 65_535), (0, 0, 1, 1)), ImageTooLarge),
    "GIF frame": (lambda: gif_with(b"", (1, 1), (0, 0, 65_535, 65_535)), ImageTooLarge),
    "GIF frame far away": (lambda: gif_with(b"", (1, 1), (65_000, 65_000, 1, 1)), ImageTooLarge),
    "GIF disposal": (
        lambda: gif_with(b"!\xf9\4\x08\0\0\0\0", (1, 1), (0, 0, 65_535, 65_535)),
        ImageTooLarge,
    ),
    "WebP canvas": (lambda: webp_with((16_384, 16_384)), ImageTooLarge),
    "WebP canvas of 2⁴⁸": (lambda: webp_with((2**24, 2**24)), ImageTooLarge),
    "TIFF of 2⁶²": (
        lambda: tiff_with((256, 4, 1, 2**31), (257, 4, 1, 2**31)),
        ImageTooLarge,
    ),
    "BMP of 2⁶⁰": (lambda: bmp_with((2**30, 2**30)), ImageTooLarge),
    "PNG of 700,000 empty chunks": (
        lambda: png_with(png_chunk(b"teXt", b"") * 700_000),
        CorruptImage,
    ),
    "PNG text that inflates 1000 times": (
        lambda: png_with(png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(50_000_000))) * 9),
        None,
    ),
    "PNG profile that inflates 1000 times": (
        lambda: png_with(png_chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(500_000_000)))),
        None,
    ),
    "JPEG with profiles in 10,000 pieces": (
        lambda: jpeg_with((b"\xff\xe2\3\xf8ICC_PROFILE\0\1\1" + bytes(1000)) * 10_000),
        None,
    ),
    "JPEG of 2 million segments": (
        lambda: jpeg_with(b"\xff\xe5\0\2" * 2_000_000),
        CorruptImage,
    ),
    "JPEG of 2 million markers": (lambda: jpeg_with(b"\xff\xd0" * 2_000_000), CorruptImage),
    "JPEG with EXIF in 10,000 pieces": (
        lambda: jpeg_with((b"\xff\xe1\3\xeaExif\0\0" + bytes(994)) * 10_000),
        None,
    ),
    "JPEG with 8 MB of junk": (lambda: jpeg_with(b"\xff\xe5\0\2" + bytes(8_000_000)), None),
    "JPEG of 5000 scans": (lambda: scans_jpeg(5000, (3000, 3000)), CorruptImage),
    "JPEG of 100 megapixels' scans": (lambda: scans_jpeg(50_000, (16, 16)), CorruptImage),
    "GIF with 8 MB of comments": (
        lambda: gif_with(b"!\xfe" + b"\1a" * 4_000_000 + b"\0", (1, 1), (0, 0, 1, 1)),
        CorruptImage,
    ),
    "GIF with 8 MB of junk": (
        lambda: gif_with(b"\0" * 8_000_000, (1, 1), (0, 0, 1, 1)),
        None,
    ),
    "TIFF whose 4000 tags share 2 MB": (
        lambda: tiff_with(*((n, 1, 2_000_000, 16) for n in range(1000, 5000)), body=bytes(2**21)),
        None,
    ),
    "TIFF whose picture tags share 16 MB": (
        lambda: tiff_with(
            *((n, 1, 2**24, 16) for n in (266, 284, 292, 293, 317, 338, 347)), body=bytes(2**24)
        ),
        CorruptImage,
    ),
    "TIFF of 65,535 tags": (
        lambda: tiff_with(*((n, 3, 1, 1) for n in range(500, 60_000))),
        CorruptImage,
    ),
    "TIFF of a million strips": (
        lambda: tiff_with((273, 4, 1_000_000, 272), (278, 3, 1, 1), body=bytes(4_000_000)),
        CorruptImage,
    ),
    "TIFF of one 144-megapixel tile": (lambda: one_tile_tiff(12_000), CorruptImage),
    "TIFF of LZMA": (lambda: tiff_with((259, 3, 1, 34925)), UnsupportedFormat),
    "TIFF directory beyond the end": (lambda: b"II+\0\x08\0\0\0" + b"\xff" * 8, CorruptImage),
    "run-length BMP of 2 MB": (
        lambda: bmp_with((1000, 1000), 1, b"\0\0" * 1_000_000),
        CorruptImage,
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_answered_quickly_and_in_little_memory(name, cpu_seconds):
    """Each bomb gives its error, or its harmless picture, within 0.2 s and 48 MB."""
    build, error = BOMBS[name]
    data = build()
    Path("/proc/self/clear_refs").write_text("5", "ascii")
    before = vm_hwm()

    def answer():
        if error is None:
            assert pixels_of(data).size
        else:
            with pytest.raises(error):
                pixels_of(data)

    assert cpu_seconds(answer) < 0.2
    assert vm_hwm() - before < 48e6


def test_a_cut_off_picture_within_the_limit_is_refused_quickly(cpu_seconds):
    """A 600-byte JPEG of 36 megapixels, where so many are allowed, is known to be cut short."""
    data = jpeg_with(b"", (6000, 6000))

    def answer():
        with pytest.raises(CorruptImage, match="fewer bits"):
            pixels_of(data, max_pixels=64_000_000)

    assert cpu_seconds(answer) < 0.05


@pytest.mark.parametrize("side", [16, 500, 1600])
def test_a_cut_off_webp_is_known_by_its_length(side):
    """Flat pictures, the smallest there are, are long enough; for 16 times the pixels not."""
    for quality in (0, 90):
        data = saved(Image.new("RGB", (side, side), "white"), "WEBP", quality=quality, method=6)
        assert data[12:16] == b"VP8 "
        assert pixels_of(data).shape == (side, side, 3)
    claimed = data[:26] + struct.pack("<HH", 4 * side + 256, 4 * side + 256) + data[30:]
    with pytest.raises(CorruptImage, match="fewer bits"):
        inspect_image(claimed, max_pixels=10**8)


def test_what_decoders_do_not_need_is_cut_away():
    """EXIF, profiles, comments and thumbnails don't reach the decoder; the picture does."""
    exif = Image.Exif()
    exif[0x010E] = "SECRET"
    extras = {"exif": exif, "icc_profile": b"SECRET" * 10}
    for name in ("PNG", "JPEG"):
        data = saved(RGB, name, **extras, comment=b"SECRET")
        assert b"SECRET" in data
        file = inspect_image(data, max_pixels=MAX_PIXELS)
        assert b"SECRET" not in file.data
        np.testing.assert_array_equal(
            pixels_of(data, max_pixels=256), np.asarray(Image.open(io.BytesIO(data)))
        )


def test_further_pages_are_cut_off():
    """Of a TIFF of three pages, the decoder is given the first alone."""
    data = saved(GREY, "TIFF", save_all=True, append_images=[GREY, GREY])
    for file, pages in ((data, 3), (inspect_image(data, max_pixels=MAX_PIXELS).data, 1)):
        with Image.open(io.BytesIO(file)) as image:
            assert image.n_frames == pages


def test_premultiplied_grey_is_read():
    """A TIFF of grey with premultiplied alpha, which Pillow converts to nothing else."""
    tags = (258, 3, 2, 8 | 8 << 16), (277, 3, 1, 2), (338, 3, 1, 1), (279, 4, 1, 512)
    data = tiff_with(*tags, body=bytes(256))  # twice 0…255, then transparent
    pixels = pixels_of(data, max_pixels=256)
    assert (pixels[8:] == 255).all()
    assert not (pixels[:8] == 255).all()


def test_no_other_plugin_is_asked():
    """A plugin that would read anything never sees a PNG of a colour type that doesn't exist."""
    data = (Path(__file__).parents[1] / "data" / "corpus" / "pngsuite-xc9n2c08.png").read_bytes()
    asked = []
    Image.register_open("ANYTHING", GREY.__class__, asked.append)
    try:
        with pytest.raises(CorruptImage):
            pixels_of(data, max_pixels=1024)
    finally:
        Image.ID.remove("ANYTHING")
        del Image.OPEN["ANYTHING"]
    assert not asked


def test_a_size_that_the_decoder_reads_otherwise_is_refused():
    """Should Pillow ever see another size than was judged, the file is refused, not decoded."""
    wrong = dataclasses.replace(inspect_image(WHOLE["PNG"], max_pixels=MAX_PIXELS), width=15)
    with pytest.raises(CorruptImage, match="contradicts"):
        decode_image(wrong)


def test_big_tiff_is_read():
    """A BigTIFF gives the same picture as the TIFF."""
    expected = np.arange(256).reshape(16, 16, 1).repeat(3, axis=2)
    for big in (False, True):
        np.testing.assert_array_equal(
            pixels_of(tiff_with(big=big), max_pixels=256), expected, err_msg=f"{big}"
        )


@pytest.mark.parametrize(
    "tag",
    [(258, 3, 1, 32), (258, 3, 1, 64), (339, 3, 1, 2), (339, 3, 1, 3)],
    ids=["32 bits", "64 bits", "signed", "float"],
)
def test_tiff_samples_without_a_white_are_refused(tag):
    """32-bit, signed and float samples have no definite 8-bit meaning: 415, with the reason."""
    with pytest.raises(UnsupportedFormat, match="scale"):
        pixels_of(tiff_with(tag), max_pixels=256)


@pytest.mark.parametrize(
    "data",
    [
        b"%PDF-1.7",
        b"%!PS-Adobe-3.0 EPSF-3.0",
        b"<svg/>",
        b"P5 1 1 255\n\0",
        b"\0",
        b"GIF88a",
        b"RIFF",
    ],
)
def test_other_formats_are_refused(data):
    """What isn't one of the six formats is refused as such, PostScript first of all."""
    with pytest.raises(UnsupportedFormat):
        inspect_image(data, max_pixels=MAX_PIXELS)


def test_no_bytes_are_refused():
    """An empty file is refused as such."""
    with pytest.raises(EmptyFile):
        inspect_image(b"", max_pixels=MAX_PIXELS)


WHOLE = {
    "PNG": saved(RGB, "PNG"),
    "JPEG": saved(RGB, "JPEG"),
    "WEBP": saved(RGB, "WEBP"),
    "lossless WEBP": saved(RGB, "WEBP", lossless=True),
    "GIF": saved(RGB, "GIF"),
    "BMP": saved(RGB, "BMP"),
    "TIFF": saved(RGB, "TIFF"),
    "LZW TIFF": saved(RGB, "TIFF", compression="tiff_lzw"),
}


@pytest.mark.parametrize("name", WHOLE)
def test_truncations_never_escape(name):
    """Cut off anywhere, a file is refused with one of our errors; or is whole all the same."""
    data = WHOLE[name]
    refused = 0
    for length in range(1, len(data)):
        try:
            pixels_of(data[:length])
        except (CorruptImage, UnsupportedFormat, ImageTooLarge):
            refused += 1
    # The last few bytes of some formats are but an end mark.
    assert refused >= len(data) - 15


@pytest.mark.parametrize("name", WHOLE)
def test_flipped_bytes_never_escape(name):
    """Any byte changed: a picture or one of our errors, never another exception."""
    data = WHOLE[name]
    for position in range(0, len(data), 1 + len(data) // 250):
        for flip in (0x01, 0xFF):
            broken = bytearray(data)
            broken[position] ^= flip
            try:
                pixels_of(bytes(broken), max_pixels=100_000)
            except (CorruptImage, UnsupportedFormat, ImageTooLarge):
                continue
