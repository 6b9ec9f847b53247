"""Embedders: from a grid of codes to one vector of unit length, without any labels.

An embedder sees the codes alone, so that stored codes can be embedded later
without the image. Each is a description of the grid (`describe`, below) followed
by an affine projection fitted to photographs. `fit_embedder` makes the one that
is exported; the others are what it was chosen among (docs/log.md has the
comparison, `python -m training.compare_embedders` makes it).

Grids are int64 `[n, rows, columns]`, of any size from 1×1 on; every axis stays
dynamic in ONNX.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from training.codec import CheckpointCodec, Codes, encode_images
from training.data import Pixels
from training.model import Tokenizer

# Enough photographs for the statistics below; more take longer and change little.
_FIT_IMAGES = 1500
# Larger photographs are reduced to this short side before they are encoded for fitting.
_FIT_SIDE = 256
_BATCH_CODES = 1 << 16


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
            mean = self._folded(pool(vectors, cells))
            parts.append((mean.clamp_min(0).sqrt() if self.root else mean).flatten(1))
        for cells in self.deviations:
            mean = pool(vectors, cells)
            variance = pool(vectors.square(), cells) - mean.square()
            parts.append(self._folded(variance.clamp_min(0).sqrt()).flatten(1))
        return torch.cat(parts, dim=1)

    def _folded(self, parts: Tensor) -> Tensor:
        """`[n, m, cells, cells]` → `[n, m, cells, ⌈cells/2⌉]` where mirrored."""
        if not self.mirrored:
            return parts
        return ((parts + parts.flip(3)) / 2)[..., : (parts.shape[3] + 1) // 2]


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


class Embedder(nn.Module):
    """A description of the grid, projected and scaled to unit length.

    Args:
        description: int64 `[n, rows, columns]` → float32 `[n, f]`.
        weight: float32 `[e, f]`.
        bias: float32 `[e]`.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, description: nn.Module, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.description = description
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    @property
    def size(self) -> int:
        """Numbers in a vector, e."""
        return self.weight.shape[0]

    def project(self, codes: Tensor) -> Tensor:
        """int64 `[n, rows, columns]` → float32 `[n, e]`, of any length."""
        return F.linear(self.description(codes), self.weight, self.bias)

    def forward(self, codes: Tensor) -> Tensor:
        """int64 `[n, rows, columns]` → float32 `[n, e]` of unit length."""
        return F.normalize(self.project(codes), dim=1)


@dataclass(frozen=True)
class Whitening:
    """How a description is projected.

    Attributes:
        size: components kept, at most.
        power: 0 is plain PCA, 1 makes all components equally strong; in between, strong
            components are weakened, which nearest neighbours want, and noise is not
            made as strong as they are.
    """

    size: int = 256
    power: float = 0.4


def fit_projection(
    description: nn.Module, grids: Sequence[Codes], whitening: Whitening
) -> Embedder:
    """Fits PCA with partial whitening to what a description makes of some grids.

    Args:
        description: int64 `[n, rows, columns]` → float32 `[n, f]`.
        grids: of training photographs, int64 `[rows, columns]` of any sizes.
        whitening: size and strength.
    """
    described = apply_to_grids(description, grids)
    mean = described.mean(dim=0)
    centred = described - mean
    # Of n grids there are n − 1 directions in which they differ.
    size = max(1, min(whitening.size, len(centred) - 1, centred.shape[1]))
    torch.manual_seed(0)  # of the randomised decomposition
    rank = min(size + 32, *centred.shape)
    _, strengths, axes = torch.svd_lowrank(centred, rank, niter=4)
    variances = strengths[:size].square() / len(centred)
    # A hundredth of the mean variance: components of almost none would be blown up to noise.
    scale = (variances + 0.01 * variances.mean()).clamp_min(1e-12) ** (-whitening.power / 2)
    weight = axes[:, :size].T * scale[:, None]
    return Embedder(description, weight, -weight @ mean).eval()


