"""Quantizers: how latents become codes, and codes the vectors that a decoder sees."""
