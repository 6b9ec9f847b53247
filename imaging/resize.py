"""The size of images: resized to, padded to the model's stride and cropped back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

Fit = Literal["cover", "contain", "stretch"]

# Rows and columns of any image. JPEG and GIF can't say more, and a side without a bound would
# let padding to the stride multiply the pixels of a one-row image.
MAX_SIDE = 65_535


def resize(pixels: NDArray[np.uint8], size: tuple[int, int], fit: Fit) -> NDArray[np.uint8]:
    """Resize with Lanczos to exactly `size`, whatever the fit.

    `cover` keeps the aspect and cuts what hangs over, evenly on both sides. `contain` keeps the
    aspect and leaves white bars, evenly on both sides; as in CSS and sharp, and white because
    that is what transparency becomes. It doesn't answer with less than `size`, so that all images
    of a request have equal grids, batch together, and fit one array. `stretch` keeps nothing.

    Args:
        pixels: RGB uint8 `[h, w, 3]`.
        size: `(width, height)` of the result, in pixels.
        fit: `cover`, `contain` or `stretch`.

    Returns:
        RGB uint8 `[size[1], size[0], 3]`.
    """
    return np.asarray(resize_image(Image.fromarray(pixels), size, fit))


def resize_samples(
    pixels: NDArray[Any], size: tuple[int, int], fit: Fit, maximum: int
) -> NDArray[Any]:
    """Resize pixels of any channels and up to 16 bits as `resize` does.

    Args:
        pixels: uint8 or uint16 `[h, w, channels]`.
        size: `(width, height)` of the result, in pixels.
        fit: as in `resize`.
        maximum: the sample that is white, and above which none is.

    Returns:
        The same dtype, `[size[1], size[0], channels]`.
    """
    planes = [
        np.asarray(resize_image(Image.fromarray(plane), size, fit, white=float(maximum)))
        for plane in np.moveaxis(pixels, 2, 0).astype(np.float32)
    ]
    made: NDArray[Any] = np.dstack(planes).round().clip(0, maximum).astype(pixels.dtype)
    return made


def whole_size(source: tuple[int, int], size: tuple[int, int], fit: Fit) -> tuple[int, int]:
    """Return `(width, height)` of the whole source once resized, before anything is cut."""
    if fit == "stretch":
        return size
    scales = size[0] / source[0], size[1] / source[1]
    scale = max(scales) if fit == "cover" else min(scales)
    return max(1, round(source[0] * scale)), max(1, round(source[1] * scale))


def resize_image(
    image: Image.Image, size: tuple[int, int], fit: Fit, *, white: str | float = "white"
) -> Image.Image:
    """Resize a Pillow image as `resize` does; `white` is the colour of the bars of `contain`."""
    if fit == "contain":
        inner = whole_size(image.size, size, fit)
        canvas = Image.new(image.mode, size, white)
        x, y = ((outer - side) // 2 for outer, side in zip(size, inner, strict=True))
        canvas.paste(_lanczos(image, inner, (0.0, 0.0, *image.size)), (x, y))
        return canvas
    width, height = image.size
    left = top = 0.0
    if fit == "cover":
        # The part of the source that is seen; resizing just that never makes a whole of, say,
        # 4096 × 268 million pixels out of one row.
        scale = max(size[0] / width, size[1] / height)
        left, top = (width - size[0] / scale) / 2, (height - size[1] / scale) / 2
    box = max(left, 0.0), max(top, 0.0), min(width - left, width), min(height - top, height)
    return _lanczos(image, size, box)


def _lanczos(
    image: Image.Image, size: tuple[int, int], box: tuple[float, float, float, float]
) -> Image.Image:
    # Between a very tall source and a very wide target lies, if it is resized across first, an
    # image as wide as the one and as tall as the other: 17 GB for 65,535 both ways. One of the
    # two orders always stays within the larger of source and target. Pillow chooses it since
    # version 13 (its issue 9549); before, it always goes across first.
    if size[0] * image.height > image.width * size[1]:
        left, top, right, bottom = box
        image = image.resize(
            (image.width, size[1]), Image.Resampling.LANCZOS, (0, top, image.width, bottom)
        )
        box = left, 0.0, right, float(size[1])
    return image.resize(size, Image.Resampling.LANCZOS, box)


def pad_to_multiple(pixels: NDArray[np.uint8], stride: int) -> NDArray[np.uint8]:
    """Repeat the last column and row until both sides are multiples of the stride.

    Args:
        pixels: RGB uint8 `[h, w, 3]`.
        stride: pixels per code along each axis.

    Returns:
        RGB uint8 `[ceil(h / stride) * stride, ceil(w / stride) * stride, 3]`; `pixels` itself
        where nothing is missing. `crop` undoes it.
    """
    height, width, _ = pixels.shape
    missing = (0, -height % stride), (0, -width % stride), (0, 0)
    return pixels if missing == ((0, 0),) * 3 else np.pad(pixels, missing, mode="edge")


def crop(pixels: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Keep the top left `width` × `height` pixels: what `pad_to_multiple` was given.

    Args:
        pixels: RGB uint8 `[h, w, 3]`, with h ≥ height and w ≥ width.
        width: columns to keep, in pixels.
        height: rows to keep, in pixels.

    Returns:
        A view of `pixels`, uint8 `[height, width, 3]`.
    """
    return pixels[:height, :width]
