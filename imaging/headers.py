"""Image files taken apart before any decoder sees them.

A few hundred hostile bytes can make an image decoder allocate gigabytes or work for minutes, and
much of that happens while a file is merely being opened. So each format is walked
here first, with time and memory bounded by the length of the upload, to learn what the limits
are judged by (format, width, height) and the orientation. What the decoder is then given is the
picture alone: comments, profiles, EXIF, thumbnails and further frames or pages are cut away. Of
WebP alone the decoder gets the file as it is.

What this keeps from Pillow, each of which has cost it gigabytes or minutes:

- JPEG: millions of 4-byte segments (Pillow keeps ~200 bytes for each), EXIF in thousands of
  pieces (joined in quadratic time), thousands of scans, each a pass over the whole picture.
- PNG: millions of empty chunks, compressed text, animation.
- GIF and WebP: a frame or canvas of 4 gigapixels, allocated while *opening*; for GIF, comments
  without end.
- TIFF: a directory whose thousands of tags all point at the same megabytes; pages in a ring.
- AVIF and HEIC: frames larger than the file says, hundreds of frames before the one that is shown,
  grids of tiles that share their bytes, sequences.
- Any: metadata so odd that Pillow warns, which would fail where warnings are errors.

ICC profiles are among what is cut, and come back by themselves: see `imaging.profiles`. Other words
about colour are not heeded, as in most viewers: gamma and primaries of PNG (gAMA, cHRM) and of
BMP, and what EXIF says of Adobe RGB. Code points (CICP) of other colours than sRGB's are told in a
warning.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Any

from imaging.errors import (
    CorruptImage,
    EmptyFile,
    ImageTooLarge,
    TooManyPixels,
    UnsupportedFormat,
)
from imaging.heif_picture import read_heif
from imaging.image_file import ImageFile
from imaging.jpeg import read_jpeg
from imaging.png import read_png
from imaging.profiles import MAX_PROFILE_BYTES
from imaging.resize import MAX_SIDE
from imaging.tiff import read_exif_orientation, read_tiff

if TYPE_CHECKING:
    from collections.abc import Callable

# Blocks or chunks walked in one file.
_MAX_PARTS = 65_536

# Of a profile that is too large, only so much is kept as shows that it is.
_ENOUGH = MAX_PROFILE_BYTES + 1

# Pillow decodes run-length BMPs in Python, at about 0.4 s per MiB.
_MAX_RLE_BMP_BYTES = 2**20


def inspect_image(data: bytes, *, max_pixels: int) -> ImageFile:
    """Judge an image file by its content and its header. Nothing is decoded.

    Args:
        data: the file as it came; nothing about it is trusted.
        max_pixels: most pixels (width × height) of the stored image.

    Raises:
        EmptyFile: `data` is empty.
        UnsupportedFormat: none of the formats, or a variant of TIFF that has no definite
            8-bit meaning or whose compression is not on the list.
        ImageTooLarge: more than `max_pixels`, or a side above 65,535 pixels.
        CorruptImage: the file ends within its headers, contradicts or exceeds its format, or has
            fewer bits than so many pixels need.
    """
    file = _read_header(data)
    check_size(file.width, file.height, max_pixels)
    if file.cut_short:
        raise CorruptImage(f"the {file.format} image is truncated: it has fewer bits than blocks")
    return file


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Refuse an image of no pixels, of more than `max_pixels`, or with a side above 65,535.

    Raises:
        CorruptImage: a side is not positive.
        ImageTooLarge: one of the two limits is passed.
    """
    if width < 1 or height < 1:
        raise CorruptImage("the image has no pixels: its width or height is not positive")
    if max(width, height) > MAX_SIDE:
        raise ImageTooLarge(
            f"the image is {width} × {height} pixels; no side may be above {MAX_SIDE}"
        )
    if width * height > max_pixels:
        raise TooManyPixels(
            f"the image has {width} × {height} = {width * height} pixels; the limit is {max_pixels}"
        )


def _read_header(data: bytes) -> ImageFile:
    if not data:
        raise EmptyFile("the image is empty: 0 bytes")
    for magic, name, read in _FORMATS:
        if magic.match(data):
            try:
                return read(data)
            except (struct.error, IndexError) as error:
                raise CorruptImage(f"the {name} file ends within its headers") from error
    raise UnsupportedFormat("not a PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF or HEIC image")


def _too_many(name: str, parts: str) -> CorruptImage:
    return CorruptImage(f"the {name} file has more than {_MAX_PARTS:,} {parts}")


