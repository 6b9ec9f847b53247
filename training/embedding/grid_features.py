"""Descriptions of a grid of codes: a row of numbers that an embedder projects to its vector.

Most of them look each code up in a table, such as the codebook or one of
`training.embedding.cooccurrence`. None needs labels. docs/log.md compares them.

Grids are int64 `[n, rows, columns]`, of any size from 1×1 on; every axis stays
dynamic in ONNX.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.onnx_export.codec import Codes
from training.tokenizer.model import Tokenizer


def pool(features: Tensor, cells: int) -> Tensor:
    """Means over a grid of `cells` × `cells` equal parts: `[n, c, h, w]` → `[n, c, cells, cells]`.

    A position that two parts share counts in each with the fraction that lies in
    it, so that any size works, even one smaller than the cells. (Adaptive pooling
    of a dynamic size can't be exported; a product with two small matrices can.)
    """
    rows = _shares(features.shape[2], cells, features)
    columns = _shares(features.shape[3], cells, features)
    return torch.matmul(torch.matmul(rows, features), columns.transpose(0, 1))


def _shares(length: int, cells: int, like: Tensor) -> Tensor:
    """`[cells, length]`, rows sum to 1: which share of a part each position makes up."""
    positions = torch.arange(length, dtype=like.dtype, device=like.device)[None]
    span = length / cells
    starts = torch.arange(cells, dtype=like.dtype, device=like.device)[:, None] * span
    overlap = torch.minimum(positions + 1, starts + span) - torch.maximum(positions, starts)
    return overlap.clamp_min(0) / span


def fold(parts: Tensor) -> Tensor:
    """Averages with the mirror image, left to right: `[…, cells]` → `[…, ⌈cells/2⌉]`."""
    return ((parts + parts.flip(-1)) / 2)[..., : (parts.shape[-1] + 1) // 2]


class PooledVectors(nn.Module):
    """Each code's vector from a table, averaged over the parts of a pyramid.

    Args:
        table: float32 `[K, m]`, a vector for each code.
        means: pyramid levels, in parts along one side, of which means are taken.
        deviations: levels of which standard deviations are taken.
        mirrored: each part is averaged with its mirror image, left to right: what
            is in a picture seldom depends on the side, and a mirrored copy is found.
        root: square roots of the means, for a table of shares (Hellinger).
    """

    table: Tensor

    def __init__(
        self,
        table: Tensor,
        means: Sequence[int] = (1, 2, 4),
        deviations: Sequence[int] = (),
        *,
        mirrored: bool = False,
        root: bool = False,
    ) -> None:
        super().__init__()
        self.register_buffer("table", table)
        self.means, self.deviations = tuple(means), tuple(deviations)
        self.mirrored, self.root = mirrored, root

    def forward(self, codes: Tensor) -> Tensor:
        """int64 `[n, rows, columns]` → float32 `[n, f]`.

        f is m times the number of parts of all levels, of which mirroring leaves half.
        """
        vectors = F.embedding(codes, self.table).permute(0, 3, 1, 2)
        parts = []
        for cells in self.means:
            mean = pool(vectors, cells)
            mean = fold(mean) if self.mirrored else mean
            parts.append((mean.clamp_min(0).sqrt() if self.root else mean).flatten(1))
        for cells in self.deviations:
            mean = pool(vectors, cells)
            deviation = (pool(vectors.square(), cells) - mean.square()).clamp_min(0).sqrt()
            parts.append((fold(deviation) if self.mirrored else deviation).flatten(1))
        return torch.cat(parts, dim=1)


class BagOfCodes(nn.Module):
    """How often each code occurs, as square roots of shares (Hellinger), wherever it does.

    Args:
        weights: float32 `[K]`, such as inverse document frequencies.
    """

    weights: Tensor

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.register_buffer("weights", weights)

    def forward(self, codes: Tensor) -> Tensor:
        """int64 `[n, rows, columns]` → float32 `[n, K]`."""
        flat = codes.flatten(1)
        counts = torch.zeros(flat.shape[0], self.weights.shape[0], device=codes.device)
        ones = torch.ones_like(flat, dtype=counts.dtype)
        return (counts.scatter_add(1, flat, ones) / flat.shape[1]).sqrt() * self.weights


class NeighbourCovariances(nn.Module):
    """Second moments of code vectors with themselves and their right and lower neighbours.

    Signed square roots of them, since moments of images have heavy tails (Perronnin et
    al. 2010, "Improving the Fisher kernel").

    Args:
        table: float32 `[K, m]`, a vector for each code.
    """

    table: Tensor

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.register_buffer("table", table)

    def forward(self, codes: Tensor) -> Tensor:
        """int64 `[n, rows, columns]` → float32 `[n, m + 3·m²]`."""
        vectors = F.embedding(codes, self.table)
        # The last row and column are their own neighbours: nothing is left out of a 1×1 grid.
        right = torch.cat([vectors[:, :, 1:], vectors[:, :, -1:]], dim=2)
        below = torch.cat([vectors[:, 1:], vectors[:, -1:]], dim=1)
        flat = vectors.flatten(1, 2)
        parts = [flat.mean(dim=1)]
        for other in (vectors, right, below):
            moments = torch.matmul(flat.transpose(1, 2), other.flatten(1, 2))
            moments = moments / (codes.shape[1] * codes.shape[2])
            parts.append((moments.sign() * moments.abs().sqrt()).flatten(1))
        return torch.cat(parts, dim=1)


class DecoderFeatures(nn.Module):
    """Means of what the first layers of the decoder make of the codes, over a pyramid.

    Args:
        model: its decoder's layers and codebook are used.
        layers: how many of them.
        means: pyramid levels, in parts along one side.
    """

    codebook: Tensor

    def __init__(self, model: Tokenizer, layers: int, means: Sequence[int] = (1, 2)) -> None:
        super().__init__()
        self.stages = nn.Sequential(*list(model.decoder.stages)[:layers])
        self.register_buffer("codebook", model.quantizer.normalized_codebook().detach().clone())
        self.means = tuple(means)

    def forward(self, codes: Tensor) -> Tensor:
        """int64 `[n, rows, columns]` → float32 `[n, width·Σ means²]`."""
        vectors = F.embedding(codes, self.codebook).permute(0, 3, 1, 2)
        features = self.stages(vectors)
        return torch.cat([pool(features, cells).flatten(1) for cells in self.means], dim=1)


class PatchWords(nn.Module):
    """Likeness of each 3×3 neighbourhood to words learnt by k-means, over a pyramid.

    Coates & Ng 2011, "The importance of encoding versus training with sparse coding
    and vector quantization", on grids of code vectors instead of pixels.

    Args:
        table: float32 `[K, m]`, a vector for each code.
        whitening: float32 `[m, 3, 3, 9·m]` of patches, and …
        offset: … float32 `[9·m]`, added after it.
        words: float32 `[w, 9·m]` of unit length.
        threshold: likeness below it counts as none.
        means: pyramid levels, in parts along one side.
    """

    table: Tensor
    kernel: Tensor
    offset: Tensor
    words: Tensor

    def __init__(
        self,
        table: Tensor,
        whitening: Tensor,
        offset: Tensor,
        words: Tensor,
        threshold: float = 0.25,
        means: Sequence[int] = (1, 2),
    ) -> None:
        super().__init__()
        self.register_buffer("table", table)
        self.register_buffer("kernel", whitening.permute(3, 0, 1, 2).contiguous())
        self.register_buffer("offset", offset)
        self.register_buffer("words", words[:, :, None, None])
        self.threshold, self.means = threshold, tuple(means)

    def forward(self, codes: Tensor) -> Tensor:
        """int64 `[n, rows, columns]` → float32 `[n, w·Σ means²]`."""
        vectors = F.embedding(codes, self.table).permute(0, 3, 1, 2)
        patches = F.conv2d(vectors, self.kernel, self.offset, padding=1)
        likeness = F.conv2d(F.normalize(patches, dim=1), self.words)
        likeness = F.relu(likeness - self.threshold)
        return torch.cat([pool(likeness, cells).flatten(1) for cells in self.means], dim=1)


class Concatenated(nn.Module):
    """Several descriptions of one grid, one after the other."""

    def __init__(self, *descriptions: nn.Module) -> None:
        super().__init__()
        self.descriptions = nn.ModuleList(descriptions)

    def forward(self, codes: Tensor) -> Tensor:
        """int64 `[n, rows, columns]` → float32 `[n, Σ lengths]`."""
        return torch.cat([description(codes) for description in self.descriptions], dim=1)


def patch_words(table: Tensor, grids: Sequence[Codes], count: int, seed: int = 0) -> PatchWords:
    """Learns `count` words of 3×3 neighbourhoods by spherical k-means on whitened patches.

    Args:
        table: float32 `[K, m]`, a vector for each code.
        grids: of training photographs, int64 `[rows, columns]` of any sizes.
        count: number of words.
        seed: of the choice of patches and of the first words.
    """
    generator = torch.Generator().manual_seed(seed)
    width = table.shape[1]
    samples = []
    for grid in grids:
        vectors = F.embedding(torch.from_numpy(grid), table).permute(2, 0, 1)[None]
        patches = F.unfold(vectors, 3, padding=1)[0].T
        samples.append(patches[torch.randperm(len(patches), generator=generator)[:100]])
    flat = torch.cat(samples)
    mean = flat.mean(dim=0)
    variances, axes = torch.linalg.eigh(torch.cov(flat.T))
    whitening = axes @ torch.diag((variances + 0.1 * variances.mean()) ** -0.5) @ axes.T
    flat = F.normalize((flat - mean) @ whitening)
    words = flat[torch.randperm(len(flat), generator=generator)[:count]]
    for _ in range(8):
        nearest = torch.cat([(part @ words.T).argmax(dim=1) for part in torch.split(flat, 1 << 14)])
        sums = torch.zeros_like(words).index_add_(0, nearest, flat)
        words = torch.where(sums.norm(dim=1, keepdim=True) > 0, F.normalize(sums), words)
    return PatchWords(table, whitening.reshape(width, 3, 3, -1), -mean @ whitening, words)
