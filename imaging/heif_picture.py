"""AVIF and HEIC files taken apart, and put together again with their picture alone.

Either is a tree of boxes (ISO/IEC 14496-12) that lists items (ISO/IEC 23008-12), one of which is
the picture: coded by AV1 in AVIF and by HEVC in HEIC, or a grid of such. It may also hold
sequences, thumbnails, other pictures, metadata and profiles, and nothing keeps the sizes that its
boxes tell from lying. So the picture's items are picked out, their codec's headers read, and a new
file made of them.

AVIF: https://aomediacodec.github.io/av1-avif/. HEIC is decoded by libheif, where the package
pi-heif is installed (the extra `heic`).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from PIL import AvifImagePlugin

from imaging import av1, hevc
from imaging.errors import CorruptImage, UnsupportedFormat
from imaging.heif import MAX_BOXES, Item, boxes_in, read_data, read_items, too_many
from imaging.image_file import ImageFile
from imaging.profiles import MAX_PROFILE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

try:
    import pi_heif
except ImportError:
    HEIC_IS_READ = False
else:
    HEIC_IS_READ = True
    # One thread for an image, as for AVIF.
    pi_heif.register_heif_opener(decode_threads=1)

_MAX_TILES = 256  # of a grid
_SPARE_PIXELS = 2**20  # by which the tiles of a grid, or what is cut away, may exceed the picture

_ALPHA = (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1")
# Size, depth, the decoder's configuration, the kind of an auxiliary item, layers.
_KEPT = {b"ispe", b"pixi", b"av1C", b"hvcC", b"auxC", b"a1op", b"a1lx", b"lsel"}

# By quarter turns to the left, and mirroring: none, top with bottom, left with right.
_ORIENTATIONS = ((1, 4, 2), (8, 5, 7), (3, 2, 4), (6, 7, 5))


@dataclass(frozen=True, slots=True)
class _Codec:
    """What one codec's files are like.

    Attributes:
        name: of the files, for messages.
        format: Pillow's name for it.
        brand: the main one of a file that holds one picture.
        item: kind of the items that are coded so.
        coded_sizes: given an item, the sizes that its headers tell.
        in_order: whether a picture is cut (`clap`), turned and mirrored in the order in which the
            file names that, as HEIF has it; readers of AVIF don't cut, and turn first.
    """

    name: str
    format: str
    brand: bytes
    item: bytes
    coded_sizes: Callable[[Item], list[tuple[int, int]]]
    in_order: bool


_AVIF = _Codec(
    *("AVIF", "AVIF", b"avif", b"av01"), lambda item: av1.coded_sizes(item.data), in_order=False
)
_HEIC = _Codec(
    *("HEIC", "HEIF", b"heic", b"hvc1"),
    lambda item: hevc.coded_sizes(item.data, item.first(b"hvcC") or b""),
    in_order=True,
)


def _codec_of(data: bytes) -> _Codec:
    """Which codec a file's pictures are of, by the brands that its first box names."""
    (length,) = struct.unpack_from(">I", data)
    names = data[8 : min(length, 8 + 4 * MAX_BOXES)]
    brands = {names[n : n + 4] for n in range(0, len(names), 4) if n != 4}  # there: a version
    if not brands.isdisjoint({b"avif", b"avis"}):
        if not AvifImagePlugin.SUPPORTED:
            raise UnsupportedFormat("this installation's Pillow was built without AVIF")
        return _AVIF
    if not brands.isdisjoint({b"heic", b"heix", b"heim", b"heis", b"mif1"}):
        if not HEIC_IS_READ:
            raise UnsupportedFormat(
                "HEIC is not read by this installation: it needs the extra heic (pi-heif)"
            )
        return _HEIC
    raise UnsupportedFormat("of the HEIF family, AVIF and HEIC pictures are read, and no others")


def read_heif(data: bytes) -> ImageFile:
    """Read what an AVIF or HEIC file says of its picture. Nothing is decoded.

    Args:
        data: a file whose first box is `ftyp`.

    Raises:
        UnsupportedFormat: another codec, one that isn't installed, or a sequence without a still
            picture.
        CorruptImage: there is no picture, sizes contradict each other, or there is more of
            anything than an honest file has.
        struct.error, IndexError: the file ends within its headers.
    """
    codec = _codec_of(data)
    meta = next((body for kind, body in boxes_in(data) if kind == b"meta"), None)
    if meta is None:
        raise UnsupportedFormat(f"{codec.name} sequences without a still picture are not read")
    boxes = dict(reversed(list(boxes_in(meta[4:]))))  # of boxes given twice the first counts
    for needed in (b"pitm", b"iinf", b"iloc", b"iprp"):
        if needed not in boxes:
            raise CorruptImage(f"the {codec.name} file holds no picture")
    items = read_items(boxes)
    version, primary = boxes[b"pitm"][0], boxes[b"pitm"][4:]
    (main,) = struct.unpack_from(">I" if version else ">H", primary)
    chosen = _picture_of(items, main, codec)
    read_data(data, boxes, {number: items[number] for number in chosen})
    picture = items[main]
    width, height = picture.size
    if width and height:  # else refused by whoever asked
        for number in chosen:
            _check_size(items, items[number], width * height, codec)
    if codec.in_order:
        width, height = _shown_size(picture)
    colours = [body for kind, body in picture.properties if kind == b"colr"]
    profiles = [body[4:] for body in colours if body[:4] in {b"prof", b"rICC"}]
    points = [struct.unpack_from(">HH", body, 4) for body in colours if body[:4] == b"nclx"]
    return ImageFile(
        codec.format,
        width,
        height,
        _written(items, chosen, codec),
        _orientation(picture, codec),
        profile=profiles[0][: MAX_PROFILE_BYTES + 1] if profiles else None,
        cicp=points[0] if points else None,
    )


