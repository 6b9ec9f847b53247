"""Images from folders, as uint8, and the random crops that a model is trained on.

A batch is a function of seed and step alone: the same for one process or
several, for an unbroken run or a resumed one, and no state needs saving.
"""

from __future__ import annotations

import hashlib
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imaging.decode import decode_image
from imaging.errors import ImageError
from imaging.headers import inspect_image
from imaging.image_file import ImageFile

Pixels = NDArray[np.uint8]

# What people keep photographs in. Other files in the folder are skipped without a word; a file that
# is named like an image but can't be read, or whose format the service doesn't read, is reported.
SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".ppm"}
)
# Of an image to train on or to evaluate, width × height: 800 MB decoded. Whoever trains trusts the
# folder more than a service trusts its clients, whose limit is a setting.
MAX_PIXELS = 2**28
# Broken files that are named one by one.
_NAMED = 20


class DataError(ValueError):
    """A folder that can't be trained on or evaluated."""


@dataclass(frozen=True)
class Broken:
    """A file that looks like an image and can't be read."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Folder:
    """The readable images under one or several folders.

    Attributes:
        paths: of the images, in an order that doesn't depend on the file system.
        sizes: (width, height) of each, pixels, as displayed.
        broken: files named like images whose header can't be read.
    """

    paths: tuple[Path, ...]
    sizes: tuple[tuple[int, int], ...]
    broken: tuple[Broken, ...]


def find_images(folders: Sequence[Path]) -> Folder:
    """Looks through folders, at any depth, and reads each image's header.

    Raises:
        DataError: a folder does not exist, or holds no readable image.
    """
    candidates: list[Path] = []
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"{folder} is not a folder")
        found = (p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        candidates += sorted(found, key=lambda p: p.relative_to(folder).as_posix())
    with ThreadPoolExecutor() as pool:
        results = list(pool.map(_displayed_size, candidates))
    paths, sizes, broken = [], [], []
    for path, result in zip(candidates, results, strict=True):
        if isinstance(result, Broken):
            broken.append(result)
        else:
            paths.append(path)
            sizes.append(result)
    if not paths:
        raise DataError(f"no readable image in {', '.join(str(f) for f in folders)}")
    return Folder(tuple(paths), tuple(sizes), tuple(broken))


def read_image(path: Path) -> Pixels:
    """Decodes a file with the reader that serves: uint8 RGB `[h, w, 3]`, upright, over white.

    What may look wrong about a picture that was decoded as its file says is a Python warning.

    Raises:
        OSError: the file can't be read as an image, whatever the reason; its text says which.
    """
    try:
        image = decode_image(_inspected(path))
    except ImageError as error:
        raise OSError(str(error)) from error
    for warning in image.warnings:
        warnings.warn(f"{path}: {warning.detail}", stacklevel=2)
    return np.array(image.pixels)  # a copy: torch wants writable memory


def decoded(paths: Iterable[Path], broken: list[Broken]) -> Iterator[tuple[Path, Pixels]]:
    """Each image with its path, one at a time.

    Args:
        paths: of the files.
        broken: those that can't be decoded are added to this and passed over.
    """
    for path in paths:
        try:
            yield path, read_image(path)
        except OSError as error:
            broken.append(Broken(path, str(error)))


def tell_broken(broken: Sequence[Broken], tell: Callable[[str], object]) -> None:
    """Names files that were passed over, a line each; of very many, the first 20."""
    for one in broken[:_NAMED]:
        tell(f"unreadable, passed over: {one.path} ({one.reason})")
    if len(broken) > _NAMED:
        tell(f"… and {len(broken) - _NAMED} more")


def reduced(image: Pixels, side: int) -> Pixels:
    """The image, reduced if its short side is longer than `side` pixels: uint8 `[h, w, 3]`."""
    height, width = image.shape[:2]
    scale = side / min(height, width)
    if scale >= 1:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


def evenly(length: int, count: int) -> list[int]:
    """At most `count` indices below `length`, evenly spread and always the same."""
    count = min(length, count)
    return [i * length // count for i in range(count)]


def in_validation(path: Path, fraction: float) -> bool:
    """Whether an image is held out.

    Decided by a hash of the file's stem alone: adding files moves no other, and the
    same photograph in two sizes or formats falls on the same side.
    """
    digest = hashlib.sha256(path.stem.encode()).digest()
    return int.from_bytes(digest[:8], "big") < fraction * 2**64


def split(folder: Folder, fraction: float) -> tuple[Folder, Folder]:
    """The images to train on and those held out; broken files stay with the first."""

    def part(*, held_out: bool) -> Folder:
        keep = [i for i, p in enumerate(folder.paths) if in_validation(p, fraction) == held_out]
        return Folder(
            tuple(folder.paths[i] for i in keep),
            tuple(folder.sizes[i] for i in keep),
            () if held_out else folder.broken,
        )

    return part(held_out=False), part(held_out=True)


class Crops:
    """Random square crops at the images' own scale.

    An image is chosen by its area and a place in it evenly, so that all places a crop fits
    into are about equally likely; pixels nearer to an edge than a crop's side are in fewer.

    Args:
        folder: images to crop from; those smaller than a crop are enlarged to it.
        crop: side, pixels.
        flip: mirror half of them.
        seed: of everything random.
        cache_gib: decoded images are kept up to this; beyond it they are decoded anew.

    Attributes:
        broken: files whose pixels turned out unreadable after their header was fine.
    """

    def __init__(
        self, folder: Folder, *, crop: int, flip: bool, seed: int, cache_gib: float
    ) -> None:
        if not folder.paths:
            raise DataError("no images to train on: all of them fell into the validation split")
        self._paths = folder.paths
        self._crop, self._flip, self._seed = crop, flip, seed
        areas = np.array([max(w, crop) * max(h, crop) for w, h in folder.sizes], dtype=np.float64)
        self._cumulative = np.cumsum(areas) / areas.sum()
        self._cache: dict[int, Pixels] = {}
        self._cache_room = int(cache_gib * 2**30)
        self._lock = threading.Lock()
        self.broken: list[Broken] = []

    def batch(self, step: int, size: int, part: int = 0, parts: int = 1) -> Pixels:
        """The crops of a step.

        Args:
            step: of the run.
            size: crops in the step, over all parts.
            part: which share of them to make …
            parts: … of how many, so that several processes make one batch together.

        Returns:
            uint8 `[size / parts, crop, crop, 3]`.
        """
        mine = range(part * size // parts, (part + 1) * size // parts)
        return np.stack([self._one(step, index) for index in mine])

    def batches(
        self, first: int, last: int, size: int, part: int = 0, parts: int = 1
    ) -> Iterator[Pixels]:
        """The batches of steps `first` … `last` − 1, each made while the one before is used."""
        with ThreadPoolExecutor(1) as pool:
            ahead = [
                pool.submit(self.batch, step, size, part, parts)
                for step in range(first, min(first + 2, last))
            ]
            for step in range(first, last):
                made = ahead.pop(0).result()
                if step + 2 < last:
                    ahead.append(pool.submit(self.batch, step + 2, size, part, parts))
                yield made

    def _one(self, step: int, index: int) -> Pixels:
        random = np.random.default_rng((self._seed, step, index))
        while True:
            choice = int(np.searchsorted(self._cumulative, random.random(), side="right"))
            image = self._image(min(choice, len(self._paths) - 1))
            if image is not None:
                break
        crop = self._crop
        top = random.integers(image.shape[0] - crop + 1)
        left = random.integers(image.shape[1] - crop + 1)
        cut = image[top : top + crop, left : left + crop]
        return cut[:, ::-1] if self._flip and random.random() < 0.5 else cut

    def _image(self, index: int) -> Pixels | None:
        """The image, at least crop × crop; None where its pixels can't be read."""
        cached = self._cache.get(index)
        if cached is not None:
            return cached if cached.size else None
        path = self._paths[index]
        try:
            pixels = _enlarged(read_image(path), self._crop)
        except OSError as error:
            self.broken.append(Broken(path, str(error)))
            if len(self.broken) == len(self._paths):
                raise DataError("not one image could be decoded") from error
            pixels = np.empty((0, 0, 3), np.uint8)
        with self._lock:
            if pixels.nbytes <= self._cache_room:
                self._cache_room -= pixels.nbytes
                self._cache[index] = pixels
        return pixels if pixels.size else None


def _enlarged(pixels: Pixels, side: int) -> Pixels:
    height, width = pixels.shape[:2]
    scale = side / min(height, width)
    if scale <= 1:
        return pixels
    size = (max(side, round(width * scale)), max(side, round(height * scale)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def _displayed_size(path: Path) -> tuple[int, int] | Broken:
    try:
        return _inspected(path).displayed_size
    except (OSError, ImageError) as error:
        return Broken(path, str(error))


def _inspected(path: Path) -> ImageFile:
    return inspect_image(path.read_bytes(), max_pixels=MAX_PIXELS)
