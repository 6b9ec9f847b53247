"""Quantizers: how latents become codes, and codes the vectors that a decoder sees."""

from __future__ import annotations

from training.tokenizer.config import (
    BinaryConfig,
    FSQConfig,
    NearestConfig,
    NoQuantizerConfig,
    ProductConfig,
    QuantizerConfig,
    SimVQConfig,
)
from training.tokenizer.quantizers.bsq import BSQQuantizer
from training.tokenizer.quantizers.fsq import FSQQuantizer
from training.tokenizer.quantizers.lfq import LFQQuantizer
from training.tokenizer.quantizers.nearest import NearestQuantizer, nearest_codes
from training.tokenizer.quantizers.none import NoQuantizer
from training.tokenizer.quantizers.product import ProductQuantizer
from training.tokenizer.quantizers.protocol import Quantized, Quantizer
from training.tokenizer.quantizers.residual import ResidualQuantizer
from training.tokenizer.quantizers.simvq import SimVQQuantizer

__all__ = [
    "BSQQuantizer",
    "FSQQuantizer",
    "LFQQuantizer",
    "NearestQuantizer",
    "NoQuantizer",
    "ProductQuantizer",
    "Quantized",
    "Quantizer",
    "ResidualQuantizer",
    "SimVQQuantizer",
    "nearest_codes",
    "quantizer_of",
]


def quantizer_of(config: QuantizerConfig, seed: int) -> Quantizer:
    """The quantizer that settings describe.

    Args:
        config: the settings.
        seed: of what is random in training.
    """
    match config:
        case NearestConfig(residual_sizes=()):
            return NearestQuantizer(config, seed)
        case NearestConfig():
            return ResidualQuantizer(config, seed)
        case SimVQConfig():
            return SimVQQuantizer(config)
        case FSQConfig():
            return FSQQuantizer(config)
        case BinaryConfig(kind="lfq"):
            return LFQQuantizer(config)
        case BinaryConfig():
            return BSQQuantizer(config)
        case ProductConfig():
            return ProductQuantizer(config, seed)
        case NoQuantizerConfig():
            return NoQuantizer(config)