def _orientation(picture: Item, codec: _Codec) -> int:
    """Return EXIF's number for how a picture is turned and mirrored."""
    turning, mirroring = picture.first(b"irot"), picture.first(b"imir")
    turns = 0 if turning is None else turning[0] & 3
    kinds = [kind for kind, _ in picture.properties if kind in {b"irot", b"imir"}]
    if codec.in_order and kinds[:1] == [b"imir"]:
        turns = -turns & 3  # mirrored first, it is turned the other way round
    return _ORIENTATIONS[turns][0 if mirroring is None else 1 + (mirroring[0] & 1)]


def _shown_size(picture: Item) -> tuple[int, int]:
    """Return `(width, height)` of the part of a picture that is shown, before it is turned."""
    width, height = picture.size
    aperture = picture.first(b"clap")
    if aperture is None:
        return width, height
    kinds = [kind for kind, _ in picture.properties]
    if any(kind in kinds[: kinds.index(b"clap")] for kind in (b"irot", b"imir")):
        raise UnsupportedFormat("a HEIC picture that is turned before it is cut is not read")
    numbers = struct.unpack_from(">IIII", aperture)
    if 0 in numbers:
        raise CorruptImage("the HEIC file shows an impossible part of its picture")
    shown = round(Fraction(*numbers[:2])), round(Fraction(*numbers[2:]))
    if not (0 < shown[0] <= width and 0 < shown[1] <= height):
        raise CorruptImage("the HEIC file shows an impossible part of its picture")
    if width * height > shown[0] * shown[1] + _SPARE_PIXELS:
        # The caller's limit would else hold for what is shown and not for what is decoded.
        raise CorruptImage("the HEIC file shows a small part of a large picture")
    return shown


def _picture_of(items: dict[int, Item], main: int, codec: _Codec) -> list[int]:
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
            raise CorruptImage(f"the {codec.name} file lacks an item of its picture")
        if len(tiles) > _MAX_TILES:
            raise too_many()
        if items[number].kind == b"grid" and tiles:
            chosen += [number, *tiles]
        elif items[number].kind == codec.item:
            chosen.append(number)
        else:
            raise UnsupportedFormat(f"this kind of {codec.name} picture is not read")
    if any(items[n].kind != codec.item for n in chosen if n not in {main, *alphas}):
        raise UnsupportedFormat(f"this kind of {codec.name} picture is not read")
    return chosen


def _check_size(items: dict[int, Item], item: Item, pixels: int, codec: _Codec) -> None:
    """Refuse an item whose frames, or tiles, are larger than the picture needs."""
    if item.kind == b"grid":
        tiles = [items[number].size for number in item.references[b"dimg"]]
        if sum(width * height for width, height in tiles) > 2 * pixels + _SPARE_PIXELS:
            raise CorruptImage(f"the {codec.name} file has tiles far larger than the picture")
        return
    width, height = item.size
    if width * height > pixels + _SPARE_PIXELS:
        raise CorruptImage(f"the {codec.name} file has items larger than the picture")
    for coded_width, coded_height in codec.coded_sizes(item):
        if coded_width * coded_height > width * height + _SPARE_PIXELS:
            raise CorruptImage(f"the {codec.name} file's coded size contradicts its own")


def _box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def _written(items: dict[int, Item], chosen: list[int], codec: _Codec) -> bytes:
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
        kept = [p for p in item.properties if _is_kept(p, codec)]
        properties += [p for p in dict.fromkeys(kept) if p not in properties]
        indices = [0x8000 | (properties.index(p) + 1) for p in kept]  # essential, all of them
        associations.append(struct.pack(f">HB{len(kept)}H", new, len(kept), *indices))
        for kind in (b"dimg", b"auxl", b"prem"):
            targets = [numbers[t] for t in item.references.get(kind, []) if t in numbers]
            if targets:
                form = f">HH{len(targets)}H"
                references.append(_box(kind, struct.pack(form, new, len(targets), *targets)))
    head = _box(b"ftyp", codec.brand, bytes(4), codec.brand, b"mif1miaf")

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


def _is_kept(one: tuple[bytes, bytes], codec: _Codec) -> bool:
    kind, body = one
    if kind == b"clap":
        return codec.in_order
    return kind in _KEPT or (kind == b"colr" and body[:4] == b"nclx")
