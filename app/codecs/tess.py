"""The packed binary format of code grids, `.tess`: docs/codes-format.md, byte for byte.

The page is normative and suffices to write another reader; this module follows it. How codes are
coded by their context is in `app.codecs.context_coder`, which needs a prior.
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from app.codecs.bits import bits_per_code, pack_bits, unpack_bits
from app.codecs.code_file import PRECISIONS, CodedFile, CodedGrid, CodeFile
from app.codecs.grids import CodeGrid, check_count, check_size, out_of_range
from app.errors import MalformedRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MEDIA_TYPE = "application/vnd.tessera.codes"

_MAGIC = b"\x89TESS\r\n\x1a"  # as PNG's: it doesn't survive transfer as text
# One stage of codes; several.
_ONE_STAGE, _STAGES = 1, 2
_MAX_STAGES = 16
# Coding methods: every code of the same width; by its context, with a bundle's prior.
_FIXED_WIDTH, _CONTEXT = 0, 1
_HEADER = struct.Struct("<8sHBBIHHI32s")
_IMAGE = struct.Struct("<IIIIIB")
_CRC = struct.Struct("<I")
_CODED = struct.Struct("<8sI")  # before what the coder wrote: the prior, and the CRC of the codes
# Two symbols of a code take at most 24 bits each, and the coder ends within 8 bytes.
_MOST_BYTES_PER_CODE, _MOST_BYTES_MORE = 6, 8
_MAX_CODEBOOK_SIZE = 2**24
_MAX_NAME_BYTES = 255


def pack_codes(file: CodeFile) -> bytes:
    """Write grids in the packed binary format, docs/codes-format.md.

    Each code takes ceil(log2(codebook_size)) bits, of its stage's codebook. A name loses its
    control characters and what is beyond 255 bytes of UTF-8. One stage is written in version 1 of
    the format, several in version 2.

    Args:
        file: what to write. That grids suit sizes and codes the codebook is the caller's duty.
    """
    bits = [bits_per_code(size) for size in (file.codebook_size, *file.residual_sizes)]
    images = [_image(grid, _packed(grid.codes, bits)) for grid in file.grids]
    return _sealed(file, _FIXED_WIDTH, images)


def _packed(codes: NDArray[np.int64], bits: Sequence[int]) -> bytes:
    """Stage after stage, each from a whole byte on."""
    if codes.ndim == 2:
        (one,) = bits
        return pack_bits(codes, one)
    return b"".join(pack_bits(stage, width) for stage, width in zip(codes, bits, strict=True))


def pack_coded(file: CodedFile) -> bytes:
    """Write coded grids in the packed binary format, coding method 1.

    Args:
        file: what to write.
    """
    images = [_image(grid, coded_payload(grid)) for grid in file.grids]
    return _sealed(file, _CONTEXT, images)


def coded_payload(grid: CodedGrid) -> bytes:
    """The payload of one image in coding method 1: which prior, the codes' CRC, the coded codes."""
    return _CODED.pack(bytes.fromhex(grid.prior), grid.crc) + grid.data


def _image(grid: CodeGrid | CodedGrid, payload: bytes) -> bytes:
    name = _name_bytes(grid.name)
    head = _IMAGE.pack(grid.width, grid.height, *grid.shape, len(payload), len(name))
    return head + name + payload


def _sealed(file: CodeFile | CodedFile, method: int, images: list[bytes]) -> bytes:
    more = file.residual_sizes
    header = _HEADER.pack(
        _MAGIC,
        _STAGES if more else _ONE_STAGE,
        method,
        PRECISIONS.index(file.precision),
        file.codebook_size,
        file.stride,
        1 + len(more) if more else 0,
        len(images),
        bytes.fromhex(file.code_space),
    )
    body = b"".join([header, struct.pack(f"<{len(more)}I", *more), *images])
    return body + _CRC.pack(zlib.crc32(body))


def unpack_codes(data: bytes, *, max_images: int, max_pixels: int) -> CodeFile:
    """Read the packed binary format, coding method 0 alone; otherwise as `read_tess`.

    Raises:
        MalformedRequest: also where the codes are coded by their context.
    """
    file = read_tess(data, max_images=max_images, max_pixels=max_pixels)
    if isinstance(file, CodedFile):
        raise MalformedRequest(
            "the packed codes are coded by their context: only what has the prior can read them"
        )
    return file


