"""From an image as it was sent to work for the queue: who decodes it, and when."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from app.api.parsing import pixels_of
from app.batching.batcher import Heavy, Work
from app.errors import InvalidParameter
from imaging.resize import MAX_SIDE, Fit, pad_to_multiple

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from app.api.parsing import Upload
    from app.runtime.registry import Model
    from imaging.headers import ImageFile

# Images up to this size are decoded as they come: in a millisecond or two.
LIGHT_PIXELS = 2**18
# A JPEG file up to this size, in bytes and in pixels, is decoded on the event loop, if it is alone
# in its request: that takes 0.1 ms of CPU, and handing it to another thread as much again.
_TINY_BYTES = 8 * 1024
TINY_PIXELS = 2**14

_SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Intake:
    """How images become model input.

    Attributes:
        max_pixels: of an image as stored.
        size: `(width, height)` to resize to; None keeps the image's own.
        fit: how `size` is filled.
    """

    max_pixels: int
    size: tuple[int, int] | None
    fit: Fit


def parse_size(text: str, *, max_pixels: int) -> tuple[int, int]:
    """Read a `size` parameter, `WxH`, such as `256x192`.

    Returns:
        `(width, height)` in pixels, each 1…65,535.

    Raises:
        InvalidParameter: not of that form, or more than `max_pixels` pixels.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise InvalidParameter("size must be WxH in pixels, such as 256x192")
    width, height = int(match[1]), int(match[2])
    if max(width, height) > MAX_SIDE or width * height > max_pixels:
        raise InvalidParameter(
            f"size asks for {width * height} pixels; the limit is {max_pixels} "
            f"(TESSERA_MAX_PIXELS), and {MAX_SIDE} on a side"
        )
    return width, height


def is_small_jpeg(upload: Upload) -> bool:
    """Whether it is a JPEG of so few bytes that it may be decoded on the event loop."""
    content = upload.content
    return (
        isinstance(content, bytes)
        and len(content) <= _TINY_BYTES
        and content.startswith(b"\xff\xd8")
    )


def prepared(
    model: Model, operation: str, upload: Upload, intake: Intake, light_pixels: int
) -> Work | Heavy:
    """An upload as work for the queue: decoded now, or, if it is heavy, when its turn comes.

    Args:
        model: whose stride the image is padded to.
        operation: of the model.
        upload: as it came.
        intake: how it becomes model input.
        light_pixels: an image of more, as stored or as wanted, is heavy.

    Raises:
        TesseraError: whatever `Upload.open` and `pixels_of` raise.
    """
    opened = upload.open(intake.max_pixels)
    finish = partial(_decode, model, operation, opened, intake)
    if isinstance(opened, np.ndarray):
        cost = math.prod(opened.shape[:2])
    else:
        cost = opened.width * opened.height
    weight = math.prod(intake.size) if intake.size else cost
    return finish() if max(cost, weight) <= light_pixels else Heavy(weight, cost, finish)


def _decode(
    model: Model, operation: str, opened: ImageFile | NDArray[np.uint8], intake: Intake
) -> Work:
    pixels = pixels_of(opened, intake.size, intake.fit)
    padded = pad_to_multiple(pixels, model.manifest.stride)
    height, width, _ = padded.shape
    return Work((model, operation, padded.shape), padded, height * width, aside=pixels)
