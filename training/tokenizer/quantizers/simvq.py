"""SimVQ: a frozen random codebook, seen through a linear layer that is learnt.

Zhu et al. 2024, "Addressing Representation Collapse in Vector Quantized Models with One Linear
Layer" (arXiv:2411.02038). With a codebook that is learnt directly, a step moves only the code
vectors that were chosen, and those that fall behind are never chosen again. Here a code vector is
a row of C·W with C frozen: a step of W moves all of them (section 4 of the paper). Loss:
‖sg(z) − e‖² + β ‖z − sg(e)‖², with the weights of `Losses`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.tokenizer.config import SimVQConfig
from training.tokenizer.quantizers.assignment import NearestAssignment
from training.tokenizer.quantizers.nearest import nearest_codes
from training.tokenizer.quantizers.protocol import Quantized, Quantizer, straight_through


class SimVQQuantizer(Quantizer):
    """The nearest row of C·W (Euclidean distance).

    Buffers and parameters:
        frozen_codebook: float32 `[K, d]`, C: normal with variance 1/d, never changed.
        layer: float32 `[d, d]`, W; a rotation at first.
    """

    frozen_codebook: Tensor

    def __init__(self, config: SimVQConfig) -> None:
        super().__init__()
        self.config, self.sizes = config, config.stages
        book = torch.randn(config.size, config.width) * config.width**-0.5
        self.register_buffer("frozen_codebook", book)
        self.layer = nn.Parameter(torch.empty(config.width, config.width))
        nn.init.orthogonal_(self.layer)

    def codebooks(self) -> tuple[Tensor, ...]:
        """C·W, float32 `[K, d]`."""
        return (self.frozen_codebook @ self.layer,)

    @torch.no_grad()
    def start_from(self, books: Sequence[Tensor]) -> list[str]:
        """Takes C·W of a trained model as C, with a W that changes nothing. See `Quantizer`."""
        if books[0].shape != self.frozen_codebook.shape:
            raise ValueError(
                f"a codebook of {list(books[0].shape)} numbers can't start one of "
                f"{list(self.frozen_codebook.shape)}"
            )
        self.frozen_codebook.copy_(books[0])
        nn.init.eye_(self.layer)
        return []

    def project(self, latents: Tensor) -> Tensor:
        """Latents are compared as they are."""
        return latents.float()

    def assignment(self) -> nn.Module:
        """The nearest row; see `Quantizer`."""
        return NearestAssignment(self.codebooks(), "euclidean")

    def forward(self, latents: Tensor, step: int = 0) -> Quantized:
        """Quantizes a batch; W learns from the term `codebook`. See `Quantizer`."""
        del step  # nothing is random
        with torch.autocast(latents.device.type, enabled=False):
            n, d, h, w = latents.shape
            if d != self.config.width:
                raise ValueError(f"latents have {d} channels, the codebook {self.config.width}")
            flat = latents.float().permute(0, 2, 3, 1).reshape(-1, d)
            (codebook,) = self.codebooks()
            codes = nearest_codes(flat.detach(), codebook.detach(), "euclidean")
            chosen = F.embedding(codes, codebook)
            terms = {
                "commitment": F.mse_loss(flat, chosen.detach()),
                "codebook": F.mse_loss(chosen, flat.detach()),
            }
            vectors = straight_through(flat, chosen).reshape(n, h, w, d).permute(0, 3, 1, 2)
            return Quantized(vectors, codes.reshape(n, h, w), terms)
