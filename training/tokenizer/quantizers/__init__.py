"""Quantizers: how latents become codes, and codes the vectors that a decoder sees."""

from training.tokenizer.quantizers.nearest import NearestQuantizer, nearest_codes
from training.tokenizer.quantizers.protocol import Quantized, Quantizer
from training.tokenizer.quantizers.residual import ResidualQuantizer

__all__ = ["NearestQuantizer", "Quantized", "Quantizer", "ResidualQuantizer", "nearest_codes"]
