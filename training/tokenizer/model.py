"""Encoder, quantizer and decoder in one forward."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bundle import code_space_digest
from training.tokenizer.config import MAIN_DECODER, Config
from training.tokenizer.networks import decoder_of, encoder_of
from training.tokenizer.quantizers import Quantized, Quantizer, quantizer_of


@dataclass(frozen=True)
class Output:
    """A batch after encoder, quantizer and decoder.

    Attributes:
        reconstruction: float `[n, 3, h, w]`, about [−1, 1], not clipped.
        quantized: codes, code vectors and the terms of the quantizer.
    """

    reconstruction: Tensor
    quantized: Quantized


class Tokenizer(nn.Module):
    """A VQ-VAE (van den Oord et al. 2017, arXiv:1711.00937).

    Args:
        config: of the run.
        encoder: one's own, pixels `[n, 3, h, w]` in [−1, 1] → latents `[n, d, h/s, w/s]`; None
            makes the configuration's.
        quantizer: one's own; None makes the configuration's.
        decoder: one's own, vectors `[n, d, h/s, w/s]` → pixels `[n, 3, h, w]`; None makes the
            configuration's.

    Attributes:
        decoder: the nearest in squared error.
        decoders: others for the same codes, by name; those that the configuration's phases train.
    """

    quantizer: Quantizer

    def __init__(
        self,
        config: Config,
        *,
        encoder: nn.Module | None = None,
        quantizer: Quantizer | None = None,
        decoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        network, width, channels = config.network, config.quantizer.width, config.data.channels
        self.encoder = encoder_of(network, width, channels) if encoder is None else encoder
        self.quantizer = (
            quantizer_of(config.quantizer, config.run.seed) if quantizer is None else quantizer
        )
        self.decoder = decoder_of(network, width, channels) if decoder is None else decoder
        self.decoders = nn.ModuleDict(
            {name: decoder_of(network, width, channels) for name in config.other_decoders}
        )

    def forward(self, pixels: Tensor, step: int = 0, decoder: str = MAIN_DECODER) -> Output:
        """Reconstructs a batch.

        Args:
            pixels: float `[n, 3, h, w]` in [−1, 1]; h and w multiples of the stride.
            step: of the training run, for what is random in the quantizer.
            decoder: name of the decoder to do it with.
        """
        quantized: Quantized = self.quantizer(self.encoder(pixels), step)
        return Output(self.decoder_named(decoder)(quantized.vectors), quantized)

    def decoder_named(self, name: str) -> nn.Module:
        """The main decoder, or another one by its name."""
        return self.decoder if name == MAIN_DECODER else self.decoders[name]

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """Codes of images: uint8 (or uint16) `[n, h, w, c]` → int64 `[n, h/s, w/s]`.

        With several stages `[n, stages, h/s, w/s]`.
        """
        codes: Tensor = self.quantizer(
            self.encoder(to_float(pixels, self.config.data.sample_maximum))
        ).codes
        return codes

    @torch.no_grad()
    def decode(self, codes: Tensor, decoder: str = MAIN_DECODER) -> Tensor:
        """Images of codes: int64 `[n, h/s, w/s]` → uint8 (or uint16) `[n, h, w, c]`.

        With several stages `[n, s, h/s, w/s]`, of all of them or the first few.
        """
        made = self.decoder_named(decoder)(self.quantizer.vectors_of(codes))
        return to_samples(made, self.config.data.sample_maximum)


def to_float(pixels: Tensor, maximum: int = 255) -> Tensor:
    """Samples of 0…`maximum` `[n, h, w, c]` → float32 `[n, c, h, w]` in [−1, 1]."""
    return (pixels.float() / (maximum / 2) - 1).permute(0, 3, 1, 2)


def to_samples(pixels: Tensor, maximum: int = 255) -> Tensor:
    """Float `[n, c, h, w]` in [−1, 1] → `[n, h, w, c]`, clipped and rounded.

    uint8, or uint16 where `maximum` is above 255.
    """
    dtype = torch.uint8 if maximum <= 255 else torch.uint16
    samples = ((pixels.float() + 1) * (maximum / 2)).clamp(0, maximum).round()
    return samples.to(dtype).permute(0, 2, 3, 1)


def code_space_of(model: Tokenizer) -> str:
    """The digest of a model's codebooks and main decoder (`bundle/FORMAT.md`)."""
    first, *further = model.quantizer.codebooks()
    weights = {"codebook": first}
    weights |= {f"codebook.{stage}": book for stage, book in enumerate(further, 2)}
    if model.quantizer.factors:
        weights["codebook.factors"] = torch.tensor(model.quantizer.factors)
    weights |= {f"decoder.{name}": value for name, value in model.decoder.state_dict().items()}
    arrays = {k: v.detach().contiguous().numpy().astype("<f4") for k, v in weights.items()}
    return code_space_digest((k, a.shape, a.tobytes()) for k, a in arrays.items())