def read_tess(data: bytes, *, max_images: int, max_pixels: int) -> CodeFile | CodedFile:
    """Read the packed binary format, docs/codes-format.md.

    Args:
        data: the file.
        max_images: most images.
        max_pixels: most pixels (width × height) of each image.

    Returns:
        What the file holds; whether its code space and prior are known is the caller's to find
        out. Codes that are coded by their context are left so.

    Raises:
        MalformedRequest: not such a file, damaged, of a version or coding method not known here,
            or in contradiction with itself.
        CodesInvalid: a code is out of the codebook's range, or a grid doesn't suit its image.
        TooManyImages: more images than `max_images`.
        ImageTooLarge: more than `max_pixels`, or a side above 65,535 pixels.
    """
    reader = _Reader(data)
    magic, version, method, precision, codebook_size, stride, stages, n, digest = reader.fields(
        _HEADER
    )
    if magic != _MAGIC:
        raise MalformedRequest("not a packed code file: it doesn't begin as one")
    if version not in {_ONE_STAGE, _STAGES}:
        raise MalformedRequest("packed code files of versions 1 and 2 alone can be read")
    body = memoryview(data)[: -_CRC.size]
    if _CRC.unpack_from(data, len(body)) != (zlib.crc32(body),):
        raise MalformedRequest("the packed code file is damaged: its CRC-32 doesn't match")
    # From here on the file is as its writer meant it.
    if method not in {_FIXED_WIDTH, _CONTEXT}:
        raise MalformedRequest("the packed codes are coded by a method not known here")
    if precision >= len(PRECISIONS) or (version == _ONE_STAGE and stages):
        raise MalformedRequest("the packed code file has a field of no known meaning")
    if version == _STAGES and not 2 <= stages <= _MAX_STAGES:
        raise MalformedRequest(f"packed code files of version 2 have 2 to {_MAX_STAGES} stages")
    more = reader.fields(struct.Struct(f"<{max(0, stages - 1)}I"))
    sizes = (codebook_size, *more)
    if not all(2 <= size <= _MAX_CODEBOOK_SIZE for size in sizes) or not stride:
        raise MalformedRequest("the packed code file has an impossible codebook size or stride")
    if n == 0:
        raise MalformedRequest("the packed code file holds no image")
    check_count(n, max_images)
    heads = (digest.hex(), codebook_size, stride, PRECISIONS[precision])
    file: CodeFile | CodedFile
    if method == _CONTEXT:
        coded = [_read_coded(reader, len(sizes), stride, max_pixels) for _ in range(n)]
        file = CodedFile(*heads, coded, more)
    else:
        file = CodeFile(
            *heads, [_read_grid(reader, sizes, stride, max_pixels) for _ in range(n)], more
        )
    if reader.position != len(body):
        raise MalformedRequest("the packed code file has bytes after its last image")
    return file


class _Reader:
    """A position in the file, up to its CRC."""

    def __init__(self, data: bytes) -> None:
        self._view = memoryview(data)[: max(0, len(data) - _CRC.size)]
        self.position = 0

    def take(self, size: int) -> memoryview:
        self.position += size
        if self.position > len(self._view):
            raise MalformedRequest("the packed code file is cut off")
        return self._view[self.position - size : self.position]

    def fields(self, layout: struct.Struct) -> tuple[Any, ...]:
        return layout.unpack(self.take(layout.size))


@dataclass(frozen=True, slots=True)
class _Head:
    """What comes before the payload of an image."""

    width: int
    height: int
    shape: tuple[int, int]
    payload_bytes: int
    name: str | None


def _read_head(reader: _Reader, stride: int, max_pixels: int) -> _Head:
    width, height, rows, columns, payload_bytes, name_bytes = reader.fields(_IMAGE)
    try:
        name = str(reader.take(name_bytes), "utf-8")
    except UnicodeDecodeError as error:
        raise MalformedRequest("an image name in the packed code file is not UTF-8") from error
    if any(_is_control(character) for character in name):
        raise MalformedRequest("an image name in the packed code file has control characters")
    check_size((rows, columns), width, height, stride, max_pixels)
    return _Head(width, height, (rows, columns), payload_bytes, name or None)


def _read_coded(reader: _Reader, stages: int, stride: int, max_pixels: int) -> CodedGrid:
    head = _read_head(reader, stride, max_pixels)
    most = _MOST_BYTES_PER_CODE * stages * head.shape[0] * head.shape[1] + _MOST_BYTES_MORE
    if not 0 <= head.payload_bytes - _CODED.size <= most:
        raise MalformedRequest("the packed codes of an image have an impossible length")
    prior, crc = reader.fields(_CODED)
    data = bytes(reader.take(head.payload_bytes - _CODED.size))
    return CodedGrid(data, prior.hex(), crc, head.shape, head.width, head.height, head.name, stages)


def _read_grid(reader: _Reader, sizes: tuple[int, ...], stride: int, max_pixels: int) -> CodeGrid:
    head = _read_head(reader, stride, max_pixels)
    n = math.prod(head.shape)
    lengths = [-(-n * bits_per_code(size) // 8) for size in sizes]
    if head.payload_bytes != sum(lengths):
        raise MalformedRequest("the packed codes of an image have the wrong length")
    payloads = [reader.take(length) for length in lengths]
    stages = [
        _unpacked(payload, n, size).reshape(head.shape)
        for payload, size in zip(payloads, sizes, strict=True)
    ]
    codes = stages[0] if len(stages) == 1 else np.stack(stages)
    return CodeGrid(codes, head.width, head.height, head.name)


def _unpacked(data: memoryview, n: int, codebook_size: int) -> NDArray[np.int64]:
    """The n codes of one stage."""
    payload = np.frombuffer(data, dtype=np.uint8)
    bits = bits_per_code(codebook_size)
    if (left := len(payload) * 8 - n * bits) and payload[-1] & ((1 << left) - 1):
        raise MalformedRequest("the bits after the last code of a stage must be zero")
    codes = unpack_bits(payload, n, bits)
    if codes.max() >= codebook_size:
        raise out_of_range(codebook_size)
    return codes


def _is_control(character: str) -> bool:
    return character < " " or character == "\x7f"


def _name_bytes(name: str | None) -> bytes:
    kept = "".join(character for character in name or "" if not _is_control(character))
    cut = kept.encode("utf-8", "replace")[:_MAX_NAME_BYTES]
    return cut.decode("utf-8", "ignore").encode()  # no half character at the end
