"""Images from folders, as uint8, and which of them are held out."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imaging.errors import ImageError
from imaging.headers import inspect_image
from imaging.image_file import ImageFile
from imaging.resize import resize_samples
from imaging.samples import RGB, SampleFormat, check_samples, decode_samples

# uint8 `[h, w, 3]`; of models of other samples uint8 or uint16 `[h, w, channels]`.
Pixels = NDArray[Any]

# What people keep photographs in. Other files in the folder are skipped without a word; a file that
# is named like an image but can't be read, or whose format the service doesn't read, is reported.
SUFFIXES = frozenset(
    {
        *(".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".ppm"),
        *(".heic", ".heif"),
    }
)
_ARRAY = ".npy"
# Of an image to train on or to evaluate, width × height: 800 MB decoded. Whoever trains trusts the
# folder more than a service trusts its clients, whose limit is a setting.
MAX_PIXELS = 2**28
# Of fewer images, none is held out unless its hash says so.
_FEWEST_TO_SPLIT = 8
# Broken files that are named one by one.
_NAMED = 20


class DataError(ValueError):
    """A folder that can't be trained on or evaluated."""


@dataclass(frozen=True)
class Broken:
    """A file that looks like an image and can't be read."""

    path: Path
    reason: str


def read_image(path: Path, form: SampleFormat = RGB) -> Pixels:
    """Decodes a file with the reader that serves: uint8 RGB `[h, w, 3]`, upright, over white.

    What may look wrong about a picture that was decoded as its file says is a Python warning.

    Args:
        path: of the file; with another format than RGB of 8 bits it may be an array, `.npy`.
        form: what the pixels are to be: `[h, w, channels]`.

    Raises:
        OSError: the file can't be read as an image, whatever the reason; its text says which.
    """
    try:
        if path.suffix.lower() == _ARRAY:
            return np.array(check_samples(_array(path), form))
        image = decode_samples(_inspected(path), form)
    except ImageError as error:
        raise OSError(str(error)) from error
    for warning in image.warnings:
        warnings.warn(f"{path}: {warning.detail}", stacklevel=2)
    return np.array(image.pixels)  # a copy: torch wants writable memory


Read = Callable[[Path], Pixels]


@dataclass(frozen=True)
class Folder:
    """The readable images under one or several folders, or in memory (`training.data.arrays`).

    Attributes:
        paths: of the images, in an order that doesn't depend on the file system.
        sizes: (width, height) of each, pixels, as displayed.
        broken: files named like images whose header can't be read.
        read: what gives the pixels of a path.
    """

    paths: tuple[Path, ...]
    sizes: tuple[tuple[int, int], ...]
    broken: tuple[Broken, ...]
    read: Read = read_image


def find_images(folders: Sequence[Path], form: SampleFormat = RGB) -> Folder:
    """Looks through folders, at any depth, and reads each image's header.

    Args:
        folders: of images; for other samples than RGB of 8 bits, of `.npy` files too.
        form: what the pixels of each image are to be.

    Raises:
        DataError: a folder does not exist, or holds no readable image.
    """
    candidates: list[Path] = []
    suffixes = SUFFIXES if form.is_rgb else SUFFIXES | {_ARRAY}
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"{folder} is not a folder")
        found = (p for p in folder.rglob("*") if p.suffix.lower() in suffixes and p.is_file())
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
    read = read_image if form.is_rgb else partial(read_image, form=form)
    return Folder(tuple(paths), tuple(sizes), tuple(broken), read)


def decoded(
    paths: Iterable[Path], broken: list[Broken], read: Read = read_image
) -> Iterator[tuple[Path, Pixels]]:
    """Each image with its path, one at a time.

    Args:
        paths: of the files.
        broken: those that can't be decoded are added to this and skipped.
        read: what gives the pixels of a path.
    """
    for path in paths:
        try:
            yield path, read(path)
        except OSError as error:
            broken.append(Broken(path, str(error)))


def report_broken(broken: Sequence[Broken], report: Callable[[str], object]) -> None:
    """Names files that were skipped, a line each; of very many, the first 20."""
    for one in broken[:_NAMED]:
        report(f"unreadable, skipped: {one.path} ({one.reason})")
    if len(broken) > _NAMED:
        report(f"… and {len(broken) - _NAMED} more")


def reduced(image: Pixels, side: int) -> Pixels:
    """The image, reduced if its short side is longer than `side` pixels: uint8 `[h, w, 3]`."""
    height, width = image.shape[:2]
    scale = side / min(height, width)
    if scale >= 1:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return rescaled(image, size)


def rescaled(image: Pixels, size: tuple[int, int]) -> Pixels:
    """The image in another size, `(width, height)` in pixels, by Lanczos."""
    if image.dtype == np.uint8 and image.shape[2] == 3:
        return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))
    return resize_samples(image, size, "stretch", int(np.iinfo(image.dtype).max))


def evenly(length: int, count: int) -> list[int]:
    """At most `count` indices below `length`, evenly spread and always the same."""
    count = min(length, count)
    return [i * length // count for i in range(count)]


def in_validation(path: Path, fraction: float) -> bool:
    """Whether an image is held out.

    Decided by a hash of the file's stem alone: adding files moves no other, and the
    same photograph in two sizes or formats falls on the same side.
    """
    return _hash(path.stem) < fraction * 2**64


def _hash(stem: str) -> int:
    return int.from_bytes(hashlib.sha256(stem.encode()).digest()[:8], "big")


def split(folder: Folder, fraction: float) -> tuple[Folder, Folder]:
    """The images to train on and those held out; broken files stay with the first.

    Where the share of few images would be none of them, the one that is nearest to being held
    out is, from 8 images on.
    """
    held = {p.stem for p in folder.paths if in_validation(p, fraction)}
    if not held and fraction > 0 and len(folder.paths) >= _FEWEST_TO_SPLIT:
        held = {min((p.stem for p in folder.paths), key=_hash)}

    def part(*, held_out: bool) -> Folder:
        keep = [i for i, p in enumerate(folder.paths) if (p.stem in held) == held_out]
        return Folder(
            tuple(folder.paths[i] for i in keep),
            tuple(folder.sizes[i] for i in keep),
            () if held_out else folder.broken,
            folder.read,
        )

    return part(held_out=False), part(held_out=True)


def _displayed_size(path: Path) -> tuple[int, int] | Broken:
    try:
        if path.suffix.lower() == _ARRAY:
            shape = _array(path).shape
            return (shape[1], shape[0]) if len(shape) > 1 else Broken(path, "is no image")
        return _inspected(path).displayed_size
    except (OSError, ImageError) as error:
        return Broken(path, str(error))


def _array(path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise OSError("is not a readable .npy file") from error
    return array


def _inspected(path: Path) -> ImageFile:
    return inspect_image(path.read_bytes(), max_pixels=MAX_PIXELS)
