"""TIFF directories: the tags of a TIFF image, and of EXIF, which is a TIFF without pixels.

Only the first directory is read, and no value is believed to lie where the file isn't.
TIFF 6.0: https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf; BigTIFF differs from it
in widths alone.
"""

from __future__ import annotations

import operator
import struct
from dataclasses import dataclass

from imaging.errors import CorruptImage, UnsupportedFormat
from imaging.image_file import ImageFile
from imaging.profiles import MAX_PROFILE_BYTES

# Bytes of one value of each type of tag, and how those that are whole numbers are read.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 16: 8}
_WHOLE = {1: "B", 3: "H", 4: "I", 16: "Q"}

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_STRIPS, _ORIENTATION, _SAMPLE_FORMAT = 273, 274, 339
_STRIP_BYTES, _TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES = 279, 322, 323, 324, 325
_PROFILE = 34675
_PICTURE = {
    *(_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _STRIPS),
    *(_STRIP_BYTES, _TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES, _SAMPLE_FORMAT),
    266,  # fill order
    277,  # samples per pixel
    278,  # rows per strip
    284,  # planar configuration
    292,  # fax options
    293,
    317,  # predictor
    320,  # colour map
    338,  # extra samples: alpha
    347,  # JPEG tables
    530,  # chroma subsampling
}

# None, fax (3), LZW, JPEG, deflate (2), PackBits. LZMA may claim a dictionary of 4 GiB, and
# old-style JPEG is the source of many a decoder's faults; both are rare.
_COMPRESSIONS = {1, 2, 3, 4, 5, 7, 8, 32773, 32946}

_MAX_TAGS = 4096
_ENOUGH = MAX_PROFILE_BYTES + 1  # of a profile that is too large
_MAX_STRIPS = 65_536  # Pillow makes an object of some 250 bytes of each
_MAX_TILE_PIXELS = 2**22


@dataclass(frozen=True, slots=True)
class _Tag:
    number: int
    type: int
    count: int
    field: bytes  # the 4 (BigTIFF: 8) bytes that hold the values or point at them
    values: memoryview
    order: str

    def numbers(self) -> tuple[int, ...]:
        """Return the values; none where they aren't whole numbers, or are too many to be sane."""
        letter = _WHOLE.get(self.type)
        if letter is None or self.count > _MAX_STRIPS:
            return ()
        return struct.unpack(f"{self.order}{self.count}{letter}", self.values)


def _read_tags(data: bytes) -> dict[int, _Tag]:
    """Read the first directory; of tags given twice the first counts, as in libtiff."""
    order = "<" if data[:2] == b"II" else ">"
    big = _is_big(data, order)
    pointer, counter = ("Q", "Q") if big else ("I", "H")
    entry = order + ("HHQ8s" if big else "HHI4s")
    entry_bytes = struct.calcsize(entry)
    (start,) = struct.unpack_from(order + pointer, data, 8 if big else 4)
    if start > len(data):
        raise CorruptImage("the TIFF directory lies behind the end of the file")
    (count,) = struct.unpack_from(order + counter, data, start)
    if count > _MAX_TAGS:
        raise CorruptImage(f"the TIFF directory has more than {_MAX_TAGS} tags")
    start += struct.calcsize(order + counter)
    view = memoryview(data)
    tags: dict[int, _Tag] = {}
    for position in range(start, start + count * entry_bytes, entry_bytes):
        number, kind, values, field = struct.unpack_from(entry, data, position)
        size = values * _SIZES.get(kind, 0)
        at = position + entry_bytes - len(field)
        if size > len(field):
            (at,) = struct.unpack(order + pointer, field)
        if size and at + size <= len(data) and number not in tags:
            tags[number] = _Tag(number, kind, values, field, view[at : at + size], order)
    return tags


def _is_big(data: bytes, order: str) -> bool:
    return struct.unpack_from(order + "H", data, 2) == (43,)


