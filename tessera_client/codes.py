"""Codes, and `.tess` files of them: version 1 of docs/codes-format.md."""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np

from tessera_client.errors import CodesError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

MEDIA_TYPE = "application/vnd.tessera.codes"

_MAGIC = b"\x89TESS\r\n\x1a"
_HEADER = struct.Struct("<8sHBBIHHI32s")
_IMAGE = struct.Struct("<IIIIIB")
_CRC = struct.Struct("<I")
_PRECISIONS = ("unknown", "fp32", "fp16", "int8")
_MOST_CODES = 2**24
_LONGEST_SIDE = 65_535
_CONTROLS = {*map(chr, range(32)), "\x7f"}


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Grid:
    """The codes of one image.

    Attributes:
        codes: int64 `[rows, columns]`.
        width, height: of the image in pixels.
        name: of the image, such as its file name; never a path to be trusted.
    """

    codes: NDArray[np.int64]
    width: int
    height: int
    name: str | None = None

    def __repr__(self) -> str:
        """What it is in a line, without its codes."""
        name = "" if self.name is None else f"{self.name!r}: "
        rows, columns = self.codes.shape
        return f"<Grid {name}{self.width} × {self.height} pixels, {rows} × {columns} codes>"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Codes:
    """Codes of images, all of one code space: a sequence of `Grid`.

    Attributes:
        code_space: digest, 64 hexadecimal digits, of the codebook and decoder they belong to.
        codebook_size: codes are within `[0, codebook_size)`.
        stride: pixels per code along each axis.
        precision: what the encoder ran in: fp32, fp16, int8 or unknown.
        grids: one for each image.
    """

    code_space: str
    codebook_size: int
    stride: int
    precision: str
    grids: tuple[Grid, ...]

    def __repr__(self) -> str:
        """What they are in a line, without the codes."""
        images = "1 image" if len(self) == 1 else f"{len(self):,} images"
        return (
            f"<Codes of {images}, of {self.codebook_size:,} codes for {self.stride} × "
            f"{self.stride} pixels, {self.precision}, code space {self.code_space[:16]}…>"
        )

    def __len__(self) -> int:
        return len(self.grids)

    def __iter__(self) -> Iterator[Grid]:
        return iter(self.grids)

    @overload
    def __getitem__(self, index: int) -> Grid: ...
    @overload
    def __getitem__(self, index: slice) -> Codes: ...
    def __getitem__(self, index: int | slice) -> Grid | Codes:
        if isinstance(index, slice):
            return replace(self, grids=self.grids[index])
        return self.grids[index]

    @property
    def bits_per_code(self) -> int:
        """The fewest that tell all codes apart."""
        return (self.codebook_size - 1).bit_length()

    @classmethod
    def joined(cls, parts: Iterable[Codes]) -> Codes:
        """The grids of several, in order; `unknown` precision if they differ in it.

        Raises:
            CodesError: none, or of different code spaces.
        """
        found = list(parts)
        if not found:
            raise CodesError("there are no codes to join")
        first = found[0]
        if any(part.code_space != first.code_space for part in found):
            raise CodesError("the codes are of different code spaces")
        same = all(part.precision == first.precision for part in found)
        return replace(
            first,
            precision=first.precision if same else "unknown",
            grids=tuple(grid for part in found for grid in part.grids),
        )

    # --- files ----------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a `.tess` file: beside it first, then renamed, so that nobody sees half of one."""
        target = Path(path)
        beside = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            beside.write_bytes(self.to_bytes())
            beside.replace(target)
        finally:
            beside.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Codes:
        """Read a `.tess` file.

        Raises:
            CodesError: it is not as the format says.
        """
        return cls.from_bytes(Path(path).read_bytes())

    def to_bytes(self) -> bytes:
        """The `.tess` file as bytes.

        Raises:
            CodesError: there are no grids, or one that the format can't hold.
        """
        if not self.grids or self.precision not in _PRECISIONS:
            raise CodesError("there are no codes, or their precision is not known")
        chunks = [
            _HEADER.pack(
                *(_MAGIC, 1, 0, _PRECISIONS.index(self.precision)),
                *(self.codebook_size, self.stride, 0, len(self.grids)),
                bytes.fromhex(self.code_space),
            )
        ]
        for grid in self.grids:
            rows, columns = grid.codes.shape
            name = (grid.name or "").encode()
            if (rows, columns) != _shape(grid.width, grid.height, self.stride) or len(name) > 255:
                raise CodesError("a grid's size or name is not one that the format can hold")
            if grid.codes.min() < 0 or grid.codes.max() >= self.codebook_size:
                raise CodesError("a code is not one of the codebook's")
            payload = _pack(grid.codes, self.bits_per_code)
            chunks += [
                _IMAGE.pack(grid.width, grid.height, rows, columns, len(payload), len(name)),
                name,
                payload,
            ]
        body = b"".join(chunks)
        return body + _CRC.pack(zlib.crc32(body))

    @classmethod
    def from_bytes(cls, data: bytes) -> Codes:
        """Read a `.tess` file from memory.

        Raises:
            CodesError: it is not as the format says.
        """
        if len(data) < _HEADER.size + _CRC.size or not data.startswith(_MAGIC):
            raise CodesError("this is not a .tess file")
        _, version, method, precision, size, stride, reserved, images, space = _HEADER.unpack_from(
            data
        )
        if version != 1:
            raise CodesError(f"the file is of version {version}; this package reads 1")
        if zlib.crc32(data[: -_CRC.size]) != _CRC.unpack_from(data, len(data) - _CRC.size)[0]:
            raise CodesError("the file is damaged: its CRC-32 doesn't match")
        if method == 1:
            raise CodesError(
                "the file's codes are coded by their context: Client.recode(data, 'fixed') reads it"
            )
        if method != 0 or precision >= len(_PRECISIONS) or reserved != 0:
            raise CodesError("the file's coding method, precision or reserved field is unknown")
        if not 2 <= size <= _MOST_CODES or stride < 1 or images < 1:
            raise CodesError("the file's codebook size, stride or number of images is impossible")
        bits = (size - 1).bit_length()
        grids = []
        at, end = _HEADER.size, len(data) - _CRC.size
        for _ in range(images):
            grid, at = _read_image(data, at, end, size, stride, bits)
            grids.append(grid)
        if at != end:
            raise CodesError("bytes follow the last image")
        return cls(space.hex(), size, stride, _PRECISIONS[precision], tuple(grids))


