"""PNG chunks: the picture's size, orientation and profile, and the file without the rest.

PNG, third edition: https://www.w3.org/TR/png-3/.
"""

from __future__ import annotations

import struct
import zlib

from imaging.errors import CorruptImage
from imaging.image_file import ImageFile
from imaging.profiles import MAX_PROFILE_BYTES
from imaging.tiff import read_exif_orientation

# A 32 MiB PNG in 512-byte chunks has as many; a Python loop over them takes about 50 ms.
_MAX_CHUNKS = 65_536

_PICTURE = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}


def read_png(data: bytes) -> ImageFile:
    """Read what a PNG file says of its picture. Nothing is decoded.

    Args:
        data: a file that begins as PNG files do.

    Raises:
        CorruptImage: a chunk that is needed is damaged, or there are too many.
        struct.error, IndexError: the file ends within its header.
    """
    if data[12:16] != b"IHDR":
        raise CorruptImage("the PNG file doesn't begin with its header")
    width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
    orientation = 1
    transparent = profile = cicp = None
    is_srgb = False
    view = memoryview(data)
    kept: list[memoryview | bytes] = [view[:8]]
    position = 8
    for _ in range(_MAX_CHUNKS):
        if position + 8 > len(data):  # no IEND: whether the picture is whole, the decoder finds
            kept.append(view[position:])
            break
        (length,) = struct.unpack_from(">I", data, position)
        kind = data[position + 4 : position + 8]
        end = position + 12 + length
        if kind == b"eXIf":
            orientation = read_exif_orientation(data[position + 8 : end - 4])
        elif kind == b"iCCP":
            profile = _profile(data[position + 8 : end - 4])
        elif kind == b"sRGB":
            is_srgb = True
        elif kind == b"cICP":
            cicp = data[position + 8], data[position + 9]
        elif kind == b"tRNS" and (depth, colour) == (16, 2):
            # Pillow narrows the samples to 8 bits before it compares.
            transparent = struct.unpack_from(">3H", data, position + 8)
        elif kind == b"tRNS":
            kept.append(_transparency(view[position:end], depth, colour))
        elif kind in _PICTURE:
            # Pillow checks the CRC of every chunk but those that hold the picture.
            if data[end - 4 : end] != struct.pack(">I", zlib.crc32(view[position + 4 : end - 4])):
                raise CorruptImage("the PNG file is truncated or damaged: a CRC-32 doesn't match")
            kept.append(view[position:end])
        if kind == b"IEND":
            break
        position = end
    else:
        raise CorruptImage(f"the PNG file has more than {_MAX_CHUNKS:,} chunks")
    return ImageFile(
        "PNG",
        width,
        height,
        b"".join(kept),
        orientation,
        sample_bits=depth,
        transparent=transparent,
        profile=None if is_srgb else profile,
        cicp=cicp,
    )


def _transparency(chunk: memoryview, depth: int, colour: int) -> memoryview | bytes:
    # Pillow widens 2- and 4-bit grey to 8 bits, but compares them with the transparent colour as
    # it stands in the file, which then matches nothing.
    if colour != 0 or depth not in {2, 4}:
        return chunk
    (value,) = struct.unpack_from(">H", chunk, 8)
    body = b"tRNS" + struct.pack(">H", value * 255 // (2**depth - 1) & 0xFFFF)
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))


def _profile(chunk: bytes) -> bytes:
    _, _, compressed = chunk[:82].partition(b"\0")  # a name of at most 79 bytes
    start = len(chunk[:82]) - len(compressed)
    if not compressed or compressed[0] != 0:
        return b""
    try:
        return zlib.decompressobj().decompress(chunk[start + 1 :], MAX_PROFILE_BYTES + 1)
    except zlib.error:
        return b""
