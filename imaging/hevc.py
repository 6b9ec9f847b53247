"""How large the pictures of an HEVC bitstream are, and that there is one.

HEVC: https://www.itu.int/rec/T-REC-H.265; how files hold it: ISO/IEC 14496-15, section 8. The
sections of its syntax are those of H.265.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from imaging.bits import Bits
from imaging.errors import CorruptImage

if TYPE_CHECKING:
    from collections.abc import Iterator

_SEQUENCE_PARAMETERS = 33
_FIRST_PARAMETERS = 32  # types below are slices of pictures

# An honest file has one of each kind of parameters, and a slice for each row of blocks at most.
_MAX_PARAMETERS = 16
_MAX_SLICES = 4096
# The picture's size is told within so many bytes of the sequence's parameters.
_ENOUGH = 256


def coded_sizes(data: bytes, configuration: bytes) -> list[tuple[int, int]]:
    """Return `(width, height)` in pixels of the pictures that each set of parameters is for.

    Args:
        data: a picture's bitstream, of units that tell their sizes.
        configuration: the body of the item's `hvcC`, which holds parameters.

    Raises:
        CorruptImage: several pictures, no parameters, or a header that is cut off.
        struct.error, IndexError: the configuration or the data end within a header.
    """
    bytes_of_length, parameters = _parameters(configuration)
    pictures = slices = 0
    for unit in _units(data, bytes_of_length):
        kind = _kind_of(unit)
        if kind is None:
            continue
        if kind < _FIRST_PARAMETERS:
            slices += 1
            pictures += unit[2] >> 7  # whether it is a picture's first slice
        else:
            parameters.append(unit)
        if pictures > 1 or slices > _MAX_SLICES or len(parameters) > _MAX_PARAMETERS:
            raise CorruptImage("the HEVC data has more than one picture")
    sizes = [_size(unit) for unit in parameters if _kind_of(unit) == _SEQUENCE_PARAMETERS]
    if not pictures or not sizes:
        raise CorruptImage("the HEVC data has no picture")
    return sizes


def _kind_of(unit: bytes) -> int | None:
    """Return a unit's type; None for one of another layer, which is not decoded."""
    (head,) = struct.unpack_from(">H", unit)
    return None if head >> 3 & 63 else int(head >> 9 & 63)


def _parameters(configuration: bytes) -> tuple[int, list[bytes]]:
    """Return the number of bytes of each unit's length in the data, and units of parameters."""
    bytes_of_length = (configuration[21] & 3) + 1
    found = []
    position = 23
    for _ in range(configuration[22]):
        (count,) = struct.unpack_from(">H", configuration, position + 1)
        position += 3
        for _ in range(count):
            (length,) = struct.unpack_from(">H", configuration, position)
            unit = configuration[position + 2 : position + 2 + length]
            position += 2 + length
            if _kind_of(unit) is not None:
                found.append(unit)
            if len(found) > _MAX_PARAMETERS:
                raise CorruptImage("the HEVC configuration has more parameters than pictures have")
    return bytes_of_length, found


def _units(data: bytes, bytes_of_length: int) -> Iterator[bytes]:
    """Yield the beginning of each unit."""
    position = 0
    while position < len(data):
        length = int.from_bytes(data[position : position + bytes_of_length], "big")
        position += bytes_of_length
        if position + length > len(data):
            raise CorruptImage("the HEVC data is cut off")
        yield data[position : position + min(length, _ENOUGH)]
        position += length


def _size(unit: bytes) -> tuple[int, int]:
    """Return width and height from a sequence's parameters (section 7.3.2.2)."""
    # 0, 0, 3 stands for 0, 0 wherever what follows might be taken for the start of a unit.
    bits = Bits(unit[2:_ENOUGH].replace(b"\0\0\3", b"\0\0"), "HEVC")
    bits.take(4)
    layers = bits.take(3)
    bits.take(1 + 96)  # profile, tier and level
    present = [(bits.take(1), bits.take(1)) for _ in range(layers)]
    bits.take(2 * (8 - layers) if layers else 0)
    for profile, level in present:
        bits.take(88 * profile + 8 * level)
    bits.take_exp_golomb()
    if bits.take_exp_golomb() == 3:  # colour in full resolution
        bits.take(1)
    return bits.take_exp_golomb(), bits.take_exp_golomb()
