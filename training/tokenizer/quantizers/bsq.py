"""Binary spherical quantization: the signs of the latent's dimensions, on the unit sphere.

Zhao et al. 2024, "Image and Video Tokenization with Binary Spherical Quantization"
(arXiv:2406.07548, section 3.2). u = z/|z| is replaced by sign(u)/√d, the nearest corner of the
cube that is inscribed in the sphere, so that the error of quantization is bounded. Loss:
β ‖u − sg(e)‖² and the entropy penalty (equations 8 to 10).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from training.tokenizer.config import BinaryConfig
from training.tokenizer.quantizers.binary import BinaryQuantizer


class BSQQuantizer(BinaryQuantizer):
    """Signs of latents of unit length; see the module."""

    def __init__(self, config: BinaryConfig) -> None:
        super().__init__(config, value=config.bits**-0.5)

    def project(self, latents: Tensor) -> Tensor:
        """z/|z|, float32 `[n, d, h, w]`."""
        return F.normalize(latents.float(), dim=1)
