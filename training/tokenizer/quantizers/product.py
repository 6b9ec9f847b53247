"""Product quantization: several small codebooks side by side, each for a part of the latent.

Jégou et al. 2011, "Product Quantization for Nearest Neighbor Search" (IEEE TPAMI 33.1). m
codebooks of K vectors stand for Kᵐ code vectors; a latent is compared with m·K. The code is
Σ c_i · K_1 ⋯ K_{i−1}. Each codebook is learnt as a single one is
(`training.tokenizer.quantizers.nearest`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from training.tokenizer.config import ProductConfig
from training.tokenizer.quantizers.nearest import NearestQuantizer
from training.tokenizer.quantizers.protocol import Quantized, Quantizer, codes_of_choices

# Keeps the random numbers of the codebooks apart.
_SEED_STEP = 6151


class ProductQuantizer(Quantizer):
    """One `NearestQuantizer` for each part of the latent.

    Attributes:
        parts: the quantizers, in the order of the latent's dimensions.
    """

    def __init__(self, config: ProductConfig, seed: int = 0) -> None:
        super().__init__()
        self.config, self.sizes, self.factors = config, config.stages, config.factors
        self.parts = nn.ModuleList(
            NearestQuantizer(part, seed + _SEED_STEP * index)
            for index, part in enumerate(config.parts)
        )

    def codebooks(self) -> tuple[Tensor, ...]:
        """All codebooks below each other, float32 `[ΣK_i, d/m]`."""
        return (torch.cat([part.normalized_codebook() for part in self._parts()]),)

    @torch.no_grad()
    def start_from(self, books: Sequence[Tensor]) -> list[str]:
        """Takes the codebooks of a trained model. See `Quantizer`."""
        if sum(self.factors) != len(books[0]):
            raise ValueError(
                f"codebooks of {len(books[0])} vectors can't start some of {sum(self.factors)}"
            )
        for part, table in zip(
            self._parts(), torch.split(books[0], list(self.factors)), strict=True
        ):
            part.start_from([table])
        return []

    def project(self, latents: Tensor) -> Tensor:
        """Each part as its codebook compares it, float32 `[n, d, h, w]`."""
        parts = zip(self._parts(), self._split(latents), strict=True)
        return torch.cat([part.project(own) for part, own in parts], dim=1)

    def assignment(self) -> nn.Module:
        """The nearest vectors of all parts; see `Quantizer`."""
        return _Parts([part.assignment() for part in self._parts()], self.factors)

    def forward(self, latents: Tensor, step: int = 0) -> Quantized:
        """Quantizes a batch, and each codebook learns from its part. See `Quantizer`."""
        made = []
        for part, own in zip(self._parts(), self._split(latents), strict=True):
            part.frozen = self.frozen
            made.append(part(own, step))
        commitment = torch.stack([part.terms["commitment"] for part in made]).mean()
        codes = codes_of_choices(torch.stack([part.codes for part in made], dim=-1), self.factors)
        vectors = torch.cat([part.vectors for part in made], dim=1)
        return Quantized(vectors, codes, {"commitment": commitment})

    def _split(self, latents: Tensor) -> tuple[Tensor, ...]:
        if latents.shape[1] != self.config.width:
            raise ValueError(
                f"latents have {latents.shape[1]} channels, the codebooks {self.config.width}"
            )
        return latents.chunk(len(self.factors), dim=1)

    def _parts(self) -> list[NearestQuantizer]:
        return [cast("NearestQuantizer", part) for part in self.parts]


class _Parts(nn.Module):
    """Latents float32 `[n, d, h, w]` → codes int64 `[n, h, w]`."""

    def __init__(self, parts: list[nn.Module], factors: tuple[int, ...]) -> None:
        super().__init__()
        self.parts, self.factors = nn.ModuleList(parts), factors

    def forward(self, latents: Tensor) -> Tensor:
        pieces = latents.chunk(len(self.factors), dim=1)
        chosen = [part(piece) for part, piece in zip(self.parts, pieces, strict=True)]
        return codes_of_choices(torch.stack(chosen, dim=-1), self.factors)
