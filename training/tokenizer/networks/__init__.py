"""Encoders and decoders: from pixels to latents, and from code vectors to pixels.

Feature maps are `[n, c, h, w]` float.
"""

from __future__ import annotations

from torch import nn

from training.tokenizer.config import NetworkConfig, VQGANConfig
from training.tokenizer.networks import convolutional
from training.tokenizer.networks.vqgan import VQGANDecoder, VQGANEncoder


def encoder_of(config: NetworkConfig, latent_width: int, channels: int = 3) -> nn.Module:
    """The encoder that settings describe: `[n, c, h, w]` in [−1, 1] → `[n, d, h/s, w/s]`."""
    if isinstance(config, VQGANConfig):
        return VQGANEncoder(config, latent_width, channels)
    return convolutional.Encoder(config, latent_width, channels)


def decoder_of(config: NetworkConfig, latent_width: int, channels: int = 3) -> nn.Module:
    """The decoder: `[n, d, h/s, w/s]` → `[n, c, h, w]`, about [−1, 1], not clipped."""
    if isinstance(config, VQGANConfig):
        return VQGANDecoder(config, latent_width, channels)
    return convolutional.Decoder(config, latent_width, channels)
