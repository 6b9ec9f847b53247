"""What happens to pictures that are passed on: edits of pixels, fixed ones and random ones.

The fixed ones are what finding edited copies is measured with; the random ones are
what a learnt embedder is taught to overlook.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from training.data.dataset import Pixels

_LIGHT = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
_RESAMPLING = (
    Image.Resampling.BILINEAR,
    Image.Resampling.BICUBIC,
    Image.Resampling.LANCZOS,
)


@dataclass(frozen=True)
class Reach:
    """How far random edits go.

    Attributes:
        smallest_cut: share of the image's area that a cut shows at least.
        aspect: one side of it is at most this factor longer than the other.
        mirrored: share of the copies that are.
        lit: share of the copies that are in another light.
        light: then brightness, contrast and saturation are multiplied by 1 ± these, …
        tinted: … and in this share of them …
        tint: … each channel by 1 ± this.
        grey: share of the copies without colours.
        blurred: share of the copies that are blurred.
        blur: then by a Gaussian whose deviation lies between these, pixels.
        recompressed: share of the copies that were a JPEG.
        quality: then of a quality from the first up to below the second.
    """

    smallest_cut: float = 0.2
    aspect: float = 4 / 3
    mirrored: float = 0.5
    lit: float = 0.8
    light: tuple[float, float, float] = (0.4, 0.4, 0.5)
    tinted: float = 0.5
    tint: float = 0.15
    grey: float = 0.12
    blurred: float = 0.25
    blur: tuple[float, float] = (0.3, 1.2)
    recompressed: float = 0.4
    quality: tuple[int, int] = (20, 90)


def _jpeg(image: Pixels) -> Pixels:
    return np.asarray(_recompressed(Image.fromarray(image), 30))


def _resized(image: Pixels) -> Pixels:
    size = (max(1, round(image.shape[1] * 0.7)), max(1, round(image.shape[0] * 0.7)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


def _cropped(image: Pixels) -> Pixels:
    height, width = (max(1, round(side * 0.8)) for side in image.shape[:2])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def _brighter(image: Pixels) -> Pixels:
    pixels: Pixels = np.clip(image * 1.2, 0, 255).round().astype(np.uint8)
    return pixels


def _mirrored(image: Pixels) -> Pixels:
    return image[:, ::-1]


# Each uint8 `[h, w, 3]` → the same kind.
EDITS: dict[str, Callable[[Pixels], Pixels]] = {
    "JPEG q30": _jpeg,
    "resized 70 %": _resized,
    "cropped 80 %": _cropped,
    "brighter 20 %": _brighter,
    "mirrored": _mirrored,
}


def random_edit(
    image: Pixels,
    side: int,
    random: np.random.Generator,
    reach: Reach = Reach(),
) -> Pixels:
    """A cut of an image, mirrored or not, in another light, blurred, compressed again.

    The edits of contrastive learning (Chen et al. 2020, "A simple framework for
    contrastive learning of visual representations", appendix A), and JPEG.

    Args:
        image: uint8 `[h, w, 3]`.
        side: of what is returned, pixels.
        random: decides on everything.
        reach: how far the edits go.

    Returns:
        uint8 `[side, side, 3]`.
    """
    edited = Image.fromarray(image).resize(
        (side, side),
        _RESAMPLING[random.integers(len(_RESAMPLING))],
        box=_cut(image.shape[1], image.shape[0], random, reach),
    )
    if random.random() < reach.mirrored:
        edited = edited.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if random.random() < reach.lit:
        for index in random.permutation(len(_LIGHT)):
            most = reach.light[index]
            edited = _LIGHT[index](edited).enhance(random.uniform(1 - most, 1 + most))
        if random.random() < reach.tinted:
            tinted = np.asarray(edited) * random.uniform(1 - reach.tint, 1 + reach.tint, 3)
            edited = Image.fromarray(np.clip(tinted, 0, 255).astype(np.uint8))
    if random.random() < reach.grey:
        edited = edited.convert("L").convert("RGB")
    if random.random() < reach.blurred:
        edited = edited.filter(ImageFilter.GaussianBlur(random.uniform(*reach.blur)))
    if random.random() < reach.recompressed:
        edited = _recompressed(edited, int(random.integers(*reach.quality)))
    return np.asarray(edited)


def _cut(
    width: int, height: int, random: np.random.Generator, reach: Reach
) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a random part; a square where ten tries don't fit in.

    Tried again rather than cut to fit, which would favour large parts: with those,
    nearest neighbours came out worse (docs/log.md).
    """
    for _ in range(10):
        area = width * height * random.uniform(reach.smallest_cut, 1.0)
        aspect = np.exp(random.uniform(-1, 1) * np.log(reach.aspect))
        across, down = (max(1, round(np.sqrt(side))) for side in (area * aspect, area / aspect))
        if across <= width and down <= height:
            break
    else:
        across = down = min(width, height)
    left, top = random.integers(width - across + 1), random.integers(height - down + 1)
    return int(left), int(top), int(left + across), int(top + down)


def _recompressed(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as again:
        return again.convert("RGB")
