"""Colour jitter for photographs, so that they fill more of the RGB cube than they do by nature."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]

# Of the pictures, those whose colours become what no camera would have taken.
STRONG_SHARE = 0.15

_LUMA = np.array((0.299, 0.587, 0.114))
# Rows: luma and the two colour differences of YIQ, in which a change of hue is a rotation.
_TO_YIQ = np.array([_LUMA, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112)])
_FROM_YIQ = np.linalg.inv(_TO_YIQ)


def jittered(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """A picture in other colours: uint8 `[h, w, 3]` → uint8 `[h, w, 3]`.

    | share | what |
    |-|-|
    | 0.85 | mild: hue ± 10°, saturation × 0.7 … 1.4, contrast × 0.85 … 1.15, brightness ± 12 |
    | 0.15 | strong: hue ± 180°, saturation × 0 … 2.5, contrast × 0.4 … 1.8, brightness ± 50 |

    Of the strong ones half have their channels permuted, a fifth are inverted, and a fifth
    are posterised to 2 to 6 levels a channel.

    Args:
        pixels: stays as it is.
        rng: where random numbers come from; the result depends on it and the picture alone.
    """
    strong = rng.random() < STRONG_SHARE
    if strong:
        hue = rng.uniform(-math.pi, math.pi)
        saturation, contrast = rng.uniform(0, 2.5), rng.uniform(0.4, 1.8)
        brightness = rng.uniform(-50, 50)
    else:
        hue = math.radians(rng.uniform(-10, 10))
        saturation, contrast = rng.uniform(0.7, 1.4), rng.uniform(0.85, 1.15)
        brightness = rng.uniform(-12, 12)
    matrix = contrast * _turned(hue, saturation)
    # Contrast is around mid-grey, which the matrix maps to contrast × 127.5.
    offset = np.full(3, 127.5 * (1 - contrast) + brightness)
    if strong and rng.random() < 0.5:
        matrix = matrix[rng.permutation(3)]
    if strong and rng.random() < 0.2:
        matrix, offset = -matrix, 255 - offset
    table = np.concatenate((matrix, offset[:, None]), axis=1).ravel().tolist()
    picture = Image.fromarray(pixels).convert("RGB", tuple(table))
    if strong and rng.random() < 0.2:
        levels = int(rng.integers(2, 7))
        steps = np.arange(256) * levels // 256
        picture = picture.point((steps * 255 // (levels - 1)).tolist() * 3)
    return np.array(picture)


def _turned(hue: float, saturation: float) -> NDArray[np.float64]:
    """RGB to RGB `[3, 3]`: the hue turned by an angle, the colour differences scaled."""
    cos, sin = saturation * math.cos(hue), saturation * math.sin(hue)
    turn = np.array([(1, 0, 0), (0, cos, -sin), (0, sin, cos)])
    matrix: NDArray[np.float64] = _FROM_YIQ @ turn @ _TO_YIQ
    return matrix
