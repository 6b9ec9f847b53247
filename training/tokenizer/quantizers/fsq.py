"""Finite scalar quantization: each dimension of the latent is rounded to one of a few levels.

Mentzer et al. 2023, "Finite Scalar Quantization: VQ-VAE Made Simple" (arXiv:2309.15505, section
3.1). There is no codebook to learn and no term of the loss: codes can't collapse onto a few
entries of a table, and nothing has to pull latents towards codes. With L levels of a dimension

    f(z) = tanh(z + shift) · (L − 1)(1 + ε)/2 − offset,

where the offset is ½ for an even L and 0 for an odd one, and the shift makes f(0) = 0. The code
vector is round(f(z)) / ⌊L/2⌋, between −1 and 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.tokenizer.config import FSQConfig
from training.tokenizer.quantizers.protocol import (
    Quantized,
    Quantizer,
    codes_of_choices,
    straight_through,
)

# Without it the outermost levels could be reached by infinite latents alone.
_EPSILON = 1e-3


class FSQQuantizer(Quantizer):
    """Rounds each dimension; see the module.

    Buffers, which are no part of a checkpoint since the configuration has them:
        reach: float32 `[d]`, (L − 1)(1 + ε)/2.
        offset: float32 `[d]`.
        shift: float32 `[d]`.
        middle: float32 `[d]`, ⌊L/2⌋: number of the level zero.
    """

    reach: Tensor
    offset: Tensor
    shift: Tensor
    middle: Tensor

    def __init__(self, config: FSQConfig) -> None:
        super().__init__()
        self.config, self.sizes, self.factors = config, config.stages, config.factors
        levels = torch.tensor(config.levels, dtype=torch.float64)
        half = (levels - 1) * (1 + _EPSILON) / 2
        offset = torch.where(levels % 2 == 0, 0.5, 0.0).double()
        for name, value in (
            ("reach", half),
            ("offset", offset),
            ("shift", torch.atanh(offset / half)),
            ("middle", levels // 2),
        ):
            self.register_buffer(name, value.float(), persistent=False)

    def codebooks(self) -> tuple[Tensor, ...]:
        """The levels of all dimensions below each other, float32 `[ΣL, 1]`."""
        levels = [
            (torch.arange(level, device=self.middle.device) - level // 2) / (level // 2)
            for level in self.factors
        ]
        return (torch.cat(levels)[:, None],)

    def project(self, latents: Tensor) -> Tensor:
        """f(z) / ⌊L/2⌋, float32 `[n, d, h, w]`."""
        return self._bounded(latents.float()) / self._column(self.middle)

    def assignment(self) -> nn.Module:
        """The rounding; see `Quantizer`."""
        return _Rounding(self)

    def forward(self, latents: Tensor, step: int = 0) -> Quantized:
        """Quantizes a batch; nothing learns and nothing is random. See `Quantizer`."""
        del step
        with torch.autocast(latents.device.type, enabled=False):
            bounded = self._bounded(latents.float())
            rounded = bounded.detach().round()
            vectors = straight_through(bounded, rounded) / self._column(self.middle)
            return Quantized(vectors, self._codes(rounded))

    def _bounded(self, latents: Tensor) -> Tensor:
        if latents.shape[1] != len(self.factors):
            raise ValueError(
                f"latents have {latents.shape[1]} channels, quantizer.levels {len(self.factors)}"
            )
        reach, offset, shift = (self._column(v) for v in (self.reach, self.offset, self.shift))
        return torch.tanh(latents + shift) * reach - offset

    def _codes(self, rounded: Tensor) -> Tensor:
        numbers = (rounded + self._column(self.middle)).long()
        return codes_of_choices(numbers.permute(0, 2, 3, 1), self.factors)

    @staticmethod
    def _column(values: Tensor) -> Tensor:
        return values.reshape(1, -1, 1, 1)


class _Rounding(nn.Module):
    """Latents float32 `[n, d, h, w]` → codes int64 `[n, h, w]`."""

    def __init__(self, quantizer: FSQQuantizer) -> None:
        super().__init__()
        self.quantizer = quantizer

    def forward(self, latents: Tensor) -> Tensor:
        return self.quantizer(latents).codes  # type: ignore[no-any-return]
