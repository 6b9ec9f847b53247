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

from imaging.samples import RGB, SampleFormat
from training.data.dataset import DataError, Folder, Pixels, find_images


class Arrays:
    """Pixels in memory, each under a path that is no file: `images/000017`.

    Args:
        images: `[h, w, channels]`, of any sizes.
    """

    def __init__(self, images: Sequence[Pixels]) -> None:
        self._images = images

    def folder(self) -> Folder:
        """The images as a folder of them."""
        paths = tuple(Path("images") / f"{index:06}" for index in range(len(self._images)))
        sizes = tuple((image.shape[1], image.shape[0]) for image in self._images)
        return Folder(paths, sizes, (), self.read)

    def read(self, path: Path) -> Pixels:
        """The image of a path: `[h, w, channels]`."""
        return self._images[int(path.name)]


def images_of(
    given: Any,
    form: SampleFormat = RGB,
    *,
    value_range: tuple[float, float] | None = None,
    tell: Callable[[str], object] = print,
) -> Folder:
    """The images that somebody passes: folders, or arrays.

    Arrays, torch tensors on the CPU and PIL images; several as a list or in one array
    `[n, h, w, channels]`, `[n, h, w]` of one channel, or `[n, channels, h, w]`; grey ones suit a
    model of three channels too. Samples of the model's own type are taken as they are; other
    numbers if all are within 0…1, which is scaled, or reach from 0 to the upper half of what the
    model's samples have, which is rounded.

    Args:
        given: the path of a folder, several of them, or images.
        form: what the pixels are to be.
        value_range: what black and white are, where the numbers don't tell: (0, 16), say.
        tell: is given a line for whatever is done to the numbers or the axes.

    Raises:
        DataError: a folder without images, no images, or numbers and shapes that may mean
            several things; the text says what to pass instead.
    """
    if isinstance(given, (str, os.PathLike)):
        return find_images([Path(given)], form)
    allowed = (1, 3) if form.channels == 3 else (form.channels,)
    if isinstance(given, (list, tuple)):
        if given and all(isinstance(one, (str, os.PathLike)) for one in given):
            return find_images([Path(one) for one in given], form)
        arrays = [_channels_last(np.asarray(one)[None], allowed, tell)[0] for one in given]
    else:
        array = np.asarray(given)
        if array.ndim < 3 or (array.ndim == 3 and array.shape[2] in allowed):
            raise DataError(
                f"images are [n, h, w, {form.channels}], or [n, h, w] of one channel, not "
                f"{list(array.shape)}: for a single image pass [image]"
            )
        arrays = list(_channels_last(array, allowed, tell))
    if not arrays:
        raise DataError("there are no images")
    convert = _conversion(arrays, form, value_range, tell)
    return Arrays([_with_channels(convert(array), form.channels) for array in arrays]).folder()


def _channels_last(
    array: NDArray[Any], allowed: tuple[int, ...], tell: Callable[[str], object]
) -> NDArray[Any]:
    """`[n, h, w, channels]`."""
    channels = " or ".join(map(str, allowed))
    if array.ndim == 3 and 1 in allowed:
        return array[..., None]
    if array.ndim != 4:
        raise DataError(f"images are [n, h, w, {channels}], not {list(array.shape)}")
    last, first = array.shape[3] in allowed, array.shape[1] in allowed
    if last and first:
        raise DataError(
            f"{list(array.shape)} may be [n, h, w, c] or [n, c, h, w]: pass a list of [h, w, c]"
        )
    if first:
        tell(f"{list(array.shape)}: taken as [n, c, h, w]")
        return np.moveaxis(array, 1, 3)
    if not last:
        raise DataError(
            f"images have {channels} channels; these are {list(array.shape)}, and the last axis "
            "is the channels'"
        )
    return array


def _conversion(
    arrays: Sequence[NDArray[Any]],
    form: SampleFormat,
    value_range: tuple[float, float] | None,
    tell: Callable[[str], object],
) -> Callable[[NDArray[Any]], Pixels]:
    """What makes the model's samples of all of the images, decided by all of them together."""
    kinds = {array.dtype for array in arrays}
    if any(kind.kind not in "biuf" for kind in kinds) or any(a.size == 0 for a in arrays):
        raise DataError("images are arrays of numbers, with at least one pixel each")
    lowest = min(float(array.min()) for array in arrays)
    highest = max(float(array.max()) for array in arrays)
    maximum = form.maximum
    if value_range is None and kinds == {form.dtype} and highest <= maximum:
        return lambda array: array
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        raise DataError("an image has a value that is NaN or infinite")
    if value_range is not None:
        low, high = value_range
        if not low < high or lowest < low or highest > high:
            raise DataError(
                f"value_range is {low:g}…{high:g}, but the values are {lowest:g}…{highest:g}"
            )
        return _scaling(low, high, form)
    if lowest >= 0 and 0 < highest <= 1 < maximum:
        tell(f"values of 0…1: multiplied by {maximum}")
        return _scaling(0, 1, form)
    if lowest >= 0 and (maximum + 1) // 2 <= highest <= maximum:
        tell(f"values of 0…{maximum}: taken as they are")
        return _scaling(0, maximum, form)
    raise DataError(
        f"values from {lowest:g} to {highest:g} are neither 0…1 nor 0…{maximum}: say what black "
        f"and white are, such as value_range=({lowest:g}, {highest:g})"
    )


def _scaling(low: float, high: float, form: SampleFormat) -> Callable[[NDArray[Any]], Pixels]:
    def scaled(array: NDArray[Any]) -> Pixels:
        shares = (array.astype(np.float64) - low) / (high - low)
        made: Pixels = (form.maximum * shares).round().astype(form.dtype)
        return made

    return scaled


def _with_channels(array: Pixels, channels: int) -> Pixels:
    """`[h, w, channels]`, grey repeated, in memory that torch may write to."""
    if array.shape[2] != channels:
        array = np.repeat(array, channels, axis=2)
    return np.array(array)
