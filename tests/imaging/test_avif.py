"""AVIF: the picture is read, and nothing else of the file; sizes that lie are found out."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import AvifImagePlugin, Image, ImageOps

from imaging.decode import decode_image
from imaging.errors import CorruptImage, ImageError, TooManyPixels, UnsupportedFormat
from imaging.headers import inspect_image
from imaging.heif import boxes_in

MAX_PIXELS = 10**6


def picture(width: int = 128, height: int = 96) -> Image.Image:
    """A picture without hard edges."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 25 + n) + np.cos(y / 15 - n) for n in range(3)]
    return Image.fromarray((np.stack(waves, -1) * 60 + 128).astype(np.uint8))


def saved(image: Image.Image, **options) -> bytes:
    """An AVIF that Pillow writes."""
    file = io.BytesIO()
    image.save(file, "AVIF", speed=9, **options)
    return file.getvalue()


def pillows(data: bytes) -> np.ndarray:
    """What Pillow itself makes of a file: upright, over white, RGB uint8 `[h, w, 3]`."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image.getchannel("A"))
    return np.asarray(white)


def pixels_of(data: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    return decode_image(inspect_image(data, max_pixels=max_pixels)).pixels


WITH_ALPHA = picture()
WITH_ALPHA.putalpha(Image.fromarray(np.mgrid[:96, :128][1].astype(np.uint8) * 2))
KINDS = {
    "colour": saved(picture()),
    "lossless": saved(picture(), quality=100, subsampling="4:4:4"),
    "grey": saved(picture().convert("L")),
    "alpha": saved(WITH_ALPHA),
    "odd sizes": saved(picture(77, 51)),
    "one pixel": saved(picture(1, 1)),
}


# --- a writer of our own, that can lie -------------------------------------------------------


def box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def tile_of(data: bytes) -> tuple[bytes, bytes]:
    """AV1 data and configuration of a picture that Pillow wrote."""
    boxes = dict(boxes_in(data))
    (_, configuration), *_ = [
        found
        for found in boxes_in(dict(boxes_in(dict(boxes_in(boxes[b"meta"][4:]))[b"iprp"]))[b"ipco"])
        if found[0] == b"av1C"
    ]
    return data[data.index(b"mdat") + 4 :], configuration


def avif(
    tiles: list[tuple[bytes, bytes]],
    tile_size: tuple[int, int],
    size: tuple[int, int],
    columns: int,
    *,
    shared: bool = False,
    brand: bytes = b"avif",
) -> bytes:
    """An AVIF whose picture is a grid of tiles, row by row; of one tile, that tile itself."""
    grid = columns > 1 or len(tiles) > columns
    rows = len(tiles) // columns
    items = [(b"av01", data) for data, _ in tiles]
    if grid:
        shape = struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, *size)
        items = [(b"grid", shape), *items]
    properties = [
        box(b"ispe", bytes(4), struct.pack(">II", *size)),
        box(b"ispe", bytes(4), struct.pack(">II", *tile_size)),
        box(b"pixi", bytes(4), b"\3\x08\x08\x08"),
        box(b"av1C", tiles[0][1]),
    ]
    entries = [
        box(b"infe", struct.pack(">IHH4sB", 2 << 24, n, 0, kind, 0))
        for n, (kind, _) in enumerate(items, 1)
    ]
    associations = [
        struct.pack(">HB", n, 2) + b"\1\3"
        if kind == b"grid"
        else struct.pack(">HB", n, 3) + (b"\2\3\x84" if grid else b"\1\3\x84")
        for n, (kind, _) in enumerate(items, 1)
    ]

    def meta(start: int) -> bytes:
        places, at = [], start
        for n, (_, data) in enumerate(items, 1):
            places.append(struct.pack(">HHHII", n, 0, 1, at, len(data)))
            at += 0 if shared and n > 1 else len(data)
        many = len(items)
        numbers = range(2, many + 1)
        reference = box(b"dimg", struct.pack(f">HH{many - 1}H", 1, many - 1, *numbers))
        return box(
            b"meta",
            bytes(4),
            box(b"hdlr", bytes(8), b"pict", bytes(13)),
            box(b"pitm", bytes(4), struct.pack(">H", 1)),
            box(b"iloc", bytes(4), b"\x44\0", struct.pack(">H", many), *places),
            box(b"iinf", bytes(4), struct.pack(">H", many), *entries),
            *([box(b"iref", bytes(4), reference)] if grid else []),
            box(
                b"iprp",
                box(b"ipco", *properties),
                box(b"ipma", bytes(4), struct.pack(">I", many), *associations),
            ),
        )

    head = box(b"ftyp", brand, bytes(4), b"avifmif1miaf")
    data = [item for _, item in items]
    data = data[:2] if shared else data
    return head + meta(len(head) + len(meta(0)) + 8) + box(b"mdat", *data)


QUARTERS = [tile_of(saved(picture(128, 96).rotate(90 * n))) for n in range(4)]
GRID = avif(QUARTERS, (128, 96), (256, 192), 2)


# --- what is read ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_pixels_are_pillows(name):
    """Each kind of AVIF gives the very pixels of Pillow, over white."""
    np.testing.assert_array_equal(pixels_of(KINDS[name]), pillows(KINDS[name]))


def test_lossless_is_close():
    """Nothing is mixed up on the way: at quality 100 the picture is nearly what it was."""
    assert np.abs(pixels_of(KINDS["lossless"]).astype(int) - np.asarray(picture())).max() <= 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(orientation):
    """Turned and mirrored by the file's own properties, all eight ways."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(picture(64, 48), exif=exif)
    file = inspect_image(data, max_pixels=MAX_PIXELS)
    assert file.displayed_size == ((64, 48) if orientation < 5 else (48, 64))
    np.testing.assert_array_equal(decode_image(file).pixels, pillows(data))
    assert file.orientation == orientation


