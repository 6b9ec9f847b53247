"""What happens to pictures that are passed on: edits of pixels, fixed ones and random ones.

The fixed ones are what finding edited copies is measured with; the random ones are
what a learnt embedder is taught to overlook.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from training.data import Pixels

# How far a random edit goes. The smallest cut shows this share of the image's area, …
_SMALLEST_CUT = 0.2
# … one side is at most this factor longer than the other, …
_ASPECT = 4 / 3
# … and brightness, contrast and saturation are multiplied by 1 ± these.
_LIGHT = ((ImageEnhance.Brightness, 0.4), (ImageEnhance.Contrast, 0.4), (ImageEnhance.Color, 0.5))
_RESAMPLING = (
    Image.Resampling.BILINEAR,
    Image.Resampling.BICUBIC,
    Image.Resampling.LANCZOS,
)


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


def random_edit(image: Pixels, side: int, random: np.random.Generator) -> Pixels:
    """A cut of an image, mirrored or not, in another light, blurred, compressed again.

    The edits of contrastive learning (Chen et al. 2020, "A simple framework for
    contrastive learning of visual representations", appendix A), and JPEG.

    Args:
        image: uint8 `[h, w, 3]`.
        side: of what is returned, pixels.
        random: decides on everything.

    Returns:
        uint8 `[side, side, 3]`.
    """
    edited = Image.fromarray(image).resize(
        (side, side),
        _RESAMPLING[random.integers(len(_RESAMPLING))],
        box=_cut(image.shape[1], image.shape[0], random),
    )
    if random.random() < 0.5:
        edited = edited.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if random.random() < 0.8:
        for index in random.permutation(len(_LIGHT)):
            enhance, reach = _LIGHT[index]
            edited = enhance(edited).enhance(random.uniform(1 - reach, 1 + reach))
        if random.random() < 0.5:
            tinted = np.asarray(edited) * random.uniform(0.85, 1.15, 3)
            edited = Image.fromarray(np.clip(tinted, 0, 255).astype(np.uint8))
    if random.random() < 0.12:
        edited = edited.convert("L").convert("RGB")
    if random.random() < 0.25:
        edited = edited.filter(ImageFilter.GaussianBlur(random.uniform(0.3, 1.2)))
    if random.random() < 0.4:
        edited = _recompressed(edited, int(random.integers(20, 90)))
    return np.asarray(edited)


def _cut(width: int, height: int, random: np.random.Generator) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a random part; a square where ten tries don't fit in.

    Tried again rather than cut to fit, which would favour large parts: with those,
    nearest neighbours came out worse (docs/log.md).
    """
    for _ in range(10):
        area = width * height * random.uniform(_SMALLEST_CUT, 1.0)
        aspect = np.exp(random.uniform(-1, 1) * np.log(_ASPECT))
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
