"""One picture, still compressed, and what its file says of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Completeness(Enum):
    """How it is found out, while decoding, that all of a JPEG's pixels are there.

    libjpeg paints what is missing grey, or leaves it blurred, and says nothing.
    """

    KNOWN = "the headers have shown it"
    LAST_ROW = "the last row must be written before the end mark is read"
    TWO_DECODES = "bytes added before the end mark must change no pixel"
    BOTH = "the last row, and bytes added"


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One picture, still compressed, and what its file says of it.

    Attributes:
        format: Pillow's name for the format: PNG, JPEG, WEBP, GIF, BMP, TIFF, AVIF or
            HEIF.
        width: pixels per row as stored, before `orientation` is applied.
        height: rows as stored.
        data: the file, reduced to what a decoder needs for its first picture.
        orientation: EXIF orientation, 1…8; 1 is upright.
        frame: `(left, top, right, bottom)` in pixels of the part of the canvas that the picture
            covers, or None where it covers all. Only GIF has pictures smaller than the canvas.
        sample_bits: bits of each sample as stored, 1…16; of other formats than PNG and TIFF, 8.
        transparent: the colour of a 16-bit RGB PNG that is transparent, three samples.
        profile: the ICC profile; empty bytes where there is one that can't be read.
        cicp: code points of primaries and transfer (ITU-T H.273), where AVIF, HEIC or PNG has them.
        white_is_zero: whether 16-bit grey counts down from white, which Pillow doesn't honour.
        cut_short: whether the data can't possibly be that of so many pixels.
        completeness: how the decoder finds out that data of a JPEG is missing.
    """

    format: str
    width: int
    height: int
    data: bytes
    orientation: int = 1
    frame: tuple[int, int, int, int] | None = None
    sample_bits: int = 8
    transparent: tuple[int, ...] | None = None
    profile: bytes | None = None
    cicp: tuple[int, int] | None = None
    white_is_zero: bool = False
    cut_short: bool = False
    completeness: Completeness = Completeness.KNOWN

    @property
    def displayed_size(self) -> tuple[int, int]:
        """`(width, height)` in pixels of the upright picture."""
        return self.turned((self.width, self.height))

    def turned(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return a size as stored for one as displayed, and the other way round."""
        return (size[1], size[0]) if self.orientation >= 5 else size
