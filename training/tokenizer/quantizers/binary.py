"""What quantizers have in common whose codes are the signs of the latent's dimensions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.tokenizer.config import BinaryConfig
from training.tokenizer.quantizers.entropy import entropy_penalty
from training.tokenizer.quantizers.protocol import (
    Quantized,
    Quantizer,
    codes_of_choices,
    straight_through,
)


class BinaryQuantizer(Quantizer):
    """A bit for each dimension: 1 where the latent is positive.

    `project` is left to the members, and must keep the signs.

    Args:
        config: of the quantizer.
        value: v > 0; a code vector has v where the bit is 1, and −v where it is 0.
    """

    values: Tensor

    def __init__(self, config: BinaryConfig, value: float) -> None:
        super().__init__()
        self.config, self.sizes, self.factors = config, config.stages, config.factors
        self._value = value
        # The configuration has it: no part of a checkpoint.
        values = torch.tensor([[-value], [value]]).repeat(config.bits, 1)
        self.register_buffer("values", values, persistent=False)

    def codebooks(self) -> tuple[Tensor, ...]:
        """−v and v for each bit, float32 `[2d, 1]`."""
        return (self.values,)

    def assignment(self) -> nn.Module:
        """The signs; see `Quantizer`."""
        return _Signs(self.factors)

    def forward(self, latents: Tensor, step: int = 0) -> Quantized:
        """Quantizes a batch; nothing learns and nothing is random. See `Quantizer`."""
        del step
        if latents.shape[1] != self.config.bits:
            raise ValueError(
                f"latents have {latents.shape[1]} channels, quantizer.bits is {self.config.bits}"
            )
        with torch.autocast(latents.device.type, enabled=False):
            points = self.project(latents)
            vectors = torch.where(points.detach() > 0, self._value, -self._value)
            # ‖p − v‖² and ‖p + v‖² differ by 4 v p.
            logits = 4 * self._value * self.config.inverse_temperature * points
            flat = logits.permute(0, 2, 3, 1).reshape(-1, self.config.bits)
            terms = {
                "commitment": F.mse_loss(points, vectors),
                "entropy": entropy_penalty(flat, self.config.diversity),
            }
            codes = _Signs(self.factors)(points.detach())
            return Quantized(straight_through(points, vectors), codes, terms)


class _Signs(nn.Module):
    """Latents float32 `[n, d, h, w]` → codes int64 `[n, h, w]`."""

    def __init__(self, factors: tuple[int, ...]) -> None:
        super().__init__()
        self.factors = factors

    def forward(self, latents: Tensor) -> Tensor:
        return codes_of_choices((latents > 0).long().permute(0, 2, 3, 1), self.factors)
