"""The retrieval benchmark: edited copies of photographs, looked for among all photographs.

An embedder without labels is judged by it: the nearest vector to that of an edited copy
should be that of its original. Random copies, to learn from, are made here as well.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from training.data.augmentation import EDITS, Reach, random_edit
from training.data.dataset import (
    DataError,
    Pixels,
    decoded,
    find_images,
    in_validation,
    reduced,
    report_broken,
)
from training.embedding.embedder import apply_to_grids
from training.onnx_export.any_size import encode_first_stage
from training.onnx_export.codec import BundleCodec, Codec, Codes, first_stage

# Codes along one side of the copies that are learnt from.
COPY_SIDE = 14
# Share of the photographs that nothing is learnt from: the originals of the queries.
_HELD_OUT = 0.1
# Photographs whose copies are encoded together.
_BATCH = 8


@dataclass(frozen=True)
class RetrievalBenchmark:
    """Photographs to search among, and edited copies of some of them as queries.

    Attributes:
        photographs: codes of all of them, int64 `[rows, columns]` of any sizes.
        originals: int64 `[m]`, indices of those that were edited.
        edited: for each edit, codes of the m edited copies.
    """

    photographs: Sequence[Codes]
    originals: NDArray[np.int64]
    edited: dict[str, list[Codes]]

    @property
    def others(self) -> list[Codes]:
        """Codes of the photographs that have no query: those to learn from."""
        queried = set(self.originals.tolist())
        return [grid for i, grid in enumerate(self.photographs) if i not in queried]

    def recall(self, embed: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """For each edit, the share of copies whose nearest photograph is their original.

        Args:
            embed: int64 `[n, rows, columns]` → float32 `[n, e]` of unit length.
        """
        vectors = apply_to_grids(embed, self.photographs)
        shares = {}
        for name, grids in self.edited.items():
            nearest = (apply_to_grids(embed, grids) @ vectors.T).argmax(dim=1).numpy()
            shares[name] = float((nearest == self.originals).mean())
        return shares


def read_photographs(folders: Sequence[Path], largest: int = 0) -> tuple[list[Path], list[Pixels]]:
    """Paths and pixels of all readable images; unreadable ones are named and skipped.

    Args:
        folders: searched at any depth.
        largest: images of a longer short side are reduced to it, pixels; 0: none are.

    Raises:
        DataError: a folder is missing, or nothing in them can be read.
    """
    folder = find_images(folders)
    broken = list(folder.broken)
    paths, images = [], []
    for path, image in decoded(folder.paths, broken):
        paths.append(path)
        images.append(reduced(image, largest) if largest else image)
    report_broken(broken, partial(print, file=sys.stderr))
    if not images:
        raise DataError("not one image could be decoded")
    return paths, images


def held_out(paths: Sequence[Path]) -> NDArray[np.int64]:
    """Indices of a tenth of some photographs, by their names, whatever else is among them.

    Raises:
        DataError: so few photographs that none is held out, or all are.
    """
    chosen = [i for i, path in enumerate(paths) if in_validation(path, _HELD_OUT)]
    if not 0 < len(chosen) < len(paths):
        raise DataError(
            f"{len(paths)} photographs are too few: a tenth of them, chosen by name, is held out"
        )
    return np.array(chosen, dtype=np.int64)


def prepare_benchmark(
    codec: Codec, photographs: Sequence[Pixels], originals: NDArray[np.int64]
) -> RetrievalBenchmark:
    """Encodes photographs, uint8 `[h, w, 3]` of any sizes, and edited copies of some."""
    return RetrievalBenchmark(
        encode_first_stage(codec, photographs),
        originals,
        {
            name: encode_first_stage(codec, [edit(photographs[i]) for i in originals])
            for name, edit in EDITS.items()
        },
    )


def encode_random_copies(
    codec: BundleCodec,
    photographs: Sequence[Pixels],
    count: int,
    *,
    seed: int,
    cache: Path | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> NDArray[np.uint16]:
    """Codes of random edits of photographs, from the cache where they are in it.

    Args:
        codec: encodes them.
        photographs: uint8 `[h, w, 3]` of any sizes.
        count: copies of each.
        seed: of the edits.
        cache: folder to keep the codes in, each set named after all that it depends on.
        on_progress: called with the number of photographs that are done.

    Returns:
        `[photographs, count, COPY_SIDE, COPY_SIDE]`.
    """
    digest = hashlib.sha256(f"{codec.fingerprint} {count} {seed} {COPY_SIDE} {Reach()}".encode())
    for photograph in photographs:
        digest.update(str(photograph.shape).encode() + photograph.tobytes())
    file = cache / f"copies-{digest.hexdigest()[:16]}.npy" if cache else None
    if file is not None and file.is_file():
        kept: NDArray[np.uint16] = np.load(file)
        return kept
    parts = []
    for batch in _edited(photographs, count, COPY_SIDE * codec.stride, seed):
        codes = first_stage(codec.encode(batch.reshape(-1, *batch.shape[2:])))
        parts.append(codes.astype(np.uint16))
        on_progress(min(len(parts) * _BATCH, len(photographs)))
    made = np.concatenate(parts).reshape(len(photographs), count, COPY_SIDE, COPY_SIDE)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file.with_suffix(".tmp.npy"), made)
        file.with_suffix(".tmp.npy").rename(file)
    return made


def _edited(
    photographs: Sequence[Pixels], count: int, side: int, seed: int
) -> Iterator[NDArray[np.uint8]]:
    """Copies of `_BATCH` photographs at a time, `[b, count, side, side, 3]`, one batch ahead."""

    def copies(first: int) -> NDArray[np.uint8]:
        made = []
        for index in range(first, min(first + _BATCH, len(photographs))):
            random = np.random.default_rng((seed, index))
            made.append([random_edit(photographs[index], side, random) for _ in range(count)])
        return np.array(made)

    with ThreadPoolExecutor(2) as pool:
        starts = range(0, len(photographs), _BATCH)
        ahead = [pool.submit(copies, first) for first in starts[:2]]
        for number in range(len(starts)):
            if number + 2 < len(starts):
                ahead.append(pool.submit(copies, starts[number + 2]))
            yield ahead.pop(0).result()