def context_vectors(grids: Sequence[Codes], size: int, width: int, radius: int = 2) -> Tensor:
    """A vector for each code, such that codes found in like surroundings have like vectors.

    What word vectors are to words: the matrix of positive pointwise mutual
    information between codes at most `radius` rows and columns apart, factorised
    (Levy & Goldberg 2014, "Neural word embedding as implicit matrix factorization";
    context counts to the power 0.75, as there). Two codes for grass differ in
    every pixel; their neighbours are the same.

    Args:
        grids: of training photographs, int64 `[rows, columns]` of any sizes.
        size: number of codes K.
        width: numbers m in a vector.
        radius: reach of the surroundings, in codes.

    Returns:
        float32 `[K, m]`, of unit length; zeros for a code that never occurs.
    """
    counts = torch.zeros(size * size)
    offsets = [
        (down, across)
        for down in range(radius + 1)
        for across in range(-radius, radius + 1)
        if (down, across) > (0, 0)
    ]
    for grid in grids:
        rows, columns = grid.shape
        pairs = []
        for down, across in offsets:
            left, right = max(0, -across), max(0, across)
            here = grid[: max(0, rows - down), left : max(left, columns - right)]
            there = grid[down:, right : max(right, columns - left)]
            pairs.append((here * size + there).ravel())
        flat = torch.from_numpy(np.concatenate(pairs))
        counts.index_add_(0, flat, torch.ones(len(flat)))
    joint = counts.reshape(size, size)
    joint = joint + joint.T
    single = joint.sum(dim=1)
    context = single.clamp_min(1e-9) ** 0.75
    context = context / context.sum()
    expected = single[:, None] * context[None]
    information = torch.where(joint > 0, (joint / expected.clamp_min(1e-9)).log(), 0.0).relu()
    torch.manual_seed(0)  # of the randomised decomposition
    width = min(width, size)
    left_axes, strengths, _ = torch.svd_lowrank(information, min(width + 16, size), niter=4)
    return F.normalize((left_axes * strengths.sqrt())[:, :width])


def context_words(vectors: Tensor, count: int, softness: float = 0.1) -> Tensor:
    """Codes' shares in `count` words, which are clusters of codes found in like surroundings.

    Spherical k-means on the codes' vectors; a code belongs to several words as its
    cosines with them, divided by `softness`, say (softmax). What it is for: 4,096
    codes are too many to count in a photograph of 1,000, and 128 words are not.

    Args:
        vectors: float32 `[K, m]` of unit length, as `context_vectors` makes them.
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


def fit_embedder(model: Tokenizer, images: Sequence[Pixels]) -> Embedder:
    """The embedder that is exported, fitted to photographs without labels.

    Square roots of the shares of 128 context words in the whole image and in its 2×2
    and 4×4 parts, mirror images together, projected to 256 numbers and partly whitened.
    Reproducible: nothing in it is random that isn't seeded.

    Args:
        model: a trained tokenizer.
        images: training photographs, uint8 `[h, w, 3]` of any sizes; an even choice of at
            most 1,500 is used.

    Raises:
        ValueError: no images, or a model without codes (`quantizer.kind` is `none`).
    """
    if model.config.quantizer.kind == "none":
        raise ValueError("a model without a quantizer has no codes to embed")
    return embedder_of_grids(model, fitting_grids(model, images))


def embedder_of_grids(model: Tokenizer, grids: Sequence[Codes]) -> Embedder:
    """`fit_embedder` for photographs already encoded."""
    vectors = context_vectors(grids, model.config.quantizer.size, width=64)
    shares = context_words(vectors, count=128)
    return fit_projection(PooledVectors(shares, mirrored=True, root=True), grids, Whitening())


def fitting_grids(model: Tokenizer, images: Sequence[Pixels]) -> list[Codes]:
    """Codes of an even choice of images, reduced where they are large.

    Raises:
        ValueError: no images.
    """
    if not images:
        raise ValueError("no photographs to fit the embedder to")
    count = min(len(images), _FIT_IMAGES)
    chosen = [_reduced(images[i * len(images) // count]) for i in range(count)]
    return encode_images(CheckpointCodec(model), chosen)


def apply_to_grids(module: Callable[[Tensor], Tensor], grids: Sequence[Codes]) -> Tensor:
    """A module's rows for grids of any sizes, those of equal size batched: float32 `[len, f]`."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, grid in enumerate(grids):
        groups.setdefault(grid.shape, []).append(index)
    rows: dict[int, Tensor] = {}
    with torch.no_grad():
        for shape, indices in groups.items():
            batch = max(1, _BATCH_CODES // max(1, shape[0] * shape[1]))
            for first in range(0, len(indices), batch):
                part = indices[first : first + batch]
                made = module(torch.from_numpy(np.stack([grids[i] for i in part])))
                rows.update(zip(part, made, strict=True))
        return torch.stack([rows[i] for i in range(len(grids))])


def _reduced(image: Pixels) -> Pixels:
    height, width = image.shape[:2]
    scale = _FIT_SIDE / min(height, width)
    if scale >= 1:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))
