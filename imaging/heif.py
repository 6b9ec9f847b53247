"""HEIF: a tree of boxes (ISO/IEC 14496-12) that lists items (ISO/IEC 23008-12), such as pictures.

Only lists are read here, each of bounded length; what the items mean is a matter of
`imaging.heif_picture`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from imaging.errors import CorruptImage

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_BOXES = 4096  # in one box, and of items, properties and references


@dataclass(slots=True)
class Item:
    """An item of a HEIF file.

    Attributes:
        kind: what it is, such as `av01` or `grid`.
        data: its bytes, once they are read.
        properties: name and body of each.
        references: items that it refers to, by kind of reference.
    """

    kind: bytes = b""
    data: bytes = b""
    properties: list[tuple[bytes, bytes]] = field(default_factory=list)
    references: dict[bytes, list[int]] = field(default_factory=dict)

    def first(self, name: bytes) -> bytes | None:
        """The body of the first property of that name."""
        return next((body for kind, body in self.properties if kind == name), None)

    @property
    def size(self) -> tuple[int, int]:
        """`(width, height)` in pixels, as the item's `ispe` tells."""
        extents = self.first(b"ispe")
        if extents is None:
            raise CorruptImage("the AVIF or HEIC file doesn't say how large its picture is")
        width, height = struct.unpack_from(">II", extents, 4)
        return width, height


def boxes_in(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield `(kind, body)` of each box."""
    position = 0
    for _ in range(MAX_BOXES):
        if position + 8 > len(data):
            return
        length, kind = struct.unpack_from(">I4s", data, position)
        head = 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, position + 8)
            head = 16
        elif length == 0:
            length = len(data) - position
        if length < head:
            raise CorruptImage("the AVIF or HEIC file has a box of impossible length")
        # Of pictures' data, which may be long, only places are needed.
        body = b"" if kind == b"mdat" else data[position + head : position + length]
        yield kind, body
        position += length
    raise too_many()


def too_many() -> CorruptImage:
    """Return the refusal of a file whose lists are longer than those of pictures."""
    return CorruptImage("the AVIF or HEIC file has more boxes or items than pictures have")


def read_items(boxes: dict[bytes, bytes]) -> dict[int, Item]:
    """Read kinds, properties and references of all items."""
    items: dict[int, Item] = {}
    information = boxes[b"iinf"]
    for kind, body in boxes_in(information[6 if information[0] == 0 else 8 :]):
        if kind == b"infe" and body[0] >= 2:
            number, _, name = struct.unpack_from(">HH4s" if body[0] == 2 else ">IH4s", body, 4)
            items.setdefault(number, Item(name))
    properties = dict(reversed(list(boxes_in(boxes[b"iprp"]))))
    known = list(boxes_in(properties.get(b"ipco", b"")))
    associations = properties.get(b"ipma", b"")
    if associations:
        _associate(associations, items, known)
    references = boxes.get(b"iref", b"")
    wide = bool(references and references[0])
    for kind, body in boxes_in(references[4:]):
        (source, count) = struct.unpack_from(">IH" if wide else ">HH", body)
        if count > MAX_BOXES:
            raise too_many()
        start = 6 if wide else 4
        targets = struct.unpack_from(f">{count}{'I' if wide else 'H'}", body, start)
        if source in items:
            items[source].references.setdefault(kind, list(targets))
    return items


def _associate(body: bytes, items: dict[int, Item], known: list[tuple[bytes, bytes]]) -> None:
    version, flags = body[0], body[3]
    (entries,) = struct.unpack_from(">I", body, 4)
    position = 8
    if entries > MAX_BOXES:
        raise too_many()
    for _ in range(entries):
        number, count = struct.unpack_from(">HB" if version < 1 else ">IB", body, position)
        position += 3 if version < 1 else 5
        for _ in range(count):
            (index,) = struct.unpack_from(">H" if flags & 1 else ">B", body, position)
            position += 2 if flags & 1 else 1
            index &= 0x7FFF if flags & 1 else 0x7F
            if number in items and 0 < index <= len(known):
                items[number].properties.append(known[index - 1])


def read_data(data: bytes, boxes: dict[bytes, bytes], items: dict[int, Item]) -> None:
    """Read where items' data is, and the data."""
    body = boxes[b"iloc"]
    version = body[0]
    sizes = body[4] >> 4, body[4] & 15, body[5] >> 4, body[5] & 15 if version else 0
    offset_size, length_size, base_size, index_size = sizes
    if version > 2 or not set(sizes) <= {0, 4, 8}:
        raise CorruptImage("the AVIF or HEIC file doesn't say where its picture is")
    reader = _Fields(body, 6)
    left = len(data)  # items that share data would multiply it
    count = reader.number(4 if version == 2 else 2)
    if count > MAX_BOXES:
        raise too_many()
    for _ in range(count):
        number = reader.number(4 if version == 2 else 2)
        method = reader.number(2) & 15 if version else 0
        reader.number(2)
        base = reader.number(base_size)
        extents = reader.number(2)
        if extents > MAX_BOXES:
            raise too_many()
        source = boxes.get(b"idat", b"") if method == 1 else data
        parts = []
        for _ in range(extents):
            reader.number(index_size)
            start, length = base + reader.number(offset_size), reader.number(length_size)
            if number in items:
                part = source[start : start + length] if length else source[start:]
                left -= len(part)
                if method > 1 or len(part) < length or left < 0:
                    raise CorruptImage(
                        "the AVIF or HEIC file is cut off: its picture isn't all there"
                    )
                parts.append(part)
        if number in items:
            items[number].data = b"".join(parts)


class _Fields:
    """Whole numbers of various widths, one after the other."""

    def __init__(self, data: bytes, position: int) -> None:
        self._data = data
        self._position = position

    def number(self, width: int) -> int:
        """The next number of so many bytes; 0 of none."""
        field = self._data[self._position : self._position + width]
        if len(field) < width:
            raise CorruptImage("the AVIF or HEIC file ends within its headers")
        self._position += width
        return int.from_bytes(field, "big")
