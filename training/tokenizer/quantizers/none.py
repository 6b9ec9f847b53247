"""No quantizer: a plain autoencoder, to compare with what quantizing costs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.tokenizer.config import NoQuantizerConfig
from training.tokenizer.quantizers.protocol import Quantized, Quantizer


class NoQuantizer(Quantizer):
    """Passes latents through; its codes are all 0 and mean nothing."""

    sizes: tuple[int, ...] = ()

    def __init__(self, config: NoQuantizerConfig) -> None:
        super().__init__()
        self.config = config

    def codebooks(self) -> tuple[Tensor, ...]:
        """There are none."""
        return ()

    def project(self, latents: Tensor) -> Tensor:
        """Latents as they are."""
        return latents.float()

    def assignment(self) -> nn.Module:
        """There is none.

        Raises:
            ValueError: always.
        """
        raise ValueError("a plain autoencoder (quantizer.kind = none) has no codes")

    def vectors_of(self, codes: Tensor) -> Tensor:
        """Codes have no vectors.

        Raises:
            ValueError: always.
        """
        del codes
        raise ValueError("a plain autoencoder (quantizer.kind = none) has no codes")

    def forward(self, latents: Tensor, step: int = 0) -> Quantized:
        """The latents, float32. See `Quantizer`."""
        del step
        n, _, h, w = latents.shape
        codes = torch.zeros(n, h, w, dtype=torch.int64, device=latents.device)
        return Quantized(latents.float(), codes)
