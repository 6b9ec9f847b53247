"""Co-occurrence of codes: a vector for each code, learnt from grids of codes alone.

What a code looks like says less about what a picture shows than the codes around it
do (docs/log.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.onnx_export.codec import Codes

# Numbers of a block of rows of the K×K matrix that are held at a time, in a few arrays of 4 bytes
# each: all rows up to 4,096 codes.
_BLOCK = 1 << 24
# Pairs of neighbours that are counted at a time.
_PAIRS = 1 << 22


def cooccurrence_vectors(grids: Sequence[Codes], size: int, width: int, radius: int = 2) -> Tensor:
    """A vector for each code, such that codes with similar neighbours have similar vectors.

    What word vectors are to words: the matrix of positive pointwise mutual
    information between codes at most `radius` rows and columns apart, factorised
    (Levy & Goldberg 2014, "Neural word embedding as implicit matrix factorization";
    context counts to the power 0.75, as there). Two codes for grass differ in
    every pixel; their neighbours are the same.

    Args:
        grids: of training photographs, int64 `[rows, columns]` of any sizes.
        size: number of codes K.
        width: numbers m in a vector.
        radius: of the neighbourhood, in codes.

    Returns:
        float32 `[K, m]`, of unit length; zeros for a code that never occurs.
    """
    if size * size > _BLOCK:
        # Of so many codes most photographs use a part: a matrix of the others would be zeros.
        found = np.unique(np.concatenate([grid.ravel() for grid in grids]))
        if len(found) < size:
            compact = [np.searchsorted(found, grid) for grid in grids]
            known = cooccurrence_vectors(compact, len(found), width, radius)
            vectors = torch.zeros(size, min(width, size))
            vectors[torch.from_numpy(found), : known.shape[1]] = known
            return vectors
    single = torch.zeros(size)
    for one, _ in _pairs(grids, radius):
        single += torch.bincount(one, minlength=size)
    context = single.clamp_min(1e-9) ** 0.75
    context = context / context.sum()
    step = max(1, _BLOCK // size)
    blocks = [
        _information(grids, radius, single, context, range(first, min(first + step, size)))
        for first in range(0, size, step)
    ]
    # Dense where that is small; a matrix of 16,384 codes is mostly zeros.
    information = (
        blocks[0] if len(blocks) == 1 else torch.cat([b.to_sparse() for b in blocks]).coalesce()
    )
    torch.manual_seed(0)  # of the randomised decomposition
    width = min(width, size)
    left_axes, strengths, _ = torch.svd_lowrank(information, min(width + 16, size), niter=4)
    return F.normalize((left_axes * strengths.sqrt())[:, :width])


def _pairs(grids: Sequence[Codes], radius: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Codes and their neighbours, int64 `[pairs]` each, the pairs of many grids at a time.

    Every pair of neighbours comes in both directions.
    """
    offsets = [
        (down, across)
        for down in range(radius + 1)
        for across in range(-radius, radius + 1)
        if (down, across) > (0, 0)
    ]
    one: list[Codes] = []
    other: list[Codes] = []
    gathered = 0
    for index, grid in enumerate(grids):
        rows, columns = grid.shape
        for down, across in offsets:
            left, right = max(0, -across), max(0, across)
            here = grid[: max(0, rows - down), left : max(left, columns - right)].ravel()
            there = grid[down:, right : max(right, columns - left)].ravel()
            one += [here, there]
            other += [there, here]
            gathered += 2 * len(here)
        if gathered >= _PAIRS or index + 1 == len(grids):
            yield torch.from_numpy(np.concatenate(one)), torch.from_numpy(np.concatenate(other))
            one, other, gathered = [], [], 0


def _information(
    grids: Sequence[Codes], radius: int, single: Tensor, context: Tensor, codes: range
) -> Tensor:
    """Rows of the matrix of positive pointwise mutual information: float32 `[len(codes), K]`.

    Args:
        grids: of codes.
        radius: reach of the surroundings.
        single: float32 `[K]`, how often a code has a neighbour.
        context: float32 `[K]`, shares of the neighbours, to the power 0.75.
        codes: whose rows are wanted.
    """
    size, rows = len(single), len(codes)
    joint = torch.zeros(rows * size)
    for one, other in _pairs(grids, radius):
        places = (one - codes.start) * size + other
        if rows < size:
            places = places[(one >= codes.start) & (one < codes.stop)]
        joint += torch.bincount(places, minlength=rows * size)
    joint = joint.reshape(rows, size)
    expected = single[codes.start : codes.stop, None] * context[None]
    return torch.where(joint > 0, (joint / expected.clamp_min(1e-9)).log(), 0.0).relu()


def visual_words(vectors: Tensor, count: int, softness: float = 0.1) -> Tensor:
    """Codes' shares in `count` visual words, which are clusters of codes with similar neighbours.

    Spherical k-means on the codes' vectors; a code belongs to several words as its
    cosines with them, divided by `softness`, say (softmax). The reason: a
    photograph of 1,000 codes is too small to count 4,096 different ones in, but not 128 words.

    Args:
        vectors: float32 `[K, m]` of unit length, as `cooccurrence_vectors` makes them.
        count: number of words, at most K.
        softness: nearly 0 gives each code to one word.

    Returns:
        float32 `[K, count]`, rows sum to 1.
    """
    generator = torch.Generator().manual_seed(0)
    words = vectors[torch.randperm(len(vectors), generator=generator)[:count]]
    for _ in range(20):
        nearest = (vectors @ words.T).argmax(dim=1)
        sums = torch.zeros_like(words).index_add_(0, nearest, vectors)
        words = torch.where(sums.norm(dim=1, keepdim=True) > 1e-6, F.normalize(sums), words)
    return torch.softmax(vectors @ words.T / softness, dim=1)