def test_a_grid_is_put_together():
    """Four tiles are one picture."""
    made = pixels_of(GRID)
    np.testing.assert_array_equal(made, pillows(GRID))
    assert made.shape == (192, 256, 3)
    first = pillows(saved(picture(128, 96)))  # at its edges, chroma comes from its neighbours too
    np.testing.assert_array_equal(made[:94, :126], first[:94, :126])


def test_of_a_sequence_the_first_picture_is_read():
    """Further frames are cut away before the decoder sees the file."""
    still = saved(picture())
    moving = saved(picture(), save_all=True, append_images=[picture().rotate(180)] * 3)
    file = inspect_image(moving, max_pixels=MAX_PIXELS)
    assert Image.open(io.BytesIO(moving)).n_frames == 4
    assert Image.open(io.BytesIO(file.data)).n_frames == 1
    made = decode_image(file).pixels
    np.testing.assert_array_equal(made, pillows(moving))
    assert np.abs(made.astype(int) - pixels_of(still)).mean() < 3


def test_only_the_picture_reaches_the_decoder():
    """EXIF, XMP and profiles are cut away."""
    exif = Image.Exif()
    exif[0x010E] = "SECRET"
    data = saved(picture(), exif=exif, xmp=b"SECRET", icc_profile=b"SECRET" * 30)
    assert data.count(b"SECRET") >= 31
    assert b"SECRET" not in inspect_image(data, max_pixels=MAX_PIXELS).data


def test_colours_that_are_not_converted_are_told():
    """A picture in HDR is read as it stands, with a warning; one in sRGB has none."""
    data = KINDS["colour"]
    nclx = data.index(b"nclx")
    assert struct.unpack_from(">HH", data, nclx + 4) == (1, 13)
    hdr = data[: nclx + 4] + struct.pack(">HH", 9, 16) + data[nclx + 8 :]
    (warning,) = decode_image(inspect_image(hdr, max_pixels=MAX_PIXELS)).warnings
    assert warning.code == "profile_ignored"
    assert "9/16" in warning.detail
    assert decode_image(inspect_image(data, max_pixels=MAX_PIXELS)).warnings == ()


# --- what is refused -------------------------------------------------------------------------


