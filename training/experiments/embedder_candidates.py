"""Candidate embedders: grid features that the exported embedder was chosen among.

None needs labels; each is followed by a projection fitted to photographs. Grids are int64
`[n, rows, columns]`, of any size from 1×1 on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.embedding.cooccurrence import cooccurrence_vectors, visual_words
from training.embedding.embedder import Embedder, Whitening, embedder_of_grids, fit_projection
from training.embedding.grid_features import PooledVectors, pool
from training.experiments.embedder_comparison import Material
from training.onnx_export.codec import Codes
from training.tokenizer.model import Tokenizer


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
        self.stages = nn.Sequential(
            *list(model.decoder.get_submodule("stages").children())[:layers]
        )
        self.register_buffer("codebook", model.quantizer.normalized_codebook().detach().clone())
        self.means = tuple(means)

    def forward(self, codes: Tensor) -> Tensor:
        """int64 `[n, rows, columns]` → float32 `[n, width·Σ means²]`."""
        vectors = F.embedding(codes, self.codebook).permute(0, 3, 1, 2)
        features = self.stages(vectors)
        return torch.cat([pool(features, cells).flatten(1) for cells in self.means], dim=1)


class PatchWords(nn.Module):
    """Similarity of each 3×3 neighbourhood to words learnt by k-means, over a pyramid.

    Coates & Ng 2011, "The importance of encoding versus training with sparse coding
    and vector quantization", on grids of code vectors instead of pixels.

    Args:
        table: float32 `[K, m]`, a vector for each code.
        whitening: float32 `[m, 3, 3, 9·m]` of patches, and …
        offset: … float32 `[9·m]`, added after it.
        words: float32 `[w, 9·m]` of unit length.
        threshold: similarity below it counts as zero.
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
        similarity = F.conv2d(F.normalize(patches, dim=1), self.words)
        similarity = F.relu(similarity - self.threshold)
        return torch.cat([pool(similarity, cells).flatten(1) for cells in self.means], dim=1)


class Concatenated(nn.Module):
    """Several features of one grid, one after the other."""

    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, codes: Tensor) -> Tensor:
        """int64 `[n, rows, columns]` → float32 `[n, Σ lengths]`."""
        return torch.cat([part(codes) for part in self.parts], dim=1)


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


def candidates(material: Material) -> dict[str, Callable[[], Embedder]]:
    """Every candidate's name, and how it is fitted."""
    model, grids = material.model, material.benchmark.others
    codebook = model.quantizer.normalized_codebook().detach()
    size = len(codebook)
    vectors = cooccurrence_vectors(grids, size, width=64)
    words = visual_words(vectors, 128)
    partly, plain, fully = Whitening(256), Whitening(256, 0.0), Whitening(256, 1.0)

    def rarity() -> torch.Tensor:
        found = sum(torch.bincount(torch.from_numpy(np.unique(g)), minlength=size) for g in grids)
        return (len(grids) / (1 + torch.as_tensor(found))).log().clamp_min(0)

    def mirrored_words() -> PooledVectors:
        return PooledVectors(words, mirrored=True, root=True)

    def fitted(
        make: Callable[[], torch.nn.Module], whitening: Whitening = partly
    ) -> Callable[[], Embedder]:
        return lambda: fit_projection(make(), grids, whitening)

    return {
        "bag of codes, idf": fitted(lambda: BagOfCodes(rarity())),
        "code vectors, mean + deviation": fitted(lambda: PooledVectors(codebook, (1,), (1,))),
        "code vectors, mean + deviation, 4×4; PCA": fitted(
            lambda: PooledVectors(codebook, (4,), (4,)), plain
        ),
        "code vectors, mean + deviation, 4×4": fitted(lambda: PooledVectors(codebook, (4,), (4,))),
        "neighbour covariances": fitted(lambda: NeighbourCovariances(codebook)),
        "decoder, first 2 blocks, 1 + 2×2": fitted(lambda: DecoderFeatures(model, 4)),
        "words of 3×3 codes, 1 + 2×2": fitted(lambda: patch_words(codebook, grids, 512)),
        "co-occurrence vectors, 1 + 2×2 + 4×4": fitted(lambda: PooledVectors(vectors)),
        "co-occurrence vectors, mirrored": fitted(lambda: PooledVectors(vectors, mirrored=True)),
        "visual words, 1 + 2×2 + 4×4": fitted(lambda: PooledVectors(words, root=True)),
        "visual words, mirrored (of export)": lambda: embedder_of_grids(model, grids),
        "visual words, mirrored; PCA": fitted(mirrored_words, plain),
        "visual words, mirrored; whitened": fitted(mirrored_words, fully),
        "visual words, mirrored; 512 wide": fitted(mirrored_words, Whitening(512)),
        "visual words and code vectors, mirrored": fitted(
            lambda: Concatenated(
                mirrored_words(), PooledVectors(codebook, (4,), (4,), mirrored=True)
            )
        ),
    }