def split_file(data: bytes) -> list[bytes]:
    """The images of a `.tess` file, each as it stands in it, whatever their coding.

    Raises:
        CodesError: it is not such a file, or ends before its last image does.
    """
    if len(data) < _HEADER.size + _CRC.size or not data.startswith(_MAGIC):
        raise CodesError("this is not a .tess file")
    count, end = _HEADER.unpack_from(data)[7], len(data) - _CRC.size
    images, at = [], _HEADER.size
    for _ in range(count):
        if at + _IMAGE.size > end:
            raise CodesError("the file ends before its last image does")
        *_, length, letters = _IMAGE.unpack_from(data, at)
        after = at + _IMAGE.size + letters + length
        images.append(data[at:after])
        at = after
    if at != end:
        raise CodesError("the file doesn't end where its last image does")
    return images


def joined_file(like: bytes, images: Sequence[bytes]) -> bytes:
    """A `.tess` file of images that `split_file` gave.

    Args:
        like: a file whose header holds for all of them.
        images: as they stand in a file.
    """
    fields = list(_HEADER.unpack_from(like))
    fields[7] = len(images)
    body = b"".join([_HEADER.pack(*fields), *images])
    return body + _CRC.pack(zlib.crc32(body))


def _read_image(
    data: bytes, at: int, end: int, size: int, stride: int, bits: int
) -> tuple[Grid, int]:
    """A grid, and where the next one begins."""
    if at + _IMAGE.size > end:
        raise CodesError("the file ends before its last image does")
    width, height, rows, columns, length, letters = _IMAGE.unpack_from(data, at)
    at += _IMAGE.size
    if not (1 <= width <= _LONGEST_SIDE and 1 <= height <= _LONGEST_SIDE):
        raise CodesError("an image's size is impossible")
    if (rows, columns) != _shape(width, height, stride) or length != -(-rows * columns * bits // 8):
        raise CodesError("an image's grid or payload doesn't follow from its size")
    if at + letters + length > end:
        raise CodesError("the file ends before its last image does")
    try:
        name = data[at : at + letters].decode()
    except UnicodeDecodeError as error:
        raise CodesError("an image's name is not UTF-8") from error
    if _CONTROLS & {*name}:
        raise CodesError("an image's name has control characters")
    at += letters
    codes = _unpack(data[at : at + length], rows * columns, bits)
    if codes.max() >= size:
        raise CodesError("a code is not one of the codebook's")
    return Grid(codes.reshape(rows, columns), width, height, name or None), at + length


def _shape(width: int, height: int, stride: int) -> tuple[int, int]:
    return -(-height // stride), -(-width // stride)


def _pack(codes: NDArray[np.int64], bits: int) -> bytes:
    places = np.arange(bits - 1, -1, -1)
    return np.packbits((codes.reshape(-1, 1) >> places & 1).astype(np.uint8)).tobytes()


def _unpack(payload: bytes, count: int, bits: int) -> NDArray[np.int64]:
    ones = np.unpackbits(np.frombuffer(payload, np.uint8))
    if ones[count * bits :].any():
        raise CodesError("a left-over bit is not 0")
    # A product of floats would be faster, but is exact only up to 24 bits of float32.
    codes = np.zeros(count, np.int64)
    for column in ones[: count * bits].reshape(count, bits).T:
        codes = codes << 1 | column
    return codes
