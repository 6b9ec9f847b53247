"""Encoder, quantizer and decoder in one forward."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bundle import code_space_digest
from training.tokenizer.config import Config
from training.tokenizer.networks import Decoder, Encoder
from training.tokenizer.quantizer import Quantized, Quantizer


@dataclass(frozen=True)
class Output:
    """A batch after encoder, quantizer and decoder.

    Attributes:
        reconstruction: float `[n, 3, h, w]`, about [−1, 1], not clipped.
        quantized: codes, code vectors and the two terms of the quantizer.
    """

    reconstruction: Tensor
    quantized: Quantized


class Tokenizer(nn.Module):
    """A VQ-VAE (van den Oord et al. 2017, arXiv:1711.00937)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        width = config.quantizer.width
        self.encoder = Encoder(config.network, width)
        self.quantizer = Quantizer(config.quantizer, config.run.seed)
        self.decoder = Decoder(config.network, width)

    def forward(self, pixels: Tensor, step: int = 0) -> Output:
        """Reconstructs a batch.

        Args:
            pixels: float `[n, 3, h, w]` in [−1, 1]; h and w multiples of the stride.
            step: of the training run, for what is random in the quantizer.
        """
        quantized = self.quantizer(self.encoder(pixels), step)
        return Output(self.decoder(quantized.vectors), quantized)

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """Codes of images: uint8 `[n, h, w, 3]` RGB → int64 `[n, h/s, w/s]`."""
        codes: Tensor = self.quantizer(self.encoder(to_float(pixels))).codes
        return codes

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Images of codes: int64 `[n, h/s, w/s]` → uint8 `[n, h, w, 3]` RGB."""
        return to_uint8(self.decoder(self.quantizer.vectors_of(codes)))


def to_float(pixels: Tensor) -> Tensor:
    """uint8 `[n, h, w, 3]` → float32 `[n, 3, h, w]` in [−1, 1]."""
    return (pixels.float() / 127.5 - 1).permute(0, 3, 1, 2)


def to_uint8(pixels: Tensor) -> Tensor:
    """Float `[n, 3, h, w]` in [−1, 1] → uint8 `[n, h, w, 3]`, clipped and rounded."""
    return ((pixels.float() + 1) * 127.5).clamp(0, 255).round().to(torch.uint8).permute(0, 2, 3, 1)


def code_space_of(model: Tokenizer) -> str:
    """The digest of a model's codebook and decoder (`bundle/FORMAT.md`)."""
    weights = {"codebook": model.quantizer.normalized_codebook()}
    weights |= {f"decoder.{name}": value for name, value in model.decoder.state_dict().items()}
    arrays = {k: v.detach().contiguous().numpy().astype("<f4") for k, v in weights.items()}
    return code_space_digest((k, a.shape, a.tobytes()) for k, a in arrays.items())
