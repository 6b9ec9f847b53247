"""What becomes of the items of a request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from app.errors import TesseraError
    from imaging.convert import ImageWarning

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Item(Generic[_T]):
    """What became of one image or grid of a request.

    Attributes:
        index: position of the item in the request.
        name: the client's name for the item.
        value: its result, or the error in place of it.
        warnings: what may look wrong about the image although it was decoded as its file says.
    """

    index: int
    name: str | None
    value: _T | TesseraError
    warnings: tuple[ImageWarning, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Reconstruction:
    """An image through encoder and decoder.

    Attributes:
        original: the image as it was encoded, RGB uint8 `[h, w, 3]`.
        pixels: what decoding made of its codes, RGB uint8 `[h, w, 3]`.
        stages: how many stages of codes that took.
    """

    original: NDArray[np.uint8]
    pixels: NDArray[np.uint8]
    stages: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Recognition:
    """What a recognizer says of one image or grid.

    Attributes:
        logits: float32 `[classes]`.
        maps: float32 `[classes, rows, columns]` over the code grid; None where the recognizer
            gives none.
        width: width of the image in pixels; the grid may reach beyond it.
        height: height of the image in pixels.
    """

    logits: NDArray[np.float32]
    maps: NDArray[np.float32] | None
    width: int
    height: int


@dataclass(frozen=True, slots=True, eq=False)
class Bits:
    """What the codes of one image or grid cost, coded by their context.

    Attributes:
        bits: float32 of the codes' shape.
        width: width of the image in pixels.
        height: height of the image in pixels.
    """

    bits: NDArray[np.float32]
    width: int
    height: int
