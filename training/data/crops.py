"""Random crops of images: what a batch of training is made of.

A batch is a function of seed and step alone: the same for one process or
several, for an unbroken run or a resumed one, and no state needs saving.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from training.data.dataset import Broken, DataError, Folder, Pixels, rescaled


def random_window(
    random: np.random.Generator, height: int, width: int, rows: int, columns: int
) -> tuple[slice, slice]:
    """Where in a picture or a grid a random part of it lies: its rows and its columns."""
    top = int(random.integers(height - rows + 1))
    left = int(random.integers(width - columns + 1))
    return slice(top, top + rows), slice(left, left + columns)


class Crops:
    """Random square crops at the images' own scale.

    An image is chosen by its area and a place in it evenly, so that all places a crop fits
    into are about equally likely; pixels nearer to an edge than a crop's side are in fewer.

    Args:
        folder: images to crop from.
        crop: side, pixels.
        flip: mirror half of them.
        seed: of everything random.
        cache_gib: decoded images are kept up to this; beyond it they are decoded anew.
        enlarge: images smaller than a crop are enlarged to its side; otherwise they are left out.

    Attributes:
        smaller: how many of the images are smaller than a crop.
        broken: files whose pixels turned out unreadable after their header was fine.

    Raises:
        DataError: there are no images, or none as large as a crop where they aren't enlarged.
    """

    def __init__(
        self,
        folder: Folder,
        *,
        crop: int,
        flip: bool,
        seed: int,
        cache_gib: float,
        enlarge: bool = True,
    ) -> None:
        if not folder.paths:
            raise DataError("no images to train on: all of them fell into the validation split")
        small = [min(size) < crop for size in folder.sizes]
        self.smaller = sum(small)
        if self.smaller and not enlarge:
            if all(small):
                raise DataError(
                    f"no image is as large as a crop of {crop}×{crop}; choose a smaller crop, or "
                    "enlarge = true"
                )
            keep = [index for index, too_small in enumerate(small) if not too_small]
            folder = Folder(
                tuple(folder.paths[i] for i in keep),
                tuple(folder.sizes[i] for i in keep),
                (),
                folder.read,
            )
        self._paths, self._read = folder.paths, folder.read
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
        return np.stack([self.one(step, index) for index in mine])

    def batches(
        self, first: int, last: int, size: int, part: int = 0, parts: int = 1, workers: int = 0
    ) -> Iterator[Pixels]:
        """The batches of steps `first` … `last` − 1, made ahead while others are used.

        Args:
            first: step.
            last: step after the last one.
            size: crops in a step, over all parts.
            part: which share of them to make …
            parts: … of how many.
            workers: processes that make them; 0 makes them in a thread. What processes find
                broken is not in `broken`.
        """
        steps = _Steps(self, first, last, size, part, parts)
        if workers == 0:
            yield from steps.by_a_thread()
            return
        # A batch is an item: no batching, and no conversion of its array.
        loader = DataLoader(steps, batch_size=None, num_workers=workers, prefetch_factor=4)
        for batch in loader:
            yield batch.numpy()

    def one(self, step: int, index: int) -> Pixels:
        """The crop at a place in a step's batch: uint8 `[crop, crop, 3]`."""
        random = np.random.default_rng((self._seed, step, index))
        while True:
            choice = int(np.searchsorted(self._cumulative, random.random(), side="right"))
            image = self._image(min(choice, len(self._paths) - 1))
            if image is not None:
                break
        height, width = image.shape[:2]
        cut = image[random_window(random, height, width, self._crop, self._crop)]
        return cut[:, ::-1] if self._flip and random.random() < 0.5 else cut

    def _image(self, index: int) -> Pixels | None:
        """The image, at least crop × crop; None where its pixels can't be read."""
        cached = self._cache.get(index)
        if cached is not None:
            return cached if cached.size else None
        path = self._paths[index]
        try:
            pixels = _enlarged(self._read(path), self._crop)
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
    return rescaled(pixels, size)


class _Steps(Dataset[Tensor]):
    """The batches of a range of steps, as PyTorch's loader takes them."""

    def __init__(
        self, crops: Crops, first: int, last: int, size: int, part: int, parts: int
    ) -> None:
        self._crops, self._first, self._last = crops, first, last
        self._share = (size, part, parts)

    def __len__(self) -> int:
        return self._last - self._first

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(self._crops.batch(self._first + index, *self._share))

    def by_a_thread(self) -> Iterator[Pixels]:
        """Two batches ahead."""
        with ThreadPoolExecutor(1) as pool:
            ahead = [
                pool.submit(self._crops.batch, step, *self._share)
                for step in range(self._first, min(self._first + 2, self._last))
            ]
            for step in range(self._first, self._last):
                made = ahead.pop(0).result()
                if step + 2 < self._last:
                    ahead.append(pool.submit(self._crops.batch, step + 2, *self._share))
                yield made
