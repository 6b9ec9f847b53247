"""The bytes of `.tess` files, versions 1 and 2 of docs/codes-format.md: header, images, bits."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tessera_client.errors import CodesError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MEDIA_TYPE = "application/vnd.tessera.codes"
PRECISIONS = ("unknown", "fp32", "fp16", "int8")
IMAGE = struct.Struct("<IIIIIB")

_MAGIC = b"\x89TESS\r\n\x1a"
_HEADER = struct.Struct("<8sHBBIHHI32s")
_CRC = struct.Struct("<I")
_MOST_CODES = 2**24
_MOST_STAGES = 16
# Where the number of stages stands, and that of the images.
_STAGES_AT, _IMAGES_AT = 18, 20


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of all its images, coded with as many bits for each code.

    Attributes:
        code_space: digest, 64 hexadecimal digits.
        sizes: number of codes of each stage.
        stride: pixels per code along each axis.
        precision: what the encoder ran in, one of `PRECISIONS`.
        images: how many images follow.
    """

    code_space: str
    sizes: tuple[int, ...]
    stride: int
    precision: str
    images: int

    def to_bytes(self) -> bytes:
        """The header as it stands in a file."""
        first, *further = self.sizes
        fixed = _HEADER.pack(
            *(_MAGIC, 2 if further else 1, 0, PRECISIONS.index(self.precision)),
            *(first, self.stride, len(self.sizes) if further else 0, self.images),
            bytes.fromhex(self.code_space),
        )
        return fixed + struct.pack(f"<{len(further)}I", *further)

    @classmethod
    def read(cls, data: bytes) -> Header:
        """The header of a whole file, whose CRC-32 is checked.

        Raises:
            CodesError: it is no such file, damaged, or not one that can be read here.
        """
        _check_magic(data)
        _, version, method, precision, first, stride, stages, images, space = _HEADER.unpack_from(
            data
        )
        if version not in (1, 2):
            raise CodesError(f"the file is of version {version}; this package reads 1 and 2")
        if zlib.crc32(data[: -_CRC.size]) != _CRC.unpack_from(data, len(data) - _CRC.size)[0]:
            raise CodesError("the file is damaged: its CRC-32 doesn't match")
        if method == 1:
            raise CodesError(
                "the file's codes are coded by their context: Client.recode(data, 'fixed') reads it"
            )
        if method != 0 or precision >= len(PRECISIONS) or (version == 1 and stages):
            raise CodesError("the file's coding method, precision or reserved field is unknown")
        if version == 2 and not 2 <= stages <= _MOST_STAGES:
            raise CodesError(f"a file of version 2 has 2 to {_MOST_STAGES} stages, not {stages}")
        if header_size(data) > len(data) - _CRC.size:
            raise CodesError("the file ends before its first image")
        further = struct.unpack_from(f"<{max(0, stages - 1)}I", data, _HEADER.size)
        sizes = (first, *further)
        possible = all(2 <= size <= _MOST_CODES for size in sizes)
        if not possible or stride < 1 or images < 1:
            raise CodesError("the file's codebook size, stride or number of images is impossible")
        return cls(space.hex(), sizes, stride, PRECISIONS[precision], images)


def header_size(data: bytes) -> int:
    """How many bytes of a file come before its first image."""
    stages: int = struct.unpack_from("<H", data, _STAGES_AT)[0]
    return _HEADER.size + 4 * max(0, stages - 1)


def end_of_images(data: bytes) -> int:
    """Where the last image of a file should end."""
    return len(data) - _CRC.size


def sealed(body: bytes) -> bytes:
    """A file of header and images, with their CRC-32 behind them."""
    return body + _CRC.pack(zlib.crc32(body))


def split_file(data: bytes) -> list[bytes]:
    """The images of a `.tess` file, each as it stands in it, whatever their coding.

    Raises:
        CodesError: it is not such a file, or ends before its last image does.
    """
    _check_magic(data)
    count, end = _HEADER.unpack_from(data)[7], end_of_images(data)
    images, at = [], header_size(data)
    for _ in range(count):
        if at + IMAGE.size > end:
            raise CodesError("the file ends before its last image does")
        *_, length, letters = IMAGE.unpack_from(data, at)
        after = at + IMAGE.size + letters + length
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
    header = bytearray(like[: header_size(like)])
    struct.pack_into("<I", header, _IMAGES_AT, len(images))
    return sealed(b"".join([header, *images]))


def _check_magic(data: bytes) -> None:
    if len(data) < _HEADER.size + _CRC.size or not data.startswith(_MAGIC):
        raise CodesError("this is not a .tess file")


def payload_size(count: int, size: int) -> int:
    """Bytes that so many codes of a codebook of that size take."""
    return -(-count * bits_of(size) // 8)


def bits_of(size: int) -> int:
    """The fewest bits that tell so many codes apart."""
    return (size - 1).bit_length()


def pack(codes: NDArray[np.int64], size: int) -> bytes:
    """Codes of one stage as bits without gaps."""
    places = np.arange(bits_of(size) - 1, -1, -1)
    return np.packbits((codes.reshape(-1, 1) >> places & 1).astype(np.uint8)).tobytes()


def unpack(payload: bytes, count: int, size: int) -> NDArray[np.int64]:
    """Undo `pack`: int64 `[count]`.

    Raises:
        CodesError: a code is not one of the codebook's, or a left-over bit is not 0.
    """
    bits = bits_of(size)
    ones = np.unpackbits(np.frombuffer(payload, np.uint8))
    if ones[count * bits :].any():
        raise CodesError("a left-over bit is not 0")
    # A product of floats would be faster, but is exact only up to 24 bits of float32.
    codes = np.zeros(count, np.int64)
    for column in ones[: count * bits].reshape(count, bits).T:
        codes = codes << 1 | column
    if codes.max() >= size:
        raise CodesError("a code is not one of the codebook's")
    return codes
