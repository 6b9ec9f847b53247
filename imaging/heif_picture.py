"""AVIF files taken apart, and put together again with their picture alone.

An AVIF is a tree of boxes (ISO/IEC 14496-12) that lists items (ISO/IEC 23008-12), one of which is
the picture: frames of AV1, or a grid of such. It may also hold sequences, thumbnails, other
pictures, metadata and profiles, and nothing keeps the sizes that its boxes tell from lying. So
the picture's items are picked out, their AV1 headers read, and a new file made of them.

AVIF: https://aomediacodec.github.io/av1-avif/.
"""

from __future__ import annotations

import struct

from PIL import AvifImagePlugin

from imaging.av1 import coded_sizes
from imaging.errors import CorruptImage, UnsupportedFormat
from imaging.heif import MAX_BOXES, Item, boxes_in, read_data, read_items, too_many
from imaging.image_file import ImageFile
from imaging.profiles import MAX_PROFILE_BYTES

_MAX_TILES = 256  # of a grid
_SPARE_PIXELS = 2**20  # by which the tiles of a grid may exceed the picture

_ALPHA = (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1")
# Size, depth, the decoder's configuration, the kind of an auxiliary item, layers.
_KEPT = {b"ispe", b"pixi", b"av1C", b"auxC", b"a1op", b"a1lx", b"lsel"}

# By quarter turns to the left, and mirroring: none, top with bottom, left with right.
_ORIENTATIONS = ((1, 4, 2), (8, 5, 7), (3, 2, 4), (6, 7, 5))


def is_avif(data: bytes) -> bool:
    """Whether the first box names AVIF among the brands that the file is of."""
    (length,) = struct.unpack_from(">I", data)
    names = data[8 : min(length, 8 + 4 * MAX_BOXES)]
    brands = {names[n : n + 4] for n in range(0, len(names), 4) if n != 4}  # there: a version
    return not brands.isdisjoint({b"avif", b"avis"})


def read_avif(data: bytes) -> ImageFile:
    """Read what an AVIF file says of its picture. Nothing is decoded.

    Args:
        data: a file whose first box is `ftyp`.

    Raises:
        UnsupportedFormat: HEIF without AVIF, or a sequence without a still picture.
        CorruptImage: there is no picture, sizes contradict each other, or there is more of
            anything than an honest file has.
        struct.error, IndexError: the file ends within its headers.
    """
    if not is_avif(data):
        raise UnsupportedFormat("of the HEIF family, AVIF alone is read; HEIC is not")
    if not AvifImagePlugin.SUPPORTED:
        raise UnsupportedFormat("this installation's Pillow was built without AVIF")
    meta = next((body for kind, body in boxes_in(data) if kind == b"meta"), None)
    if meta is None:
        raise UnsupportedFormat("an AVIF sequence without a still picture is not read")
    boxes = dict(reversed(list(boxes_in(meta[4:]))))  # of boxes given twice the first counts
    for needed in (b"pitm", b"iinf", b"iloc", b"iprp"):
        if needed not in boxes:
            raise CorruptImage("the AVIF file holds no picture")
    items = read_items(boxes)
    version, primary = boxes[b"pitm"][0], boxes[b"pitm"][4:]
    (main,) = struct.unpack_from(">I" if version else ">H", primary)
    chosen = _picture_of(items, main)
    read_data(data, boxes, {number: items[number] for number in chosen})
    picture = items[main]
    width, height = picture.size
    if width and height:  # else refused by whoever asked
        for number in chosen:
            _check_size(items, items[number], width * height)
    turns, mirror = picture.first(b"irot"), picture.first(b"imir")
    axis = 0 if mirror is None else 1 + (mirror[0] & 1)
    colours = [body for kind, body in picture.properties if kind == b"colr"]
    profiles = [body[4:] for body in colours if body[:4] in {b"prof", b"rICC"}]
    points = [struct.unpack_from(">HH", body, 4) for body in colours if body[:4] == b"nclx"]
    return ImageFile(
        "AVIF",
        width,
        height,
        _written(items, chosen),
        _ORIENTATIONS[0 if turns is None else turns[0] & 3][axis],
        profile=profiles[0][: MAX_PROFILE_BYTES + 1] if profiles else None,
        cicp=points[0] if points else None,
    )


def _picture_of(items: dict[int, Item], main: int) -> list[int]:
    """Return the numbers of the items that are needed for the picture, the main one first."""
    alphas = [
        number
        for number, item in items.items()
        if main in item.references.get(b"auxl", [])
        and (item.first(b"auxC") or b"")[4:].split(b"\0")[0] in _ALPHA
    ]
    chosen: list[int] = []
    for number in (main, *alphas[:1]):
        tiles = items[number].references.get(b"dimg", []) if number in items else []
        if number not in items or any(tile not in items for tile in tiles):
            raise CorruptImage("the AVIF file lacks an item of its picture")
        if len(tiles) > _MAX_TILES:
            raise too_many()
        if items[number].kind == b"grid" and tiles:
            chosen += [number, *tiles]
        elif items[number].kind == b"av01":
            chosen.append(number)
        else:
            raise UnsupportedFormat("this kind of AVIF picture is not read")
    if any(items[n].kind != b"av01" for n in chosen if n not in {main, *alphas}):
        raise UnsupportedFormat("this kind of AVIF picture is not read")
    return chosen


def _check_size(items: dict[int, Item], item: Item, pixels: int) -> None:
    """Refuse an item whose AV1 frames, or tiles, are larger than the picture needs."""
    if item.kind == b"grid":
        tiles = [items[number].size for number in item.references[b"dimg"]]
        if sum(width * height for width, height in tiles) > 2 * pixels + _SPARE_PIXELS:
            raise CorruptImage("the AVIF file has tiles far larger than the picture")
        return
    width, height = item.size
    if width * height > pixels + _SPARE_PIXELS:
        raise CorruptImage("the AVIF file has items larger than the picture")
    for coded_width, coded_height in coded_sizes(item.data):
        if coded_width * coded_height > width * height + _SPARE_PIXELS:
            raise CorruptImage("the AVIF file's AV1 header contradicts its size")


def _box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def _written(items: dict[int, Item], chosen: list[int]) -> bytes:
    """Write a file of the chosen items, the first of which is the picture."""
    numbers = {old: new for new, old in enumerate(dict.fromkeys(chosen), 1)}
    properties: list[tuple[bytes, bytes]] = []
    entries, places, associations, references, data = [], [], [], [], []
    start = 0
    for old, new in numbers.items():
        item = items[old]
        entries.append(_box(b"infe", struct.pack(">IHH4sB", 2 << 24, new, 0, item.kind, 0)))
        places.append((new, start, len(item.data)))
        data.append(item.data)
        start += len(item.data)
        kept = [p for p in item.properties if _is_kept(p)]
        properties += [p for p in dict.fromkeys(kept) if p not in properties]
        indices = [0x8000 | (properties.index(p) + 1) for p in kept]  # essential, all of them
        associations.append(struct.pack(f">HB{len(kept)}H", new, len(kept), *indices))
        for kind in (b"dimg", b"auxl", b"prem"):
            targets = [numbers[t] for t in item.references.get(kind, []) if t in numbers]
            if targets:
                form = f">HH{len(targets)}H"
                references.append(_box(kind, struct.pack(form, new, len(targets), *targets)))
    head = _box(b"ftyp", b"avif", bytes(4), b"avifmif1miaf")

    def meta(offset: int) -> bytes:
        located = b"".join(
            struct.pack(">HHHII", new, 0, 1, offset + at, length) for new, at, length in places
        )
        return _box(
            b"meta",
            bytes(4),
            _box(b"hdlr", bytes(8), b"pict", bytes(13)),
            _box(b"pitm", bytes(4), struct.pack(">H", 1)),
            _box(b"iloc", bytes(4), b"\x44\0", struct.pack(">H", len(places)), located),
            _box(b"iinf", bytes(4), struct.pack(">H", len(entries)), *entries),
            *([_box(b"iref", bytes(4), *references)] if references else []),
            _box(
                b"iprp",
                _box(b"ipco", *(_box(*p) for p in properties)),
                _box(b"ipma", b"\0\0\0\1", struct.pack(">I", len(associations)), *associations),
            ),
        )

    offset = len(head) + len(meta(0)) + 8
    return head + meta(offset) + _box(b"mdat", *data)


def _is_kept(one: tuple[bytes, bytes]) -> bool:
    kind, body = one
    return kind in _KEPT or (kind == b"colr" and body[:4] == b"nclx")
