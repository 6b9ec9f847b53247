"""How large the frames of an AV1 bitstream are, and that there aren't many.

AV1: https://aomediacodec.github.io/av1-spec/; the sections of its syntax are named below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from imaging.bits import Bits
from imaging.errors import CorruptImage

if TYPE_CHECKING:
    from collections.abc import Iterator

# A still picture has one frame; layers, coarse to fine, are a few. Each costs a whole picture.
_MAX_FRAMES = 8
_MAX_UNITS = 65_536
_SEQUENCE_HEADER, _FRAME_HEADER, _FRAME = 1, 3, 6


def coded_sizes(data: bytes) -> list[tuple[int, int]]:
    """Return the largest `(width, height)` that each sequence header allows frames to have.

    Args:
        data: a picture's bitstream, of units that tell their sizes (section 5.3).

    Raises:
        CorruptImage: more than 8 frames, or a header that is cut off.
        IndexError: the data end within a unit's header.
    """
    sizes = []
    frames = 0
    for kind, beginning in _units(data):
        if kind == _SEQUENCE_HEADER:
            sizes.append(_coded_size(beginning))
        frames += kind in {_FRAME_HEADER, _FRAME}
        if frames > _MAX_FRAMES:
            raise CorruptImage(f"the AV1 picture has more than {_MAX_FRAMES} frames")
    return sizes


def _units(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield `(type, beginning)` of each unit of an AV1 bitstream."""
    position = 0
    for _ in range(_MAX_UNITS):
        if position >= len(data):
            return
        head = data[position]
        position += 2 if head & 4 else 1
        length = len(data) - position
        if head & 2:
            length = 0
            for n in range(8):
                byte = data[position]
                position += 1
                length |= (byte & 127) << (7 * n)
                if byte < 128:
                    break
        yield head >> 3 & 15, data[position : position + min(length, 256)]
        position += length
    raise CorruptImage("the AV1 data has more units than pictures have")


def _coded_size(header: bytes) -> tuple[int, int]:
    """Return the largest width and height of frames, from an AV1 sequence header (section 5.5)."""
    bits = Bits(header, "AV1")
    bits.take(4)  # profile, still picture
    if bits.take(1):  # reduced header of a still picture
        bits.take(5)
    else:
        delay_bits = _take_timing(bits)
        delays = bits.take(1)
        for _ in range(bits.take(5) + 1):
            bits.take(12)
            if bits.take(5) > 7:
                bits.take(1)
            if delay_bits and bits.take(1):
                bits.take(2 * delay_bits + 1)
            if delays and bits.take(1):
                bits.take(4)
    width_bits, height_bits = bits.take(4) + 1, bits.take(4) + 1
    return bits.take(width_bits) + 1, bits.take(height_bits) + 1


def _take_timing(bits: Bits) -> int:
    """Skip timing information; return the bits of a buffer delay, 0 where there is none."""
    if not bits.take(1):
        return 0
    bits.take(64)
    if bits.take(1):
        bits.take_exp_golomb()
    if not bits.take(1):
        return 0
    delay_bits = bits.take(5) + 1
    bits.take(32 + 5 + 5)
    return delay_bits
