"""JPEG segments: the picture's size and orientation, and the file without the rest.

The markers are those of ITU-T T.81, table B.1: https://www.w3.org/Graphics/JPEG/itu-t81.pdf.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imaging.errors import CorruptImage, UnsupportedFormat
from imaging.image_file import Completeness, ImageFile
from imaging.profiles import MAX_PROFILE_BYTES
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
_LOSSLESS_OR_HIERARCHICAL = {0xC3, *range(0xC5, 0xC8), *range(0xCB, 0xD0)} - {0xCC}
_JPEG_LS = 0xF7
_TABLES = {0xC4, 0xCC, 0xDB, 0xDC, 0xDD}  # DHT, DAC, DQT, DNL, DRI
_SCAN, _END, _EXIF, _APP2 = 0xDA, 0xD9, 0xE1, 0xE2


@dataclass(frozen=True, slots=True)
class _Frame:
    marker: int
    width: int
    height: int
    components: int

    @property
    def huffman(self) -> bool:
        return self.marker < 0xC8

    @property
    def progressive(self) -> bool:
        return self.marker in {0xC2, 0xCA}


def read_jpeg(data: bytes) -> ImageFile:
    """Read what a JPEG file says of its picture. Nothing is decoded.

    Args:
        data: a file that begins with the marker SOI.

    Raises:
        UnsupportedFormat: samples of 12 bits, or lossless, hierarchical or JPEG-LS coding.
        CorruptImage: there is no picture, scans are missing, or there is more of anything than an
            honest file has.
        struct.error, IndexError: the file ends within its headers.
    """
    frame: _Frame | None = None
    orientation = 1
    view = memoryview(data)
    kept = [view[:2]]
    pieces: list[memoryview] = []
    for marker, start, body, end in _segments(data, 2):
        if marker == _SCAN:
            if frame is None:
                break
            scans, stop = _read_scans(data, start)
            kept.append(view[start:stop])
            # Huffman coding spends at least one bit on each block of 8 × 8 pixels.
            cut_short = frame.huffman and (stop - start) * 8 * 64 < frame.width * frame.height
            ended = data[stop : stop + 2] == b"\xff\xd9"
            return ImageFile(
                "JPEG",
                frame.width,
                frame.height,
                b"".join((*kept, b"\xff\xd9")),
                orientation,
                cut_short=cut_short,
                completeness=_completeness(frame, scans, ended=ended),
                profile=_joined(pieces) if pieces else None,
            )
        if marker in _FRAMES or marker == _JPEG_LS:
            if frame is not None:
                raise CorruptImage("the JPEG file has two frame headers")
            frame = _read_frame(data, marker, body)
            kept.append(view[start:end])
        elif marker in _TABLES or data[body : body + 5] in {b"JFIF\0", b"Adobe"}:
            # JFIF and Adobe say in which colour space the samples are.
            kept.append(view[start:end])
        elif marker == _EXIF and data[body : body + 6] == b"Exif\0\0":
            orientation = read_exif_orientation(data[body + 6 : end])
        elif marker == _APP2 and data[body : body + 12] == b"ICC_PROFILE\0":
            pieces.append(view[body + 12 : end])
    raise CorruptImage("the JPEG file holds no picture")


def _joined(pieces: list[memoryview]) -> bytes:
    """Join the pieces of a profile, each of which begins with its number and their count."""
    if len(pieces) > 255 or sum(map(len, pieces)) > MAX_PROFILE_BYTES:
        return b""
    numbered = {piece[0]: piece for piece in pieces if len(piece) > 2}
    if sorted(numbered) != list(range(1, len(pieces) + 1)):
        return b""
    return b"".join(numbered[number][2:] for number in sorted(numbered))


def _read_frame(data: bytes, marker: int, body: int) -> _Frame:
    bits, height, width, components = struct.unpack_from(">BHHB", data, body)
    if marker in _LOSSLESS_OR_HIERARCHICAL or marker == _JPEG_LS:
        raise UnsupportedFormat("lossless and hierarchical JPEG are not read; try PNG")
    if bits == 12:
        raise UnsupportedFormat("JPEG of 12 bits is not read; try 8 bits, or PNG of 16")
    return _Frame(marker, width, height, components)


def _segments(data: bytes, position: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield `(marker, start, start of body, end)` of each segment until the end of the image."""
    for _ in range(_MAX_SEGMENTS):
        found = _MARKER.search(data, position)
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


def _read_scans(data: bytes, position: int) -> tuple[list[bytes], int]:
    """Return the header of each scan, and where the last one's data end.

    Damage behind the first scan's header is left to the decoder, which may come past it.
    """
    scans: list[bytes] = []
    for _ in range(_MAX_SEGMENTS):
        found = _MARKER_IN_SCAN.search(data, position)
        if found is None:
            # A last 0xff is the first half of a marker.
            return scans, len(data.rstrip(b"\xff"))
        marker, position = data[found.start() + 1], found.end()
        if marker == _END:
            return scans, found.start()
        if marker in _ALONE:
            continue
        length = int.from_bytes(data[position : position + 2], "big")
        if marker == _SCAN:
            scans.append(data[position + 2 : position + length])
            if len(scans) > _MAX_SCANS:
                raise CorruptImage(f"the JPEG file has more than {_MAX_SCANS} scans")
        position += max(2, length)
    raise CorruptImage(f"the JPEG file has more than {_MAX_SEGMENTS:,} segments")


def _completeness(frame: _Frame, scans: list[bytes], *, ended: bool) -> Completeness:
    if frame.progressive:
        _check_precision(scans)
    if not frame.huffman:
        return Completeness.TWO_DECODES
    if scans[0][0] == frame.components and not frame.progressive:
        # Where the end mark is lost, something before it may be lost too.
        return Completeness.LAST_ROW if ended else Completeness.BOTH
    if not ended:
        return Completeness.TWO_DECODES
    # Decoding all scans twice would halve the speed of progressive files. Nearly all end with a
    # scan that refines each coefficient by its last bit: all else is there if that has begun.
    refines = frame.progressive and scans[-1][-1] >> 4 > 0
    return Completeness.KNOWN if refines else Completeness.TWO_DECODES


def _check_precision(scans: list[bytes]) -> None:
    """Refuse a progressive file whose scans leave coefficients without their last bits."""
    missing: dict[int, list[int]] = {}  # by component, bits that each of 64 coefficients lacks
    for scan in scans:
        count = scan[0]
        if len(scan) != 4 + 2 * count:
            raise CorruptImage("the JPEG file has a scan header of the wrong length")
        first, last, bits = scan[1 + 2 * count :]
        for component in scan[1 : 1 + 2 * count : 2]:
            lacks = missing.setdefault(component, [0] * 64)
            lacks[first : last + 1] = [bits & 15] * (last + 1 - first)
    if any(any(lacks) for lacks in missing.values()):
        raise CorruptImage("the JPEG image is truncated: its last scans are missing")
