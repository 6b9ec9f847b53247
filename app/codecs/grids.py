"""Code grids ↔ JSON rows and `.npy` arrays. The packed binary format is `app.codecs.tess`.

Everything that comes in is untrusted: shapes, ranges and sizes are checked before anything is
allocated by them, and what is returned holds only codes that the codebook has.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from app.codecs.npy import read_npy, write_npy
from app.errors import (
    CodesInvalid,
    ImageTooLarge,
    InvalidParameter,
    NotAcceptable,
    TooManyImages,
)
from imaging.resize import MAX_SIDE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class CodeGrid:
    """The codes of one image and the size it has once decoded and cropped.

    Attributes:
        codes: int64 `[rows, columns]` of one stage, `[stages, rows, columns]` of several; each
            within what the codebook of its stage has.
        width: true width of the image in pixels; `columns` is ceil(width / stride).
        height: true height of the image in pixels; `rows` is ceil(height / stride).
        name: the client's name for the image, such as its file name; shown, never opened.
    """

    codes: NDArray[np.int64]
    width: int
    height: int
    name: str | None = None

    @property
    def stages(self) -> int:
        """How many codes there are for each patch of the image."""
        return 1 if self.codes.ndim == 2 else len(self.codes)

    @property
    def shape(self) -> tuple[int, int]:
        """`(rows, columns)` of each stage."""
        rows, columns = self.codes.shape[-2:]
        return rows, columns

    def first(self, stages: int) -> CodeGrid:
        """The first stages alone, which decode too; what they hold is not copied.

        Raises:
            InvalidParameter: there are fewer.
        """
        if stages == self.stages:
            return self
        return replace(self, codes=first_stages(self.codes, stages))


def first_stages(codes: NDArray[np.int64], stages: int) -> NDArray[np.int64]:
    """The first stages of codes `[rows, columns]` or `[stages, rows, columns]`, in such a form.

    Raises:
        InvalidParameter: there are fewer.
    """
    there = 1 if codes.ndim == 2 else len(codes)
    if not 1 <= stages <= there:
        raise InvalidParameter(f"stages: these codes have {there}, so 1 to {there} can be taken")
    if codes.ndim == 2:
        return codes
    return codes[0] if stages == 1 else codes[:stages]


def grid_shape(width: int, height: int, stride: int) -> tuple[int, int]:
    """Return `(rows, columns)` of the code grid of an image of that size in pixels."""
    return -(-height // stride), -(-width // stride)


# --- JSON ----------------------------------------------------------------------------------


def grid_from_rows(
    rows: object,
    *,
    width: int | None = None,
    height: int | None = None,
    name: str | None = None,
    codebook_size: int,
    residual_sizes: tuple[int, ...] = (),
    stride: int,
    max_pixels: int,
) -> CodeGrid:
    """Check code rows as they come out of a JSON parser.

    Args:
        rows: what should be a list of rows, each a list of the same number of integers; or, of
            several stages, a list of such lists.
        width: true width in pixels; None for all that the columns cover.
        height: true height in pixels; None for all that the rows cover.
        name: the client's name for the image.
        codebook_size: codes must be within `[0, codebook_size)`.
        residual_sizes: the same for each further stage that there may be.
        stride: pixels per code along each axis.
        max_pixels: most pixels (width × height) of the image the codes stand for.

    Raises:
        CodesInvalid: not lists of lists, ragged, empty, anything but integers (floats, booleans
            and strings are not converted), a code out of range, more stages than the codebook has,
            or a size that needs another grid.
        ImageTooLarge: more than `max_pixels`, or a side above 65,535 pixels.
    """
    # Where there is but one stage, nobody has to look for several.
    if not (residual_sizes and _is_nested(rows)):
        return CodeGrid(
            *_checked_rows(rows, width, height, codebook_size, stride, max_pixels), name
        )
    sizes = (codebook_size, *residual_sizes)
    check_stages(len(rows), sizes)
    found = [
        _checked_rows(stage, width, height, size, stride, max_pixels)
        for stage, size in zip(rows, sizes, strict=False)
    ]
    if len({codes.shape for codes, _, _ in found}) != 1:
        raise CodesInvalid("codes are ragged: all stages must have the same rows and columns")
    stages = [codes for codes, _, _ in found]
    return CodeGrid(stages[0] if len(stages) == 1 else np.stack(stages), *found[0][1:], name)


def _is_nested(rows: object) -> TypeGuard[list[Any]]:
    """Whether these look like rows of several stages."""
    return (
        isinstance(rows, list)
        and all(isinstance(stage, list) and stage for stage in rows)
        and any(isinstance(row, list) for stage in rows for row in stage[:1])
    )


def _checked_rows(
    rows: object,
    width: int | None,
    height: int | None,
    codebook_size: int,
    stride: int,
    max_pixels: int,
) -> tuple[NDArray[np.int64], int, int]:
    """The codes of one stage, and width and height of the image."""
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise CodesInvalid("codes must be a list of rows, each a list of integers")
    if not rows or not rows[0]:
        raise CodesInvalid("codes are empty")
    shape = len(rows), len(rows[0])
    if any(len(row) != shape[1] for row in rows):
        raise CodesInvalid("codes are ragged: all rows must have the same length")
    width, height = check_size(shape, width, height, stride, max_pixels)
    flat = list(itertools.chain.from_iterable(rows))
    # NumPy would take True, 1.5 and "3" for codes, and fall back to objects above 64 bits. This
    # takes 4 ms for 65,536 codes, less than parsing them did.
    if set(map(type, flat)) != {int}:
        raise CodesInvalid("codes must be integers")
    if min(flat) < 0 or max(flat) >= codebook_size:
        raise out_of_range(codebook_size)
    return np.array(flat, dtype=np.int64).reshape(shape), width, height


def check_size(
    shape: tuple[int, int], width: int | None, height: int | None, stride: int, max_pixels: int
) -> tuple[int, int]:
    """Return `(width, height)` in pixels, what the whole grid covers where None.

    Args:
        shape: `(rows, columns)` of the grid.
        width: true width in pixels, if known.
        height: true height in pixels, if known.
        stride: pixels per code along each axis.
        max_pixels: most pixels (width × height).

    Raises:
        CodesInvalid: the image of that size has another grid.
        ImageTooLarge: more than `max_pixels`, or a side above 65,535 pixels.
    """
    rows, columns = shape
    width = columns * stride if width is None else width
    height = rows * stride if height is None else height
    if width < 1 or height < 1 or grid_shape(width, height, stride) != shape:
        raise CodesInvalid(
            f"at {stride} pixels per code, a grid of {rows} rows and {columns} columns "
            "doesn't belong to an image of the given width and height"
        )
    if max(width, height) > MAX_SIDE or width * height > max_pixels:
        raise ImageTooLarge(
            f"the codes stand for {width} × {height} = {width * height} pixels; "
            f"the limit is {max_pixels} (TESSERA_MAX_PIXELS), and {MAX_SIDE} on a side"
        )
    return width, height


def check_stages(stages: int, sizes: Sequence[int]) -> None:
    """Raise CodesInvalid if the codebook has fewer stages; `sizes` are those of all of them."""
    if stages > len(sizes):
        raise CodesInvalid(f"codes of {stages} stages; the model has {len(sizes)}")


def check_range(codes: NDArray[Any], sizes: Sequence[int]) -> None:
    """Raise CodesInvalid if a stage has a code that its codebook doesn't have.

    Args:
        codes: integers `[n, stages, rows, columns]`.
        sizes: number of codes of each stage, of those that aren't there too.
    """
    for stage, size in zip(np.moveaxis(codes, 1, 0), sizes, strict=False):
        if stage.min() < 0 or stage.max() >= size:
            raise out_of_range(size)


def out_of_range(codebook_size: int) -> CodesInvalid:
    """Return the error for a code that the codebook doesn't have."""
    return CodesInvalid(f"a code is out of range: codes must be within 0…{codebook_size - 1}")


