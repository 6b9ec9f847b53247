"""Lookup-free quantization: the signs of the latent's dimensions are the bits of the code.

Yu et al. 2023, "Language Model Beats Diffusion: Tokenizer is Key to Visual Generation"
(arXiv:2310.05737, section 3.1). The code vector is sign(z) in {−1, 1}^d, the code Σ 2^i [z_i > 0].
Loss: β ‖z − sg(sign(z))‖² and the entropy penalty (equation 5), here by the bits
(`training.tokenizer.quantizers.entropy`).
"""

from __future__ import annotations

from torch import Tensor

from training.tokenizer.config import BinaryConfig
from training.tokenizer.quantizers.binary import BinaryQuantizer


class LFQQuantizer(BinaryQuantizer):
    """Signs of the latents as they are; see the module."""

    def __init__(self, config: BinaryConfig) -> None:
        super().__init__(config, value=1.0)

    def project(self, latents: Tensor) -> Tensor:
        """Latents are compared as they are."""
        return latents.float()
