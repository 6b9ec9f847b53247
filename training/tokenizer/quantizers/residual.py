"""Residual quantization: each stage codes what the stages before it left over.

Zeghidour et al. 2021, "SoundStream" (arXiv:2107.03312, algorithm 1), with its quantizer
dropout: images are shown to the decoder with their later stages left out, so that every
prefix of the stages decodes well and one model serves several rates.

The first stage codes directions where `distance` is `cosine`; what it leaves over has a length
that means something, so that further stages always compare positions (Euclidean distance).
The decoder sees the sum of all stages' code vectors.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from training.tokenizer.config import NearestConfig
from training.tokenizer.quantizers.assignment import NearestAssignment
from training.tokenizer.quantizers.nearest import NearestQuantizer
from training.tokenizer.quantizers.protocol import (
    Quantized,
    Quantizer,
    processes,
    rank,
    straight_through,
)

# Keeps the random numbers of later stages and of the dropout apart from the first stage's.
_SEED_STEP = 7919


class ResidualQuantizer(Quantizer):
    """Several stages, the first of which is the quantizer that there would be without others.

    Attributes:
        stages: one `NearestQuantizer` each, from coarse to fine.
    """

    def __init__(self, config: NearestConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.seed = seed
        first = dataclasses.replace(config, residual_sizes=())
        further = [
            dataclasses.replace(first, size=size, distance="euclidean", initialization="kmeans")
            for size in config.residual_sizes
        ]
        self.stages = nn.ModuleList(
            NearestQuantizer(stage, seed + _SEED_STEP * index)
            for index, stage in enumerate([first, *further])
        )
        with torch.no_grad():
            for stage in self._stages()[1:]:  # adds nothing until it has seen latents
                stage.codebook.zero_()
                stage.sums.zero_()
        self.sizes = config.stages

    def codebooks(self) -> tuple[Tensor, ...]:
        """The code vectors of each stage, float32 `[K, d]`."""
        return tuple(stage.normalized_codebook() for stage in self._stages())

    @torch.no_grad()
    def start_from(self, books: Sequence[Tensor]) -> list[str]:
        """Takes the codebooks of a trained model, the first one in any case.

        Further stages begin anew where they have another shape. See `Quantizer`.
        """
        lines = []
        for index, stage in enumerate(self._stages()):
            if index == 0 or (index < len(books) and books[index].shape == stage.codebook.shape):
                stage.start_from(books[index:])
            else:
                lines.append(f"stage {index + 1} of the quantizer begins anew")
        return lines

    def project(self, latents: Tensor) -> Tensor:
        """As the first stage does; further ones compare what is left over."""
        return self._stages()[0].project(latents)

    def assignment(self) -> nn.Module:
        """The nearest code of each stage; see `Quantizer`."""
        return NearestAssignment(self.codebooks(), self.config.distance)

    def forward(self, latents: Tensor, step: int = 0) -> Quantized:
        """Quantizes a batch; see the class and `Quantizer`.

        In training mode a share `stage_dropout` of the images is decoded from a random prefix
        of the stages. Their codes are complete all the same, and all stages learn from them.
        """
        with torch.autocast(latents.device.type, enabled=False):
            return self._quantize(latents.float(), step)

    def _quantize(self, latents: Tensor, step: int) -> Quantized:
        latents = self.project(latents)
        kept = self._kept_stages(len(latents), step).to(latents.device)
        total = torch.zeros_like(latents)
        terms = {"commitment": latents.new_zeros(())}
        codes, left = [], latents
        for index, stage in enumerate(self._stages()):
            stage.frozen = self.frozen
            part = stage(left, step)
            chosen = part.vectors.detach()
            mask = (kept > index).to(latents.dtype)[:, None, None, None]
            total = total + mask * chosen
            # An image that is decoded without a stage doesn't commit to it.
            commitment = (mask * (left - chosen).square()).mean()
            terms["commitment"] = terms["commitment"] + commitment
            if "codebook" in part.terms:
                terms["codebook"] = terms.get("codebook", 0.0) + part.terms["codebook"]
            codes.append(part.codes)
            left = left - chosen
        vectors = straight_through(latents, total)
        return Quantized(vectors, torch.stack(codes, dim=1), terms)

    def _kept_stages(self, images: int, step: int) -> Tensor:
        """How many stages each image is decoded from: int64 `[n]`, all outside of training."""
        stages = len(self.stages)
        if not self.training or self.config.stage_dropout == 0:
            return torch.full((images,), stages)
        # Of the whole batch, so that several processes do what one would.
        generator = torch.Generator().manual_seed(1_000_003 * (self.seed + _SEED_STEP) + step)
        dropped = torch.rand(images * processes(), generator=generator) < self.config.stage_dropout
        prefix = torch.randint(1, stages, (images * processes(),), generator=generator)
        kept = torch.where(dropped, prefix, stages)
        return kept[rank() * images : (rank() + 1) * images]

    def _stages(self) -> list[NearestQuantizer]:
        return [cast("NearestQuantizer", stage) for stage in self.stages]
