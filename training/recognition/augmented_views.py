"""Augmented views: edited copies of images, encoded once before training.

A grid of codes can be cut and have holes, but it can't be shifted by half a patch,
enlarged or made darker: that has to happen to the pixels, before the encoder. So each
image is encoded in a number of views, and every epoch of training takes one of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from training.data.dataset import Pixels
from training.onnx_export.any_size import encode_first_stage
from training.onnx_export.codec import BundleCodec, Codes

# The first views of an image are itself and its mirror image, as they will be met.
PLAIN_VIEWS = 2


@dataclass(frozen=True)
class Edits:
    """How much a random view may differ from its image.

    Attributes:
        smallest: share of the image's area that the view shows at least; it is enlarged to
            the image's size.
        aspect: the view's part of the image may be stretched by this factor, either way.
        degrees: of rotation, either way.
        light: brightness, contrast and saturation are each multiplied by 1 ± this.
    """

    smallest: float = 0.4
    aspect: float = 1.3
    degrees: float = 12.0
    light: float = 0.35


def view_of(image: Pixels, index: int, seed: tuple[int, ...], edits: Edits = Edits()) -> Pixels:
    """A view of an image, of the image's size.

    Args:
        image: uint8 `[h, w, 3]`.
        index: 0 is the image, 1 its mirror image, others are random edits.
        seed: with the index, decides on the edits.
        edits: how far they go.

    Returns:
        uint8 `[h, w, 3]`.
    """
    if index < PLAIN_VIEWS:
        return np.ascontiguousarray(image[:, ::-1]) if index else image
    random = np.random.default_rng((*seed, index))
    height, width = image.shape[:2]
    # Reflected beyond its edges, so that turning leaves no black corners.
    margin = max(1, min(height, width) // 4)
    padded = np.pad(image, ((margin, margin), (margin, margin), (0, 0)), mode="reflect")
    area, stretch = (
        random.uniform(edits.smallest, 1),
        np.exp(random.uniform(-1, 1) * np.log(edits.aspect) / 2),
    )
    across = min(1.0, np.sqrt(area) * stretch)
    down = min(1.0, np.sqrt(area) / stretch)
    centre_x = margin + width * (across / 2 + random.uniform() * (1 - across))
    centre_y = margin + height * (down / 2 + random.uniform() * (1 - down))
    angle = np.deg2rad(random.uniform(-edits.degrees, edits.degrees))
    mirror = -1 if random.random() < 0.5 else 1
    # Where a pixel of the view lies in the padded image: scaled, mirrored, turned, moved.
    a, b = mirror * across * np.cos(angle), -down * np.sin(angle)
    d, e = mirror * across * np.sin(angle), down * np.cos(angle)
    c = centre_x - a * width / 2 - b * height / 2
    f = centre_y - d * width / 2 - e * height / 2
    view = Image.fromarray(padded).transform(
        (width, height), Image.Transform.AFFINE, (a, b, c, d, e, f), Image.Resampling.BICUBIC
    )
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        view = enhance(view).enhance(1 + edits.light * random.uniform(-1, 1))
    return np.asarray(view)


class Views:
    """The codes of every view of some images.

    Attributes:
        shapes: `(rows, columns)` of each image's grid.
        count: views of each image.
    """

    def __init__(
        self, shapes: Sequence[tuple[int, int]], flat: Sequence[NDArray[np.uint16]]
    ) -> None:
        self.shapes, self.count = list(shapes), len(flat)
        self._flat = list(flat)
        sizes = [rows * columns for rows, columns in self.shapes]
        self._starts = np.concatenate([[0], np.cumsum(sizes)])

    def grid(self, image: int, view: int) -> Codes:
        """Codes of one view of one image: int64 `[rows, columns]`."""
        first, last = self._starts[image], self._starts[image + 1]
        return self._flat[view][first:last].astype(np.int64).reshape(self.shapes[image])


def encode_views(
    plain: BundleCodec,
    edited: BundleCodec,
    images: Sequence[Pixels],
    count: int,
    *,
    seed: int,
    cache: Path | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Views:
    """Encodes views of images, or reads their codes from the cache where they are in it.

    Args:
        plain: encodes the images themselves and their mirror images.
        edited: encodes the random edits; may be of a lower, faster precision: codes that differ
            in near ties are one more augmentation.
        images: uint8 `[h, w, 3]` of any sizes.
        count: views of each image.
        seed: of the edits.
        cache: folder to keep the codes in, each set named after all that it depends on.
        on_progress: called after each view with the number that are done.
    """
    stride = plain.stride
    shapes = [(-(-i.shape[0] // stride), -(-i.shape[1] // stride)) for i in images]
    digest = hashlib.sha256(f"{plain.fingerprint} {edited.fingerprint} {seed} {Edits()}".encode())
    for image in images:
        digest.update(str(image.shape).encode() + image.tobytes())
    folder = cache / digest.hexdigest()[:16] if cache else None
    flat = []
    for view in range(count):
        file = folder / f"{view:03}.npy" if folder else None
        if file is not None and file.is_file():
            flat.append(np.load(file))
        else:
            codec = plain if view < PLAIN_VIEWS else edited
            grids = [
                g for part in _made(images, view, seed) for g in encode_first_stage(codec, part)
            ]
            flat.append(np.concatenate([g.ravel() for g in grids]).astype(np.uint16))
            if file is not None:
                file.parent.mkdir(parents=True, exist_ok=True)
                np.save(file.with_suffix(".tmp.npy"), flat[-1])
                file.with_suffix(".tmp.npy").rename(file)
        on_progress(view + 1)
    return Views(shapes, flat)


def _made(images: Sequence[Pixels], view: int, seed: int) -> Iterator[list[Pixels]]:
    """The views of all images, in order, some hundred at a time."""
    with ThreadPoolExecutor(2) as pool:
        for first in range(0, len(images), 256):
            part = range(first, min(first + 256, len(images)))
            yield list(pool.map(lambda i: view_of(images[i], view, (seed, i)), part))
