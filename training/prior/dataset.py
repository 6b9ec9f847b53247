"""Code grids of photographs in several views, encoded once and kept; and batches of cuts of them.

A grid can't be shifted by half a patch, made smaller or darker: that has to happen to the pixels,
before the encoder.
"""

from __future__ import annotations

import csv
import hashlib
import zipfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from torch import Tensor

from training.data.dataset import DataError, Pixels, find_images, in_validation, read_image
from training.onnx_export.any_size import encode_images
from training.onnx_export.codec import BundleCodec
from training.prior.context import Grid, Margins

# Images that are in memory at a time.
_TOGETHER = 64
# Views are made smaller down to this share, and not below this many pixels on the short side.
_SMALLEST_SHARE, _SMALLEST_SIDE = 0.5, 96
_LIGHT = 0.2


@dataclass(frozen=True)
class Photographs:
    """Files to learn from and files held out.

    Attributes:
        training: paths.
        held_out: paths; none shows an image that one of `training` shows.
    """

    training: tuple[Path, ...]
    held_out: tuple[Path, ...]


def read_sources(path: Path | None) -> dict[str, str]:
    """Which image a file shows, where several files show one: file name → image.

    Args:
        path: a CSV file with the columns `file` and `source`; None for no such list.

    Raises:
        DataError: it has no such columns.
        OSError: it can't be read.
    """
    if path is None:
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        if not {"file", "source"} <= set(rows.fieldnames or ()):
            raise DataError(f"{path} needs the columns file and source")
        return {row["file"]: row["source"] for row in rows}


def find_photographs(
    folders: Sequence[Path], sources: Mapping[str, str], share: float
) -> Photographs:
    """Images under folders, those held out chosen by a hash of what they show.

    Args:
        folders: searched at any depth.
        sources: file name → the image it shows; for others, the file's stem, so that one
            photograph in two sizes or formats falls on one side.
        share: to hold out.

    Raises:
        DataError: no images, or none on one of the sides.
    """
    paths = find_images(folders).paths
    sides: tuple[list[Path], list[Path]] = ([], [])
    for path in paths:
        shown = sources.get(path.name, path.stem)
        sides[in_validation(Path(f"{shown}.of"), share)].append(path)
    if not all(sides):
        raise DataError("photographs are needed both to learn from and to hold out; give more")
    return Photographs(tuple(sides[0]), tuple(sides[1]))


def view_of(image: Pixels, index: int, seed: tuple[int, ...]) -> Pixels:
    """A view of an image: uint8 `[h, w, 3]` → the same, or somewhat smaller.

    Args:
        image: of any size.
        index: 0 is the image itself; others are mirrored or not, made smaller or not, a little
            lighter or darker, and begin at some pixel of the first patch.
        seed: with the index, decides on the edits.
    """
    if index == 0:
        return image
    random = np.random.default_rng((*seed, index))
    picture = Image.fromarray(image)
    least = min(1.0, max(_SMALLEST_SHARE, _SMALLEST_SIDE / min(picture.size)))
    share = random.uniform(least, 1)
    if random.random() < 0.5:
        width, height = (max(1, round(side * share)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    if random.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        picture = enhance(picture).enhance(1 + _LIGHT * random.uniform(-1, 1))
    left, top = (int(random.integers(0, min(8, side))) for side in picture.size)
    return np.asarray(picture.crop((left, top, *picture.size)))


def encode_view(
    codec: BundleCodec,
    paths: Sequence[Path],
    view: int,
    *,
    seed: int = 0,
    cache: Path | None = None,
    tell: Callable[[int], object] = lambda _: None,
) -> list[Grid]:
    """The code grids of one view of some images, uint16 `[stages, rows, columns]` each.

    Args:
        codec: which encodes.
        paths: of the images; those that can't be decoded are left out.
        view: as in `view_of`.
        seed: of the edits.
        cache: folder to keep the codes in, under a name that says all that they depend on.
        tell: told how many images are done.

    Raises:
        DataError: not one image could be decoded.
    """
    named = hashlib.sha256(f"{codec.fingerprint} {view} {seed}".encode())
    for path in paths:
        named.update(f"{path.name} {path.stat().st_size}\n".encode())
    file = cache / f"{named.hexdigest()[:24]}.npz" if cache else None
    if file is not None and file.is_file():
        return _read_grids(file)
    grids: list[Grid] = []
    for first in range(0, len(paths), _TOGETHER):
        part = range(first, min(first + _TOGETHER, len(paths)))
        with ThreadPoolExecutor(2) as pool:
            images = list(pool.map(lambda i: _read_view(paths[i], view, (seed, i)), part))
        readable = [image for image in images if image is not None]
        grids += [
            codes.reshape(-1, *codes.shape[-2:]).astype(np.uint16)
            for codes in encode_images(codec, readable)
        ]
        tell(part.stop)
    if not grids:
        raise DataError("not one image could be decoded")
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        _write_grids(file, grids)
    return grids


def _read_view(path: Path, view: int, seed: tuple[int, ...]) -> Pixels | None:
    try:
        return view_of(read_image(path), view, seed)
    except OSError:
        return None


def _write_grids(file: Path, grids: Sequence[Grid]) -> None:
    shapes = np.array([grid.shape for grid in grids])
    temporary = file.with_suffix(".tmp.npz")
    np.savez(temporary, shapes=shapes, codes=np.concatenate([grid.ravel() for grid in grids]))
    temporary.rename(file)


def _read_grids(file: Path) -> list[Grid]:
    try:
        with np.load(file, allow_pickle=False) as kept:
            shapes, codes = kept["shapes"], kept["codes"]
    except (ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{file} is damaged: remove it") from error
    ends = np.cumsum(shapes.prod(axis=1))[:-1]
    return [
        part.reshape(shape)
        for part, shape in zip(np.split(codes, ends), shapes.tolist(), strict=True)
    ]


class Cuts:
    """Square cuts of grids with their surroundings, chosen evenly over all places.

    A batch is a function of seed and step alone, so that a resumed run sees what an unbroken one
    does.

    Args:
        grids: uint16 `[stages, rows, columns]`, in frames as `Margins.around` makes them.
        margins: of the frames.
        side: of a cut, codes; smaller grids are left out.
        seed: of the choice.

    Raises:
        DataError: every grid is smaller than a cut.
    """

    def __init__(self, grids: Sequence[Grid], margins: Margins, side: int, seed: int) -> None:
        self._high = side + margins.above + margins.below
        self._wide = side + margins.left + margins.right
        self._grids = [
            grid for grid in grids if grid.shape[1] >= self._high and grid.shape[2] >= self._wide
        ]
        if not self._grids:
            raise DataError(f"every image is smaller than {side} codes on a side")
        areas = np.array([grid[0].size for grid in self._grids], dtype=np.float64)
        self._cumulative = np.cumsum(areas) / areas.sum()
        self._seed = seed

    def batch(self, step: int, count: int) -> Tensor:
        """The cuts of a step: int64 `[count, stages, side + margins, side + margins]`."""
        random = np.random.default_rng((self._seed, step))
        choices = np.searchsorted(self._cumulative, random.random(count), side="right")
        cuts: list[NDArray[np.uint16]] = []
        for choice in choices.clip(max=len(self._grids) - 1).tolist():
            grid = self._grids[choice]
            top = int(random.integers(grid.shape[1] - self._high + 1))
            left = int(random.integers(grid.shape[2] - self._wide + 1))
            cuts.append(grid[:, top : top + self._high, left : left + self._wide])
        return torch.from_numpy(np.stack(cuts).astype(np.int64))
