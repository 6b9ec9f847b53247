"""JPEG decoded so that missing data is noticed.

Where a JPEG's data end early, libjpeg paints the rest grey or leaves it blurred, with a warning
that Pillow drops. So the decoder is watched from outside, through what it reads and writes.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, NoReturn

from PIL import Image

from imaging.errors import CorruptImage
from imaging.image_file import Completeness

if TYPE_CHECKING:
    from collections.abc import Callable

_END = b"\xff\xd9"

# The Huffman decoder fills its buffer of 64 bits before it needs them; it gets as many ones, which
# are no code of any table.
_ONES = b"\xff\0" * 8

# No flat picture in any table of codes: a decoder that takes this for pixels shows it, also where
# it waits for one of the eight restart markers first. One that has all of its pixels skips it.
_NOISE = bytes((0x5A, 0xC3, 0x17, 0xE8, 0x6D, 0xB1, 0x94, 0x2F)) * 16
_OTHER_PIXELS = _NOISE + b"".join(bytes((0xFF, 0xD0 + n)) + _NOISE for n in range(8))


def load_jpeg(
    data: bytes, completeness: Completeness, prepare: Callable[[Image.Image], None]
) -> Image.Image:
    """Decode a JPEG.

    Args:
        data: the file, reduced as `imaging.jpeg.read_jpeg` does, with its end mark last.
        completeness: how to find out whether pixels are missing.
        prepare: called with the opened image before it is decoded.

    Raises:
        CorruptImage: pixels are missing.
        Exception: whatever Pillow raises.
    """
    if completeness in {Completeness.LAST_ROW, Completeness.BOTH}:
        image = _load_watched(data, prepare)
    else:
        image = _load(io.BytesIO(data), len(data), prepare)
    if completeness in {Completeness.TWO_DECODES, Completeness.BOTH}:
        other = data[:-2] + _OTHER_PIXELS + _END
        if not _are_equal(image, _load(io.BytesIO(other), len(other), prepare)):
            _missing()
    return image


def _are_equal(one: Image.Image, other: Image.Image) -> bool:
    width, height = one.size
    rows = 64  # at a time, so that no further copy of the pictures is made
    strips = ((0, y, width, min(y + rows, height)) for y in range(0, height, rows))
    return all(one.crop(box).tobytes() == other.crop(box).tobytes() for box in strips)


def _load(file: io.BytesIO, length: int, prepare: Callable[[Image.Image], None]) -> Image.Image:
    image = Image.open(file, formats=("JPEG",))
    prepare(image)
    return _decode(image, length)


def _decode(image: Image.Image, length: int) -> Image.Image:
    # All at once: the decoder of arithmetic coding can't stop in the middle and wait for more.
    image.decodermaxblock = length  # type: ignore[attr-defined]
    image.load()
    return image


class _LateEnd(io.BytesIO):
    """A file that looks at the last row of the picture before it gives the end mark away."""

    def __init__(self, content: bytes, image: Image.Image) -> None:
        super().__init__(content)
        self._image = image
        self.row: list[int] | None = None

    def read(self, size: int | None = -1) -> bytes:
        piece = super().read(size)
        if piece or self.row is not None:
            return piece
        self.row = _last_row(self._image)
        return _END


def _load_watched(data: bytes, prepare: Callable[[Image.Image], None]) -> Image.Image:
    content = data[:-2] + _ONES
    # Opened from a plain file: Pillow reads the header in forty small pieces.
    image = Image.open(io.BytesIO(content), formats=("JPEG",))
    prepare(image)
    file = _LateEnd(content, image)
    image.fp = file
    decoded = _decode(image, len(content))
    if file.row is not None and file.row != _last_row(decoded):
        _missing()
    return decoded


def _last_row(image: Image.Image) -> list[int]:
    """Return the histogram of the last row of what is decoded so far, which is black at first."""
    width, height = image.size
    # The inner image: the outer one would wait until all of it is decoded.
    row: list[int] = image.im.crop((0, height - 1, width, height)).histogram()
    return row


def _missing() -> NoReturn:
    raise CorruptImage("the JPEG image is truncated: pixels are missing")
