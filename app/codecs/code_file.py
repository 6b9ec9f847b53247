"""What a packed file of codes holds, read and before it is written (`app.codecs.tess`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from app.codecs.grids import CodeGrid

# What the encoder ran in; a lower precision moves the codes that were a near tie.
Precision = Literal["unknown", "fp32", "fp16", "int8"]
# In the order of their numbers in a file.
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


def stated_precision(value: object) -> Precision:
    """What somebody says that codes were made in; `unknown` where it is none of those."""
    return next((known for known in PRECISIONS if known == value), "unknown")


@dataclass(frozen=True, slots=True, eq=False)
class CodeFile:
    """Grids of one code space: what a packed file holds.

    Attributes:
        code_space: digest of codebook and decoder, 64 lower-case hexadecimal digits.
        codebook_size: number of codes, 2…2²⁴.
        stride: pixels per code along each axis, 1…65,535.
        precision: what the encoder ran in.
        grids: one for each image, in order, all of as many stages.
        residual_sizes: number of codes, 2…2²⁴, of each further stage that the grids have.
    """

    code_space: str
    codebook_size: int
    stride: int
    precision: Precision
    grids: list[CodeGrid]
    residual_sizes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class CodedGrid:
    """The codes of one image as a context coder wrote them, not decoded yet.

    Attributes:
        data: what the coder wrote.
        prior: the first 8 bytes of the prior's digest, as 16 hexadecimal digits.
        crc: CRC-32 of the codes as unsigned 32-bit integers, little-endian, in C order.
        shape: `(rows, columns)`.
        width: true width of the image in pixels.
        height: true height of the image in pixels.
        name: as `CodeGrid.name`.
        stages: how many stages of codes were coded.
    """

    data: bytes
    prior: str
    crc: int
    shape: tuple[int, int]
    width: int
    height: int
    name: str | None = None
    stages: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class CodedFile:
    """Coded grids of one code space; as `CodeFile` for the rest."""

    code_space: str
    codebook_size: int
    stride: int
    precision: Precision
    grids: list[CodedGrid]
    residual_sizes: tuple[int, ...] = ()
