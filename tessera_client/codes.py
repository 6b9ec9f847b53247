"""Codes, and `.tess` files of them (docs/codes-format.md)."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np

from tessera_client.errors import CodesError
from tessera_client.tess import (
    IMAGE,
    PRECISIONS,
    Header,
    bits_of,
    end_of_images,
    header_size,
    pack,
    payload_size,
    sealed,
    unpack,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

_LONGEST_SIDE = 65_535
_CONTROLS = {*map(chr, range(32)), "\x7f"}


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Grid:
    """The codes of one image.

    Attributes:
        codes: int64 `[rows, columns]`, of several stages `[stages, rows, columns]`.
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
        grid = " × ".join(map(str, self.codes.shape))
        return f"<Grid {name}{self.width} × {self.height} pixels, {grid} codes>"

    @property
    def stages(self) -> int:
        """How many codes there are for each patch of the image."""
        return 1 if self.codes.ndim == 2 else len(self.codes)

    def first(self, stages: int) -> Grid:
        """The first stages alone, which decode too; what they hold is not copied.

        Raises:
            CodesError: there are fewer.
        """
        if not 1 <= stages <= self.stages:
            raise CodesError(f"the codes have {self.stages} stages; {stages} can't be taken")
        if stages == self.stages:
            return self
        return replace(self, codes=self.codes[0] if stages == 1 else self.codes[:stages])


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Codes:
    """Codes of images, all of one code space: a sequence of `Grid`.

    Attributes:
        code_space: digest, 64 hexadecimal digits, of the codebook and decoder they belong to.
        codebook_size: codes, of the first stage, are within `[0, codebook_size)`.
        stride: pixels per code along each axis.
        precision: what the encoder ran in: fp32, fp16, int8 or unknown.
        grids: one for each image, all of as many stages.
        residual_sizes: as `codebook_size`, for each further stage that the grids have.
    """

    code_space: str
    codebook_size: int
    stride: int
    precision: str
    grids: tuple[Grid, ...]
    residual_sizes: tuple[int, ...] = ()

    def __repr__(self) -> str:
        """What they are in a line, without the codes."""
        images = "1 image" if len(self) == 1 else f"{len(self):,} images"
        sizes = " + ".join(f"{size:,}" for size in self.codebook_sizes)
        return (
            f"<Codes of {images}, of {sizes} codes for {self.stride} × "
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
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes of each stage, the first one first."""
        return (self.codebook_size, *self.residual_sizes)

    @property
    def stages(self) -> int:
        """How many codes there are for each patch of an image."""
        return len(self.codebook_sizes)

    @property
    def bits_per_code(self) -> int:
        """The fewest bits that tell all codes of the first stage apart."""
        return bits_of(self.codebook_size)

    def first(self, stages: int) -> Codes:
        """The same codes without their later stages: fewer bytes, which decode less exactly.

        Raises:
            CodesError: there are fewer stages.
        """
        grids = tuple(grid.first(stages) for grid in self.grids)
        return replace(self, grids=grids, residual_sizes=self.residual_sizes[: stages - 1])

    @classmethod
    def joined(cls, parts: Iterable[Codes]) -> Codes:
        """The grids of several, in order; `unknown` precision if they differ in it.

        Raises:
            CodesError: none, or of different code spaces or numbers of stages.
        """
        found = list(parts)
        if not found:
            raise CodesError("there are no codes to join")
        first = found[0]
        if any(part.code_space != first.code_space for part in found):
            raise CodesError("the codes are of different code spaces")
        if any(part.codebook_sizes != first.codebook_sizes for part in found):
            raise CodesError("the codes are of different stages: codes.first(1) has one")
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
        if not self.grids or self.precision not in PRECISIONS:
            raise CodesError("there are no codes, or their precision is not known")
        header = Header(
            *(self.code_space, self.codebook_sizes, self.stride, self.precision, len(self.grids))
        )
        chunks = [header.to_bytes()]
        for grid in self.grids:
            chunks += self._image(grid)
        return sealed(b"".join(chunks))

    def _image(self, grid: Grid) -> list[bytes]:
        """A grid as it stands in a file."""
        rows, columns = grid.codes.shape[-2:]
        name = (grid.name or "").encode()
        if (rows, columns) != _shape(grid.width, grid.height, self.stride) or len(name) > 255:
            raise CodesError("a grid's size or name is not one that the format can hold")
        if grid.stages != self.stages:
            raise CodesError("a grid has another number of stages than residual_sizes says")
        payload = b""
        stages = grid.codes.reshape(-1, rows, columns)
        for codes, size in zip(stages, self.codebook_sizes, strict=True):
            if codes.min() < 0 or codes.max() >= size:
                raise CodesError("a code is not one of the codebook's")
            payload += pack(codes, size)
        head = IMAGE.pack(grid.width, grid.height, rows, columns, len(payload), len(name))
        return [head, name, payload]

    @classmethod
    def from_bytes(cls, data: bytes) -> Codes:
        """Read a `.tess` file from memory.

        Raises:
            CodesError: it is not as the format says.
        """
        header = Header.read(data)
        grids = []
        at, end = header_size(data), end_of_images(data)
        for _ in range(header.images):
            grid, at = _read_image(data, at, end, header)
            grids.append(grid)
        if at != end:
            raise CodesError("bytes follow the last image")
        size, *further = header.sizes
        heads = (header.code_space, size, header.stride, header.precision)
        return cls(*heads, tuple(grids), tuple(further))


def _read_image(data: bytes, at: int, end: int, header: Header) -> tuple[Grid, int]:
    """A grid, and where the next one begins."""
    if at + IMAGE.size > end:
        raise CodesError("the file ends before its last image does")
    width, height, rows, columns, length, letters = IMAGE.unpack_from(data, at)
    at += IMAGE.size
    if not (1 <= width <= _LONGEST_SIDE and 1 <= height <= _LONGEST_SIDE):
        raise CodesError("an image's size is impossible")
    lengths = [payload_size(rows * columns, size) for size in header.sizes]
    if (rows, columns) != _shape(width, height, header.stride) or length != sum(lengths):
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
    stages = []
    for size, part in zip(header.sizes, lengths, strict=True):
        codes = unpack(data[at : at + part], rows * columns, size)
        stages.append(codes.reshape(rows, columns))
        at += part
    return Grid(
        stages[0] if len(stages) == 1 else np.stack(stages), width, height, name or None
    ), at


def _shape(width: int, height: int, stride: int) -> tuple[int, int]:
    return -(-height // stride), -(-width // stride)
