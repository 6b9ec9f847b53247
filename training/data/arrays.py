"""Images in memory, as arrays, where training, evaluation and export take folders.

What an array means is either clear or has to be said: nothing is scaled or turned by guessing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.dataset import DataError, Folder, Pixels, find_images

# Values of 0…1 and of 0…255 are told apart by the largest: in between lies neither.
_LEAST_OF_8_BITS = 128


class Arrays:
    """Pixels in memory, each under a path that is no file: `images/000017`.

    Args:
        images: uint8 `[h, w, 3]`, of any sizes.
    """

    def __init__(self, images: Sequence[Pixels]) -> None:
        self._images = images

    def folder(self) -> Folder:
        """The images as a folder of them."""
        paths = tuple(Path("images") / f"{index:06}" for index in range(len(self._images)))
        sizes = tuple((image.shape[1], image.shape[0]) for image in self._images)
        return Folder(paths, sizes, (), self.read)

    def read(self, path: Path) -> Pixels:
        """The image of a path: uint8 `[h, w, 3]`."""
        return self._images[int(path.name)]


def images_of(
    given: Any,
    *,
    value_range: tuple[float, float] | None = None,
    tell: Callable[[str], object] = print,
) -> Folder:
    """The images that somebody passes: folders, or arrays.

    Arrays, torch tensors on the CPU and PIL images; several as a list or in one array `[n, h, w]`,
    `[n, h, w, 1]`, `[n, h, w, 3]`, or `[n, 1, h, w]` and `[n, 3, h, w]`. uint8 is taken as it is;
    other numbers if all are within 0…1, which is scaled, or reach from 0 to between 128 and 255,
    which is rounded.

    Args:
        given: the path of a folder, several of them, or images.
        value_range: what black and white are, where the numbers don't tell: (0, 16), say.
        tell: is given a line for whatever is done to the numbers or the axes.

    Raises:
        DataError: a folder without images, no images, or numbers and shapes that may mean
            several things; the text says what to pass instead.
    """
    if isinstance(given, (str, os.PathLike)):
        return find_images([Path(given)])
    if isinstance(given, (list, tuple)):
        if given and all(isinstance(one, (str, os.PathLike)) for one in given):
            return find_images([Path(one) for one in given])
        arrays = [_with_channels_last(np.asarray(one)[None], tell)[0] for one in given]
    else:
        array = np.asarray(given)
        if array.ndim < 3 or (array.ndim == 3 and array.shape[2] in (1, 3)):
            raise DataError(
                f"images are [n, h, w, 3] or grey [n, h, w], not {list(array.shape)}: "
                "for a single image pass [image]"
            )
        arrays = list(_with_channels_last(array, tell))
    if not arrays:
        raise DataError("there are no images")
    to_bytes = _conversion(arrays, value_range, tell)
    return Arrays([_rgb(to_bytes(array)) for array in arrays]).folder()


def _with_channels_last(array: NDArray[Any], tell: Callable[[str], object]) -> NDArray[Any]:
    """`[n, h, w, 1 or 3]`."""
    if array.ndim == 3:
        return array[..., None]
    if array.ndim != 4:
        raise DataError(f"images are [n, h, w, 3] or grey [n, h, w], not {list(array.shape)}")
    last, first = array.shape[3] in (1, 3), array.shape[1] in (1, 3)
    if last and first:
        raise DataError(
            f"{list(array.shape)} may be [n, h, w, c] or [n, c, h, w]: pass a list of [h, w, c]"
        )
    if first:
        tell(f"{list(array.shape)}: taken as [n, c, h, w]")
        return np.moveaxis(array, 1, 3)
    if not last:
        raise DataError(
            f"images have 1 or 3 channels; these are {list(array.shape)}: the last axis of "
            "[n, h, w, c] is neither"
        )
    return array


def _conversion(
    arrays: Sequence[NDArray[Any]],
    value_range: tuple[float, float] | None,
    tell: Callable[[str], object],
) -> Callable[[NDArray[Any]], Pixels]:
    """What makes uint8 of all of the images, decided by all of them together."""
    kinds = {array.dtype for array in arrays}
    if value_range is None and kinds == {np.dtype(np.uint8)}:
        return lambda array: array
    if any(kind.kind not in "biuf" for kind in kinds) or any(a.size == 0 for a in arrays):
        raise DataError("images are arrays of numbers, with at least one pixel each")
    lowest = min(float(array.min()) for array in arrays)
    highest = max(float(array.max()) for array in arrays)
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        raise DataError("an image has a value that is NaN or infinite")
    if value_range is not None:
        low, high = value_range
        if not low < high or lowest < low or highest > high:
            raise DataError(
                f"value_range is {low:g}…{high:g}, but the values are {lowest:g}…{highest:g}"
            )
        return _scaling(low, high)
    if lowest >= 0 and 0 < highest <= 1:
        tell("values of 0…1: multiplied by 255")
        return _scaling(0, 1)
    if lowest >= 0 and _LEAST_OF_8_BITS <= highest <= 255:
        tell("values of 0…255: taken as 8 bits")
        return _scaling(0, 255)
    raise DataError(
        f"values from {lowest:g} to {highest:g} are neither 0…1 nor 0…255: say what black and "
        f"white are, such as value_range=({lowest:g}, {highest:g})"
    )


def _scaling(low: float, high: float) -> Callable[[NDArray[Any]], Pixels]:
    def scaled(array: NDArray[Any]) -> Pixels:
        shares = (array.astype(np.float64) - low) / (high - low)
        made: Pixels = (255 * shares).round().astype(np.uint8)
        return made

    return scaled


def _rgb(array: Pixels) -> Pixels:
    """uint8 `[h, w, 1 or 3]` → uint8 `[h, w, 3]`, in memory that torch may write to."""
    if array.shape[2] == 1:
        array = np.repeat(array, 3, axis=2)
    return np.array(array)
