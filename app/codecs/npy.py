"""NumPy's `.npy` files, read from strangers and written.

`numpy.load` allocates what a header declares before it looks at what follows, and falls back to
pickle. Here the header is read by itself: the declared shape must account for every byte that is
there, so that a 128-byte upload can't ask for a terabyte, and no object is ever constructed.

`numpy.lib.format` reads headers too, but its public functions don't know version 3, parse those of
Python 2 again with a warning on standard error, and let errors of the tokenizer out.

The format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import ast
import io
import math
import re
import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from app.errors import (
    ImageCorrupt,
    MalformedRequest,
    TooManyImages,
    imaging_errors_translated,
)
from imaging.headers import check_size
from imaging.samples import MAX_CHANNELS

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAGIC = b"\x93NUMPY"

# NumPy writes about 100 bytes for an array of numbers, and itself refuses above 10,000.
_MAX_HEADER_BYTES = 1024

# Byte order, kind (bool, int, unsigned, float, complex), bytes per item. Objects, strings,
# records and dates are left out.
_DTYPE = re.compile(r"[<>|=](?:b1|[iu][1248]|f[248]|c(?:8|16))")

_MAX_DIMENSIONS = 8


def read_npy(data: bytes) -> NDArray[Any]:
    """Read an array of numbers from a `.npy` file without copying it.

    Args:
        data: the file: format version 1, 2 or 3, of any numeric dtype and byte order.

    Returns:
        A read-only view of `data`, of the declared shape and dtype; C or Fortran order.

    Raises:
        MalformedRequest: not a `.npy` file, an unknown version, a header that can't be read, a
            dtype that isn't numeric, or a shape that doesn't account for exactly the bytes given.
    """
    if not data.startswith(_MAGIC):
        raise MalformedRequest("the body is not a .npy file: it doesn't begin with \\x93NUMPY")
    dtype, fortran_order, shape, start = _read_header(data)
    items = math.prod(shape)
    if items * dtype.itemsize != len(data) - start:
        raise MalformedRequest(
            f"{len(data) - start} bytes follow the .npy header, "
            f"{'fewer' if items * dtype.itemsize > len(data) - start else 'more'} "
            "than its shape and dtype need"
        )
    try:
        # An empty array has no bytes for frombuffer to look at.
        flat = np.frombuffer(data, dtype, items, start) if items else np.empty(0, dtype)
        return flat.reshape(shape, order="F" if fortran_order else "C")
    except ValueError as error:  # a zero among dimensions whose product overflows
        raise MalformedRequest("the .npy header declares an impossible shape") from error


def _read_header(data: bytes) -> tuple[np.dtype[Any], bool, tuple[int, ...], int]:
    """Return dtype, whether the order is Fortran's, shape, and where the array begins."""
    if len(data) < 12:
        raise MalformedRequest("the .npy file ends within its header")
    if data[6] == 1:
        (length,), start = struct.unpack_from("<H", data, 8), 10
    elif data[6] in {2, 3}:
        (length,), start = struct.unpack_from("<I", data, 8), 12
    else:
        raise MalformedRequest(".npy format versions 1, 2 and 3 are known; this is another")
    if length > _MAX_HEADER_BYTES or start + length > len(data):
        raise MalformedRequest(f"the .npy header is cut off or above {_MAX_HEADER_BYTES} bytes")
    try:
        # literal_eval builds nothing but literals; the length bounds how deep they can nest.
        header = ast.literal_eval(data[start : start + length].decode("utf-8").strip())
        descr, fortran_order, shape = header["descr"], header["fortran_order"], header["shape"]
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError) as error:
        raise MalformedRequest("the .npy header can't be read") from error
    if not isinstance(descr, str) or not _DTYPE.fullmatch(descr):
        raise MalformedRequest("the .npy dtype is not a plain number: pickle is never read")
    if not (
        isinstance(fortran_order, bool)
        and isinstance(shape, tuple)
        and len(shape) <= _MAX_DIMENSIONS
        and all(type(side) is int and side >= 0 for side in shape)
    ):
        raise MalformedRequest("the .npy header declares an impossible shape or order")
    return np.dtype(descr), fortran_order, shape, start + length


@imaging_errors_translated
def read_npy_images(data: bytes, *, max_pixels: int, max_images: int) -> list[NDArray[Any]]:
    """Read images from a `.npy` file; whether they suit a model, `imaging.samples` checks.

    Args:
        data: uint8 or uint16 `[h, w, channels]`, one image, or `[n, h, w, channels]`, n images of
            one size.
        max_pixels: most pixels (width × height) of each image.
        max_images: most images.

    Returns:
        n images, each `[h, w, channels]`, contiguous.

    Raises:
        MalformedRequest: not a readable `.npy` file, or it holds no image (n = 0).
        ImageCorrupt: readable, but of another dtype or shape.
        TooManyImages: n is above `max_images`.
        ImageTooLarge: more than `max_pixels`, or a side above 65,535 pixels.
    """
    array = read_npy(data)
    if array.dtype not in (np.uint8, np.uint16):
        raise ImageCorrupt(
            f"the array is {array.dtype.str}, not uint8: scale the samples to 0…255, "
            "then .astype(numpy.uint8)"
        )
    if array.ndim not in {3, 4} or not 1 <= array.shape[-1] <= MAX_CHANNELS:
        raise ImageCorrupt("the array must have the shape [h, w, 3] or [n, h, w, 3]")
    images = array[None] if array.ndim == 3 else array
    n, height, width, _ = images.shape
    if n > max_images:
        raise TooManyImages(
            f"the array holds {n} images; the limit is {max_images} (TESSERA_MAX_IMAGES)"
        )
    if n == 0:
        raise MalformedRequest("the array holds no image: its first axis is 0")
    check_size(width, height, max_pixels)
    # In the machine's byte order, since that is what graphs take.
    return [np.ascontiguousarray(image, image.dtype.newbyteorder("=")) for image in images]


def is_npy(data: bytes) -> bool:
    """Whether bytes begin as a `.npy` file does."""
    return data.startswith(_MAGIC)


def write_npy(array: NDArray[Any]) -> bytes:
    """Write an array of numbers as a `.npy` file, version 1.0, in C order.

    Args:
        array: any shape, any numeric dtype.
    """
    file = io.BytesIO()
    np.lib.format.write_array(file, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return file.getvalue()