# --- npy -----------------------------------------------------------------------------------


def grids_from_npy(
    data: bytes,
    *,
    codebook_size: int,
    residual_sizes: tuple[int, ...] = (),
    stride: int,
    max_images: int,
    max_pixels: int,
) -> list[CodeGrid]:
    """Read codes from a `.npy` file: integers of any width and byte order.

    Args:
        data: `[n, rows, columns]`, or `[rows, columns]` for one image; of several stages
            `[n, stages, rows, columns]`.
        codebook_size: codes must be within `[0, codebook_size)`.
        residual_sizes: the same for each further stage that there may be.
        stride: pixels per code along each axis.
        max_images: most images n.
        max_pixels: most pixels (width × height) of the images the codes stand for.

    Returns:
        n grids whose images are as large as the grid covers, having no name.

    Raises:
        MalformedRequest: not a readable `.npy` file.
        CodesInvalid: not integers, another number of axes, empty, or a code out of range.
        TooManyImages: n is above `max_images`.
        ImageTooLarge: more than `max_pixels`, or a side above 65,535 pixels.
    """
    array = read_npy(data)
    if array.dtype.kind not in "iu":
        raise CodesInvalid(f"codes must be integers; the array is {array.dtype.str}")
    if array.ndim not in ({2, 3, 4} if residual_sizes else {2, 3}):
        more = " or [n, stages, rows, columns]" if residual_sizes else ""
        raise CodesInvalid(f"codes must have the shape [n, rows, columns]{more}")
    if array.size == 0:
        raise CodesInvalid("codes are empty")
    codes = array[None] if array.ndim == 2 else array
    if codes.ndim == 3:
        codes = codes[:, None]
    n, stages, rows, columns = codes.shape
    check_count(n, max_images)
    check_stages(stages, sizes := (codebook_size, *residual_sizes))
    width, height = check_size((rows, columns), None, None, stride, max_pixels)
    check_range(codes, sizes)
    made = np.ascontiguousarray(codes, dtype=np.int64)
    return [CodeGrid(first_stages(grid, stages), width, height) for grid in made]


def grids_to_npy(grids: Sequence[CodeGrid]) -> bytes:
    """Write grids of one shape as a `.npy` file: int64, little-endian.

    Its shape is `[n, rows, columns]`, of several stages `[n, stages, rows, columns]`.

    Raises:
        NotAcceptable: the grids differ in shape, so that no one array holds them.
    """
    if len({grid.codes.shape for grid in grids}) != 1:
        raise NotAcceptable(
            "one npy array holds only equal grids: ask for size=WxH, or for another media type"
        )
    return write_npy(np.stack([grid.codes for grid in grids]).astype("<i8"))


def check_count(n: int, max_images: int) -> None:
    """Raise TooManyImages if n grids are more than the limit."""
    if n > max_images:
        raise TooManyImages(f"{n} code grids; the limit is {max_images} (TESSERA_MAX_IMAGES)")
