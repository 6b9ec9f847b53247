"""Pixels → PNG, WebP, JPEG."""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from imaging.errors import SideTooLong, UnsupportedFormat
from imaging.resize import MAX_SIDE

if TYPE_CHECKING:
    from numpy.typing import NDArray

MediaType = Literal["image/png", "image/webp", "image/jpeg"]

# Of PNG's ways, mean of 8 Kodak photographs (768 × 512, 1153 KiB raw), on one core:
#
#     strategy     level   time     size
#     default        1    35 ms   678 KiB
#     default        6    80 ms   657 KiB    (what zlib takes by default)
#     default        9   174 ms   654 KiB
#     filtered       1    34 ms   678 KiB
#     Huffman only   1    20 ms   695 KiB    (no repeats: bad for flat drawings)
#     run-length     1    24 ms   687 KiB    ← 3× as fast as the default for 5 % more bytes
#
# WebP at quality 90: method 0 14 ms and 107 KiB, 2 22 ms and 101 KiB, 4 (libwebp's default)
# 43 ms and 101 KiB, 6 122 ms and 98 KiB. JPEG takes 2 ms whatever one asks of it.
_PNG_RUN_LENGTH = 3  # zlib's Z_RLE
_WEBP_METHOD = 2

_LONGEST_SIDE = {"image/webp": 16_383, "image/jpeg": 65_500, "image/png": MAX_SIDE}


def encode_image(pixels: NDArray[Any], media_type: MediaType, quality: int = 90) -> bytes:
    """Encode an image.

    Args:
        pixels: RGB uint8 `[h, w, 3]`; grey `[h, w, 1]`; RGBA `[h, w, 4]`, which JPEG shows over
            white. PNG takes uint16 too and holds its 16 bits.
        media_type: `image/png` (lossless), `image/webp` or `image/jpeg` (lossy).
        quality: 1 (worst) … 100 (best) of the lossy two; PNG has none.

    Raises:
        ValueError: `quality` is not within 1…100.
        SideTooLong: a side is longer than the format allows.
        UnsupportedFormat: no picture has so many channels, or samples of 16 bits aren't for PNG.
    """
    if not 1 <= quality <= 100:
        raise ValueError("quality must be within 1…100")
    if max(pixels.shape[:2]) > _LONGEST_SIDE[media_type]:
        raise SideTooLong(
            f"{media_type} allows at most {_LONGEST_SIDE[media_type]} pixels on a side; "
            "ask for image/png"
        )
    if pixels.shape[2] not in (1, 3, 4):
        raise UnsupportedFormat(
            f"pictures have 1, 3 or 4 channels, not {pixels.shape[2]}: ask for an array, npy"
        )
    if pixels.dtype == np.uint16:
        if media_type != "image/png":
            raise UnsupportedFormat("samples of 16 bits are for image/png")
        return _png_of_16_bits(pixels)
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    if image.mode == "RGBA" and media_type == "image/jpeg":
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image.getchannel("A"))
        image = white
    file = io.BytesIO()
    if media_type == "image/png":
        image.save(file, "PNG", compress_level=1, compress_type=_PNG_RUN_LENGTH)
    elif media_type == "image/webp":
        image.save(file, "WEBP", quality=quality, method=_WEBP_METHOD)
    else:
        image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def _png_of_16_bits(pixels: NDArray[np.uint16]) -> bytes:
    """A PNG file of uint16 `[h, w, 1, 3 or 4]`: Pillow writes 16 bits of grey alone.

    PNG, third edition, sections 5 and 11: https://www.w3.org/TR/png-3/.
    """

    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    height, width, channels = pixels.shape
    colour = {1: 0, 3: 2, 4: 6}[channels]
    samples = pixels.astype(">u2").view(np.uint8).reshape(height, -1)
    # Each byte less the one of the pixel before (filter 1): smooth pictures shrink by a third.
    step = 2 * channels
    rows = np.empty((height, 1 + samples.shape[1]), np.uint8)
    rows[:, 0] = 1
    rows[:, 1 : 1 + step] = samples[:, :step]
    rows[:, 1 + step :] = samples[:, step:] - samples[:, :-step]
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows.tobytes(), 1))
        + chunk(b"IEND", b"")
    )
