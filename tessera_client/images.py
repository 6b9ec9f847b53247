"""What a caller passes as an image, read only when it is sent."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Files, their bytes, PIL images, pixels uint8 `[h, w, 3]` or grey `[h, w]` and `[h, w, 1]`; for
# models of other pixels also uint16 and other numbers of channels.
Image = Any

# Of pictures; an array of other channels, up to so many, is never taken for several grey ones.
_CHANNELS = (1, 3, 4)
_MOST_CHANNELS = 16


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """One image to be sent.

    Attributes:
        given: as the caller passed it.
        name: the name of its file; empty where it has none.
        size: about how many bytes will be sent.
    """

    given: Image
    name: str
    size: int

    @classmethod
    def of(cls, given: Image) -> Source:
        """Look at what it is.

        Raises:
            TypeError: not an image.
            OSError: no such file.
        """
        if isinstance(given, str | os.PathLike):
            path = Path(given)
            # A name that isn't UTF-8 can't be sent as it is.
            name = path.name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            return cls(path, name, path.stat().st_size)
        if isinstance(given, bytes | bytearray | memoryview):
            return cls(bytes(given), "", len(given))
        if isinstance(given, np.ndarray):
            _check_pixels(given)
            return cls(given, "", given.size)
        if hasattr(given, "save") and hasattr(given, "mode"):
            return cls(given, "", 4 * given.width * given.height)
        raise TypeError("an image is a path, bytes, an array of uint8 or a PIL image")

    def read(self) -> bytes:
        """A file that the server can decode.

        Raises:
            OSError: the file can't be read.
        """
        if isinstance(self.given, Path):
            return self.given.read_bytes()
        if isinstance(self.given, bytes):
            return self.given
        if isinstance(self.given, np.ndarray):
            grey_or_rgb = self.given.ndim == 2 or self.given.shape[2] in (1, 3)
            if grey_or_rgb and self.given.dtype == np.uint8:
                return _bmp(self.given)
            file = io.BytesIO()
            np.save(file, self.given.reshape(*self.given.shape[:2], -1), allow_pickle=False)
            return file.getvalue()
        file = io.BytesIO()
        self.given.save(file, "PNG", compress_level=1)
        return file.getvalue()


def sources(images: Image | Iterable[Image]) -> list[Source]:
    """One image, or several: lists, tuples, generators, arrays `[n, h, w, 3]` or grey `[n, h, w]`.

    Raises:
        TypeError: not an image among them.
        OSError: no such file.
    """
    single = isinstance(images, str | os.PathLike | bytes | bytearray | memoryview) or (
        not isinstance(images, Iterable) or (isinstance(images, np.ndarray) and _is_one(images))
    )
    return [Source.of(image) for image in ([images] if single else images)]


def _is_one(array: NDArray[Any]) -> bool:
    """Whether an array is one image: three axes are several grey ones unless the last is colours.

    What is neither is left to `_check_pixels`.
    """
    return array.ndim not in (3, 4) or (array.ndim == 3 and array.shape[2] in _CHANNELS)


def _check_pixels(array: NDArray[Any]) -> None:
    """Refuse what isn't one image of uint8.

    Raises:
        TypeError: another type or shape, with what to do.
    """
    if array.ndim not in (2, 3) or (array.ndim == 3 and not 1 <= array.shape[2] <= _MOST_CHANNELS):
        raise TypeError(
            f"an image is an array [h, w, 3], or grey [h, w], several are [n, h, w, 3] or "
            f"[n, h, w]; this one is {list(array.shape)}"
        )
    if array.dtype.kind == "f":
        raise TypeError(
            f"pixels must be uint8, not {array.dtype}: of 0…1, pass "
            "(images * 255).round().astype('uint8')"
        )
    if array.dtype not in (np.uint8, np.uint16):
        raise TypeError(f"pixels must be uint8, or uint16 for a model of 16 bits: {array.dtype}")


def _bmp(pixels: NDArray[np.uint8]) -> bytes:
    """An uncompressed BMP file: the one lossless format that is written in a few lines."""
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        pixels = np.repeat(pixels.reshape(*pixels.shape[:2], 1), 3, axis=2)
    height, width, _ = pixels.shape
    row = -(-3 * width // 4) * 4
    rows = np.zeros((height, row), np.uint8)
    rows[:, : 3 * width] = pixels[::-1, :, ::-1].reshape(height, 3 * width)
    size = height * row
    head = struct.pack("<2sIHHI", b"BM", 54 + size, 0, 0, 54)
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, size, 2835, 2835, 0, 0)
    return head + info + rows.tobytes()
