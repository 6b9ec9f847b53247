"""JPEG segments: the picture's size and orientation, and the file without the rest.

The markers are those of ITU-T T.81, table B.1: https://www.w3.org/Graphics/JPEG/itu-t81.pdf.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imaging.errors import CorruptImage
from imaging.tiff import read_exif_orientation

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_SEGMENTS = 65_536

# Encoders write about 10 scans. Each costs a pass over the whole picture, however few bytes it
# has: at 16 megapixels, 10 take 0.2 s, 100 take 0.9 s, and 10,000 fit into 1 MB.
_MAX_SCANS = 100

_MARKER = re.compile(rb"\xff[\x01-\xfe]")
_MARKER_IN_SCAN = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_ALONE = {0x01, *range(0xD0, 0xD9)}  # TEM, RSTn, SOI: markers without a segment
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_TABLES = {0xC4, 0xCC, 0xDB, 0xDC, 0xDD}  # DHT, DAC, DQT, DNL, DRI
_SCAN, _END, _EXIF = 0xDA, 0xD9, 0xE1


@dataclass(frozen=True, slots=True)
class Jpeg:
    """The picture of a JPEG file.

    Attributes:
        width: pixels per row as stored, before `orientation` is applied.
        height: rows as stored.
        data: the file without comments, profiles, EXIF and thumbnails.
        orientation: EXIF orientation, 1…8; 1 is upright.
        cut_short: whether there are fewer bits than so many pixels need. libjpeg takes a file
            that ends early for a grey one, so that 500 bytes can claim 36 megapixels.
    """

    width: int
    height: int
    data: bytes
    orientation: int
    cut_short: bool


def read_jpeg(data: bytes) -> Jpeg:
    """Read what a JPEG file says of its picture. Nothing is decoded.

    Args:
        data: a file that begins with the marker SOI.

    Raises:
        CorruptImage: there is no picture, or more of anything than an honest file has.
        struct.error, IndexError: the file ends within its headers.
    """
    size: tuple[int, int] | None = None
    huffman = True
    orientation = 1
    view = memoryview(data)
    kept = [view[:2]]
    for marker, start, body, end in _segments(data, 2, _MARKER):
        if marker == _SCAN:
            if size is None:
                break
            _check_scans(data, start)
            kept.append(view[start:])
            # Huffman coding spends at least one bit on each block of 8 × 8 pixels.
            cut_short = huffman and (len(data) - start) * 8 * 64 < size[0] * size[1]
            return Jpeg(*size, b"".join(kept), orientation, cut_short)
        if marker in _FRAMES:
            if size is not None:
                raise CorruptImage("the JPEG file has two frame headers")
            height, width = struct.unpack_from(">HH", data, body + 1)
            size = width, height
            huffman = marker < 0xC8
            kept.append(view[start:end])
        elif marker in _TABLES or data[body : body + 5] in {b"JFIF\0", b"Adobe"}:
            # JFIF and Adobe say in which colour space the samples are.
            kept.append(view[start:end])
        elif marker == _EXIF and data[body : body + 6] == b"Exif\0\0":
            orientation = read_exif_orientation(data[body + 6 : end])
    raise CorruptImage("the JPEG file holds no picture")


def _segments(
    data: bytes, position: int, markers: re.Pattern[bytes]
) -> Iterator[tuple[int, int, int, int]]:
    """Yield `(marker, start, start of body, end)` of each segment until the end of the image."""
    for _ in range(_MAX_SEGMENTS):
        found = markers.search(data, position)
        if found is None or data[found.start() + 1] == _END:
            return
        marker, position = data[found.start() + 1], found.end()
        if marker in _ALONE:
            continue
        (length,) = struct.unpack_from(">H", data, position)
        if length < 2:
            raise CorruptImage("the JPEG file has a segment of impossible length")
        yield marker, found.start(), position + 2, position + length
        position += length
    raise CorruptImage(f"the JPEG file has more than {_MAX_SEGMENTS:,} segments")


def _check_scans(data: bytes, start: int) -> None:
    # The count is exact only for files without trailing data; it spares nearly all the walk.
    if data.count(b"\xff\xda", start) <= _MAX_SCANS:
        return
    scans = 0
    for marker, *_ in _segments(data, start, _MARKER_IN_SCAN):
        scans += marker == _SCAN
        if scans > _MAX_SCANS:
            raise CorruptImage(f"the JPEG file has more than {_MAX_SCANS} scans")