def test_the_pixel_limit_is_exact():
    """As many pixels as the limit are decoded; one more is refused."""
    assert pixels_of(KINDS["colour"], 128 * 96).shape == (96, 128, 3)
    for data in (KINDS["colour"], avif(QUARTERS[:1], (128, 96), (128, 96), 1)):
        with pytest.raises(TooManyPixels):
            pixels_of(data, 128 * 96 - 1)
    with pytest.raises(TooManyPixels):
        pixels_of(GRID, 256 * 192 - 1)


@pytest.mark.parametrize("other", ["jpeg", "msf1"])
def test_the_rest_of_the_family_is_unsupported(other):
    """HEIF of other codecs is told from AVIF and HEIC by its brands."""
    data = box(b"ftyp", other.encode(), bytes(4), b"msf1") + bytes(100)
    with pytest.raises(UnsupportedFormat, match="and no others"):
        pixels_of(data)


def test_a_sequence_without_a_picture_is_unsupported():
    """Only tracks: there is no still picture to read."""
    data = box(b"ftyp", b"avis", bytes(4), b"avismsf1") + box(b"moov", bytes(100))
    with pytest.raises(UnsupportedFormat, match="still picture"):
        pixels_of(data)


def test_a_pillow_without_avif_says_so(monkeypatch):
    """Pillow can be built without it."""
    monkeypatch.setattr(AvifImagePlugin, "SUPPORTED", False)
    with pytest.raises(UnsupportedFormat, match="built without AVIF"):
        pixels_of(KINDS["colour"])


BEFORE_ILOC, _, AFTER_ILOC = KINDS["colour"].partition(b"iloc")
LARGE = tile_of(saved(Image.new("RGB", (4096, 4096), "white")))
HOSTILE = {
    "a large frame behind a small size": avif([LARGE], (16, 16), (16, 16), 1),
    "large tiles behind a small grid": avif([LARGE] * 4, (4096, 4096), (100, 100), 2),
    "tiles that share their bytes": avif(QUARTERS * 16, (128, 96), (1024, 768), 8, shared=True),
    "more tiles than pictures have": avif(QUARTERS[:1] * 300, (64, 48), (960, 960), 15),
    "hundreds of frames": avif([(QUARTERS[0][0] * 300, QUARTERS[0][1])], (128, 96), (128, 96), 1),
    "tiles smaller than the grid": avif(QUARTERS, (128, 96), (999, 999), 2),
    "a box of no length": BEFORE_ILOC[:-4] + b"\0\0\0\7iloc" + AFTER_ILOC,
    "millions of boxes": box(b"ftyp", b"avif", bytes(4), b"avif") + box(b"free") * 1_000_000,
    "no AV1": avif([(b"", QUARTERS[0][1])], (128, 96), (128, 96), 1),
    "noise for AV1": avif([(b"\x55" * 999, QUARTERS[0][1])], (128, 96), (128, 96), 1),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_quickly_and_in_little_memory(name, cpu_seconds):
    """Each is refused within 0.2 s and 48 MB."""
    data = HOSTILE[name]
    Path("/proc/self/clear_refs").write_text("5", "ascii")
    before = peak()

    def answer():
        with pytest.raises((CorruptImage, UnsupportedFormat)):
            pixels_of(data)

    assert cpu_seconds(answer) < 0.2
    assert peak() - before < 48e6


def peak() -> int:
    """The most memory this process has had at once, in bytes, since it was last reset."""
    status = Path("/proc/self/status").read_text("ascii")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


@pytest.mark.parametrize("data", [KINDS["alpha"], GRID], ids=["alpha", "grid"])
def test_cut_off_or_damaged_files_never_escape(data):
    """Cut anywhere or with a byte changed: a picture or one of our errors."""
    for length in range(8, len(data), 1 + len(data) // 200):
        with pytest.raises(ImageError):
            pixels_of(data[:length])
    for position in range(0, len(data), 1 + len(data) // 400):
        for flip in (0x01, 0xFF):
            broken = bytearray(data)
            broken[position] ^= flip
            try:
                pixels_of(bytes(broken))
            except ImageError:
                continue
