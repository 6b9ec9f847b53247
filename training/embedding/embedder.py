"""Embedders: from a grid of codes to one vector of unit length, without any labels.

An embedder sees the codes alone, so that stored codes can be embedded later
without the image. Each computes grid features (`training.embedding.grid_features`)
followed by an affine projection fitted to photographs. `fit_embedder` makes the one
that export gives every bundle; `python -m training.learn_embedder` learns a better
one (docs/log.md has the comparison, `python -m training.compare_embedders` makes it).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.data.dataset import Pixels, evenly, reduced
from training.embedding.cooccurrence import cooccurrence_vectors, visual_words
from training.embedding.grid_features import PooledVectors
from training.onnx_export.any_size import encode_first_stage
from training.onnx_export.codec import CheckpointCodec, Codes
from training.tokenizer.model import Tokenizer

# Enough photographs for the statistics below; more take longer and change little.
_FIT_IMAGES = 1500
# Larger photographs are reduced to this short side before they are encoded for fitting.
FIT_SIDE = 256
_BATCH_CODES = 1 << 16


class Embedder(nn.Module):
    """Grid features, projected and scaled to unit length.

    Args:
        features: int64 `[n, rows, columns]` → float32 `[n, f]`.
        weight: float32 `[e, f]`.
        bias: float32 `[e]`.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, features: nn.Module, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.features = features
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    @property
    def size(self) -> int:
        """Numbers in a vector, e."""
        return self.weight.shape[0]

    def project(self, codes: Tensor) -> Tensor:
        """int64 `[n, rows, columns]` → float32 `[n, e]`, of any length."""
        return F.linear(self.features(codes), self.weight, self.bias)

    def forward(self, codes: Tensor) -> Tensor:
        """int64 `[n, rows, columns]` → float32 `[n, e]` of unit length."""
        return F.normalize(self.project(codes), dim=1)


@dataclass(frozen=True)
class Whitening:
    """How grid features are projected.

    Attributes:
        size: components kept, at most.
        power: 0 is plain PCA, 1 makes all components equally strong; in between, strong
            components are weakened, which nearest neighbours want, and noise is not
            made as strong as they are.
    """

    size: int = 256
    power: float = 0.4


def fit_projection(features: nn.Module, grids: Sequence[Codes], whitening: Whitening) -> Embedder:
    """Fits PCA with partial whitening to the features of some grids.

    Args:
        features: int64 `[n, rows, columns]` → float32 `[n, f]`.
        grids: of training photographs, int64 `[rows, columns]` of any sizes.
        whitening: size and strength.
    """
    rows = apply_to_grids(features, grids)
    mean = rows.mean(dim=0)
    centred = rows - mean
    # Of n grids there are n − 1 directions in which they differ.
    size = max(1, min(whitening.size, len(centred) - 1, centred.shape[1]))
    torch.manual_seed(0)  # of the randomised decomposition
    rank = min(size + 32, *centred.shape)
    _, strengths, axes = torch.svd_lowrank(centred, rank, niter=4)
    variances = strengths[:size].square() / len(centred)
    # A hundredth of the mean variance: components of almost none would be blown up to noise.
    scale = (variances + 0.01 * variances.mean()).clamp_min(1e-12) ** (-whitening.power / 2)
    weight = axes[:, :size].T * scale[:, None]
    return Embedder(features, weight, -weight @ mean).eval()


def fit_embedder(model: Tokenizer, images: Sequence[Pixels]) -> Embedder:
    """The embedder that is exported, fitted to photographs without labels.

    Square roots of the shares of 128 visual words (`cooccurrence.visual_words`) in the whole
    image and in its 2×2 and 4×4 parts, mirror images together, projected to 256 numbers and
    partly whitened.
    Reproducible: nothing in it is random that isn't seeded.

    Args:
        model: a trained tokenizer.
        images: training photographs, uint8 `[h, w, 3]` of any sizes; an even choice of at
            most 1,500 is used.

    Raises:
        ValueError: no images, or a model without codes (`quantizer.kind` is `none`).
    """
    if not model.config.quantizer.stages:
        raise ValueError("a model without a quantizer has no codes to embed")
    return embedder_of_grids(model, fitting_grids(model, images))


def embedder_of_grids(model: Tokenizer, grids: Sequence[Codes]) -> Embedder:
    """`fit_embedder` for photographs already encoded."""
    vectors = cooccurrence_vectors(grids, model.config.quantizer.stages[0], width=64)
    shares = visual_words(vectors, count=128)
    return fit_projection(PooledVectors(shares, mirrored=True, root=True), grids, Whitening())


def fitting_grids(model: Tokenizer, images: Sequence[Pixels]) -> list[Codes]:
    """Codes of an even choice of images, reduced where they are large.

    Raises:
        ValueError: no images.
    """
    if not images:
        raise ValueError("no photographs to fit the embedder to")
    chosen = [reduced(images[i], FIT_SIDE) for i in evenly(len(images), _FIT_IMAGES)]
    return encode_first_stage(CheckpointCodec(model), chosen)


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
