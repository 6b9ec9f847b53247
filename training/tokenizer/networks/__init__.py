"""Encoders and decoders: from pixels to latents, and from code vectors to pixels."""

from training.tokenizer.networks.convolutional import (
    Decoder,
    Encoder,
    ResidualBlock,
    decoder_reach,
    encoder_reach,
)

__all__ = ["Decoder", "Encoder", "ResidualBlock", "decoder_reach", "encoder_reach"]