def read_exif_orientation(exif: bytes) -> int:
    """Read the orientation, 1…8, from an EXIF block; 1 where it has none or can't be read."""
    if exif[:4] not in {b"II*\0", b"MM\0*"}:
        return 1
    try:
        return _orientation(_read_tags(exif))
    except (struct.error, CorruptImage):
        return 1  # broken metadata is no reason to refuse a picture


def _orientation(tags: dict[int, _Tag]) -> int:
    values = tags[_ORIENTATION].numbers() if _ORIENTATION in tags else ()
    return values[0] if len(values) == 1 and 1 <= values[0] <= 8 else 1


def read_tiff(data: bytes) -> ImageFile:
    """Read what a TIFF file says of its first page. Nothing is decoded.

    Args:
        data: a file that begins as TIFF or BigTIFF files do.

    Raises:
        UnsupportedFormat: samples are signed, float or above 16 bits, which have no definite
            8-bit meaning; or the compression is not on the list.
        CorruptImage: the directory is broken, or asks for more than an honest file does.
        struct.error: the file ends within its directory.
    """
    tags = _read_tags(data)

    def numbers(tag: int, default: int) -> tuple[int, ...]:
        return (tags[tag].numbers() or (0,)) if tag in tags else (default,)

    (width, *_), (height, *_) = numbers(_WIDTH, 0), numbers(_HEIGHT, 0)
    bits = max(numbers(_BITS, 1))
    if numbers(_COMPRESSION, 1)[0] not in _COMPRESSIONS:
        raise UnsupportedFormat("this compression of TIFF is not supported; try deflate or LZW")
    if bits > 16 or set(numbers(_SAMPLE_FORMAT, 1)) != {1}:
        # Such samples carry measurements or light: which of them is white, no one can tell.
        raise UnsupportedFormat(
            "TIFF samples must be unsigned integers of at most 16 bits; "
            "scale signed, float or 32-bit samples to them first"
        )
    picture = [tags[number] for number in sorted(tags.keys() & _PICTURE)]
    if sum(len(tag.values) for tag in picture) > len(data):
        raise CorruptImage("the TIFF directory refers to more bytes than the file has")
    if any(tag.count > _MAX_STRIPS for tag in picture if tag.number in {_STRIPS, _TILES}):
        raise CorruptImage(f"the TIFF file has more than {_MAX_STRIPS:,} strips or tiles")
    for places, sizes in ((_STRIPS, _STRIP_BYTES), (_TILES, _TILE_BYTES)):
        ends = map(operator.add, numbers(places, 0), numbers(sizes, 0))
        if max(ends) > len(data):  # else what is missing would be read from our directory
            raise CorruptImage("the TIFF file is cut off: its pixels lie behind its end")
    tile = numbers(_TILE_WIDTH, 1)[0] * numbers(_TILE_HEIGHT, 1)[0]
    if tile > max(_MAX_TILE_PIXELS, 2 * width * height):
        raise CorruptImage("the TIFF file has tiles far larger than the picture")
    return ImageFile(
        "TIFF",
        width,
        height,
        _with_directory(data, picture),
        _orientation(tags),
        sample_bits=bits,
        white_is_zero=numbers(_PHOTOMETRIC, 1)[0] == 0,
        profile=bytes(tags[_PROFILE].values[:_ENOUGH]) if _PROFILE in tags else None,
    )


def _with_directory(data: bytes, tags: list[_Tag]) -> bytes:
    """Append a directory of `tags`, ascending, to the file and point its header there."""
    order = "<" if data[:2] == b"II" else ">"
    start = len(data) + len(data) % 2  # directories begin at even offsets
    if _is_big(data, order):
        pointer, counter, entry = "Q", "Q", "HHQ8s"
        header = data[:8] + struct.pack(order + pointer, start)
    else:
        pointer, counter, entry = "I", "H", "HHI4s"
        header = data[:4] + struct.pack(order + pointer, start)
    return b"".join(
        (
            header,
            memoryview(data)[len(header) :],
            bytes(start - len(data)),
            struct.pack(order + counter, len(tags)),
            *(struct.pack(order + entry, t.number, t.type, t.count, t.field) for t in tags),
            struct.pack(order + pointer, 0),  # no next page
        )
    )