# --- WebP ----------------------------------------------------------------------------------


def _read_webp(data: bytes) -> ImageFile:
    kind = data[12:16]
    if kind == b"VP8 ":
        if data[23:26] != b"\x9d\x01\x2a":
            raise CorruptImage("the WebP file doesn't begin with a key frame")
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
        # In a key frame a macroblock's modes are coded with fixed probabilities, RFC 6386 section
        # 11.2: its kind, luma and chroma take 3.4 bits at the least, whatever is in it.
        macroblocks = -(-width // 16) * -(-height // 16)
        cut_short = (len(data) - 20) * 8 < 3 * macroblocks
        return ImageFile("WEBP", width, height, data, cut_short=cut_short)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return ImageFile("WEBP", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, data)
    if kind == b"VP8X":
        low_width, high_width, low_height, high_height = struct.unpack_from("<HBHB", data, 24)
        width, height = (low_width | high_width << 16) + 1, (low_height | high_height << 16) + 1
        return ImageFile("WEBP", width, height, data, **_webp_metadata(data))
    raise CorruptImage("the WebP file begins with an unknown chunk")


def _webp_metadata(data: bytes) -> dict[str, Any]:
    found: dict[str, Any] = {}
    position = 12
    for _ in range(_MAX_PARTS):  # what follows so many frames of an animation is not looked at
        if position + 8 > len(data):
            break
        (length,) = struct.unpack_from("<I", data, position + 4)
        kind = data[position : position + 4]
        if kind == b"EXIF":
            exif = data[position + 8 : position + 8 + length]
            found["orientation"] = read_exif_orientation(exif.removeprefix(b"Exif\0\0"))
            break
        if kind == b"ICCP":
            found["profile"] = data[position + 8 : position + 8 + min(length, _ENOUGH)]
        position += 8 + length + length % 2
    return found


# --- GIF -----------------------------------------------------------------------------------

_GIF_BLOCK = re.compile(rb"[!,;]")


def _read_gif(data: bytes) -> ImageFile:
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    position = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    head = data[:position]
    control = b""
    parts = 0
    while True:
        found = _GIF_BLOCK.search(data, position)
        if found is None or found[0] == b";":
            raise CorruptImage("the GIF file holds no picture")
        position = found.start()
        if found[0] == b",":
            break
        if data[position + 1] == 0xF9:
            # Of the graphic control only the transparent colour is kept: how a frame is disposed
            # of matters to the next one alone, and its delay not at all.
            control = b"!\xf9\x04" + bytes((data[position + 3] & 1, 0, 0, data[position + 6], 0))
        position += 2
        while data[position]:
            position += 1 + data[position]
            parts += 1
            if parts > _MAX_PARTS:
                raise _too_many("GIF", "blocks")
        position += 1
    left, top, columns, rows = struct.unpack_from("<4H", data, position + 1)
    right, bottom = left + columns, top + rows
    width, height = max(width, right), max(height, bottom)
    covers = (left, top, right, bottom) == (0, 0, width, height)
    frame = None if covers else (left, top, right, bottom)
    return ImageFile("GIF", width, height, head + control + data[position:], frame=frame)


# --- BMP -----------------------------------------------------------------------------------


def _read_bmp(data: bytes) -> ImageFile:
    (header,) = struct.unpack_from("<I", data, 14)
    if header == 12:
        width, height = struct.unpack_from("<HH", data, 18)
        return ImageFile("BMP", width, height, data)
    width, height, _, _, compression = struct.unpack_from("<iiHHI", data, 18)
    if compression in {1, 2} and len(data) > _MAX_RLE_BMP_BYTES:
        raise CorruptImage("run-length BMP files above 1 MiB are not decoded")
    return ImageFile("BMP", width, abs(height), data)  # a negative height: rows from the top


_FORMATS: tuple[tuple[re.Pattern[bytes], str, Callable[[bytes], ImageFile]], ...] = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "PNG", read_png),
    (re.compile(rb"\xff\xd8\xff"), "JPEG", read_jpeg),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "WebP", _read_webp),
    (re.compile(rb"GIF8[79]a"), "GIF", _read_gif),
    (re.compile(rb"BM"), "BMP", _read_bmp),
    (re.compile(rb"II[*+]\0|MM\0[*+]"), "TIFF", read_tiff),
    (re.compile(rb"....ftyp", re.DOTALL), "AVIF or HEIC", read_heif),
)
