"""What any figure here has to be compared with: classical codecs and classical image features."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

from training.data.dataset import Pixels

Features = NDArray[np.float32]


@dataclass(frozen=True)
class BaselineCodec:
    """A classical image codec, by way of Pillow.

    Attributes:
        name: for people to read; in capitals, what Pillow calls the format.
        options: of Pillow's `save`, less the quality.
        qualities: (lowest, highest) whole numbers that it takes.
        curve: qualities of a rate–distortion curve, from the lowest to about 1 bit a pixel.
    """

    name: str
    options: dict[str, int | bool | str]
    qualities: tuple[int, int]
    curve: tuple[int, ...]

    def encode(self, image: Pixels, quality: int) -> bytes:
        """The file of an image, headers and all: uint8 `[h, w, 3]` → bytes."""
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, self.name.upper(), quality=quality, **self.options)
        return buffer.getvalue()


# Pillow's defaults but for what costs nothing in quality: Huffman tables fitted to the image.
# method and speed are the defaults too, written down because the figures depend on them.
_BASELINES = (
    BaselineCodec("JPEG", {"optimize": True}, (1, 95), (2, 5, 10, 18, 30, 50)),
    BaselineCodec("WebP", {"method": 4}, (0, 100), (0, 8, 20, 40, 60, 75)),
    BaselineCodec("AVIF", {"speed": 6}, (0, 100), (1, 5, 10, 20, 30, 40, 50, 60)),
)


def baseline_codecs() -> tuple[BaselineCodec, ...]:
    """JPEG, WebP and AVIF, those of them that this Pillow was built with."""
    return tuple(p for p in _BASELINES if p.name == "JPEG" or features.check(p.name.lower()))


@dataclass(frozen=True)
class Fitted:
    """A file at most as long as asked, or the shortest there is.

    Attributes:
        data: the file.
        quality: that made it.
        fits: False where even the lowest quality is longer than asked.
        smallest: bytes of the file of lowest quality.
    """

    data: bytes
    quality: int
    fits: bool
    smallest: int


def encode_within(baseline: BaselineCodec, image: Pixels, limit: int) -> Fitted:
    """The best quality whose file is at most `limit` bytes long, by bisection.

    Size grows with quality but for a few bytes here and there, so that bisection
    finds the best quality or one beside it.
    """
    low, high = baseline.qualities
    data = baseline.encode(image, low)
    smallest = len(data)
    best = Fitted(data, low, smallest <= limit, smallest)
    if not best.fits:
        return best
    while low < high:
        middle = (low + high + 1) // 2
        data = baseline.encode(image, middle)
        if len(data) <= limit:
            best, low = Fitted(data, middle, fits=True, smallest=smallest), middle
        else:
            high = middle - 1
    return best


def decode_file(data: bytes) -> Pixels:
    """A file's pixels: bytes → uint8 `[h, w, 3]`."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


# Features, each of one image of 128×128 pixels. Accuracy depends on their details more than on
# the model they are compared with, so each is the best of its kind that was tried.


def raw_pixels(image: Pixels, side: int = 16) -> Features:
    """The image averaged down to `side` × `side`: uint8 `[h, w, 3]` → float32 `[3·side²]`."""
    small = Image.fromarray(image).resize((side, side), Image.Resampling.BOX)
    pixels: Features = np.asarray(small, np.float32).ravel() / np.float32(255)
    return pixels


def colour_histogram(image: Pixels) -> Features:
    """8×8×8 RGB bins, square roots of the shares: uint8 `[h, w, 3]` → float32 `[512]`."""
    bins = (image // 32).reshape(-1, 3).astype(np.int64) @ np.array([64, 8, 1])
    counts = np.bincount(bins, minlength=512)
    shares: Features = np.sqrt(counts / counts.sum()).astype(np.float32)
    return shares


def gradient_histograms(image: Pixels, cell: int = 16, orientations: int = 9) -> Features:
    """Histograms of oriented gradients (Dalal & Triggs 2005): 2×2-cell blocks, L2-Hys.

    The strongest channel's gradient at each pixel, unsigned orientations.

    Args:
        image: uint8 `[h, w, 3]`, at least two cells a side.
        cell: its side, pixels.
        orientations: bins over 180°.

    Returns:
        float32 `[(h/cell − 1)·(w/cell − 1)·4·orientations]`.
    """
    values = image.astype(np.float64)
    across, down = np.zeros_like(values), np.zeros_like(values)
    across[:, 1:-1] = values[:, 2:] - values[:, :-2]
    down[1:-1] = values[2:] - values[:-2]
    strongest = np.hypot(across, down).argmax(axis=2)[..., None]
    gx = np.take_along_axis(across, strongest, 2)[..., 0]
    gy = np.take_along_axis(down, strongest, 2)[..., 0]
    rows, columns = image.shape[0] // cell, image.shape[1] // cell
    gx, gy = gx[: rows * cell, : columns * cell], gy[: rows * cell, : columns * cell]
    angle = np.rad2deg(np.arctan2(gy, gx)) % 180
    bins = np.minimum((angle * orientations / 180).astype(np.int64), orientations - 1)
    y, x = np.indices(bins.shape) // cell
    flat = (y * columns + x) * orientations + bins
    sums = np.bincount(
        flat.ravel(), weights=np.hypot(gx, gy).ravel(), minlength=rows * columns * orientations
    ).reshape(rows, columns, orientations)
    blocks = np.concatenate(
        [sums[:-1, :-1], sums[:-1, 1:], sums[1:, :-1], sums[1:, 1:]], axis=2
    ) / (cell * cell)
    for clip in (0.2, np.inf):
        length = np.sqrt(np.square(blocks).sum(axis=2, keepdims=True) + 1e-10)
        blocks = np.minimum(blocks / length, clip)
    return blocks.astype(np.float32).ravel()


CLASSICAL: dict[str, Callable[[Pixels], Features]] = {
    "pixels 16×16": raw_pixels,
    "colour histogram": colour_histogram,
    "HOG": gradient_histograms,
}
