"""How well a tokenizer keeps what is no photograph: flat colours, text with boxes, gradients.

The pictures are made here, by other code and other random numbers than those of
`training.data.synthetic`, so that a model trained on those has never seen them.
"""

from __future__ import annotations

import itertools
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from training.data.metrics import psnr

Pixels = NDArray[np.uint8]

_COLOURS, _FLAT_SIDE = 200, 64
_TEXTS, _SIDE = 8, 256
# Pictures that are reconstructed together: 128 of 64×64 or 8 of 256×256.
_BATCH_PIXELS = 1 << 19
_PURE = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "grey": (128, 128, 128),
}


@dataclass(frozen=True)
class SyntheticFidelity:
    """What became of synthetic pictures.

    A flat colour's error is the absolute difference between a channel's true value and its
    mean over the reconstruction, of the worst of the three channels; its ripple is the
    standard deviation within a channel, again of the worst. Both are in 8-bit levels, over
    200 random colours of 64×64 pixels.

    Attributes:
        flat_error_median: over the colours.
        flat_error_95: the 95th percentile.
        flat_ripple_median: over the colours.
        flat_ripple_95: the 95th percentile.
        pure: the mean colour that black, white, red, green, blue and grey came out in.
        text_psnr: of text with boxes, 256×256, dB, mean of eight pictures.
        gradient_psnr: of the smooth gradient (x, y, 255 − x), 256×256, dB.
        gradient_psnr_worst: the least, of all six orders of its channels.
    """

    flat_error_median: float
    flat_error_95: float
    flat_ripple_median: float
    flat_ripple_95: float
    pure: dict[str, tuple[int, int, int]]
    text_psnr: float
    gradient_psnr: float
    gradient_psnr_worst: float


def synthetic_fidelity(reconstruct: Callable[[Pixels], Pixels]) -> SyntheticFidelity:
    """Measures anything that reconstructs pictures.

    Args:
        reconstruct: uint8 `[n, h, w, 3]` → uint8 `[n, h, w, 3]`, as a codec's
            `decode(encode(pixels))`; sides are multiples of 64.
    """
    colours = np.random.default_rng(0).integers(0, 256, (_COLOURS, 3), dtype=np.uint8)
    flat = _flat_fields(colours)
    means, deviations = _channels(_reconstructed(reconstruct, flat))
    errors = np.abs(means - colours).max(axis=1)
    ripples = deviations.max(axis=1)
    pure, _ = _channels(
        _reconstructed(reconstruct, _flat_fields(np.array(list(_PURE.values()), np.uint8)))
    )
    text = _psnr(reconstruct, np.stack([_text(seed) for seed in range(_TEXTS)]))
    gradient = _psnr(reconstruct, _gradients())
    return SyntheticFidelity(
        flat_error_median=float(np.median(errors)),
        flat_error_95=float(np.percentile(errors, 95)),
        flat_ripple_median=float(np.median(ripples)),
        flat_ripple_95=float(np.percentile(ripples, 95)),
        pure={
            name: (round(red), round(green), round(blue))
            for name, (red, green, blue) in zip(_PURE, pure.tolist(), strict=True)
        },
        text_psnr=float(text.mean()),
        gradient_psnr=float(gradient[0]),
        gradient_psnr_worst=float(gradient.min()),
    )


def _flat_fields(colours: Pixels) -> Pixels:
    """uint8 `[n, 3]` → uint8 `[n, 64, 64, 3]`."""
    return np.tile(colours[:, None, None, :], (1, _FLAT_SIDE, _FLAT_SIDE, 1))


def _text(seed: int) -> Pixels:
    """Uint8 `[256, 256, 3]`: lines of letters and digits in Pillow's own font, with boxes."""
    rng = np.random.default_rng((1, seed))
    picture = Image.new("RGB", (_SIDE, _SIDE), "white")
    draw = ImageDraw.Draw(picture)
    for _ in range(5):
        left, top = rng.integers(0, _SIDE - 32, 2).tolist()
        width, height = rng.integers(24, 128, 2).tolist()
        fill, outline = (tuple(rng.integers(0, 256, 3).tolist()) for _ in range(2))
        draw.rectangle((left, top, left + width, top + height), fill, outline)
    characters = list(string.ascii_letters + string.digits + "     ")
    top = int(rng.integers(4, 16))
    while top < _SIDE:
        size = int(rng.integers(12, 29))
        line = "".join(rng.choice(characters, int(rng.integers(6, 20))))
        draw.text((8, top), line, "black", ImageFont.load_default(size))
        top += 2 * size
    return np.array(picture)


def _gradients() -> Pixels:
    """Uint8 `[6, 256, 256, 3]`: x, y and 255 − x, in all orders of the channels."""
    y, x = np.mgrid[:_SIDE, :_SIDE].astype(np.uint8)
    orders: Sequence[tuple[Pixels, ...]] = list(itertools.permutations((x, y, 255 - x)))
    return np.stack([np.stack(order, axis=-1) for order in orders])


def _reconstructed(reconstruct: Callable[[Pixels], Pixels], pictures: Pixels) -> Pixels:
    size = max(1, _BATCH_PIXELS // (pictures.shape[1] * pictures.shape[2]))
    return np.concatenate(
        [reconstruct(pictures[first : first + size]) for first in range(0, len(pictures), size)]
    )


def _channels(pictures: Pixels) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each channel of each picture, `[n, 3]` both."""
    values = pictures.astype(np.float64)
    return values.mean(axis=(1, 2)), values.std(axis=(1, 2))


def _psnr(reconstruct: Callable[[Pixels], Pixels], pictures: Pixels) -> NDArray[np.float64]:
    """Of each picture, dB `[n]`."""
    made = _reconstructed(reconstruct, pictures)
    tensors = [torch.from_numpy(p.transpose(0, 3, 1, 2) / 255) for p in (made, pictures)]
    values: NDArray[np.float64] = psnr(*tensors).numpy()
    return values
