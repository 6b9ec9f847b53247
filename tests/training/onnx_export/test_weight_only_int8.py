"""Weight-only int8: what rounding does to a weight."""

import torch

from training.onnx_export.weight_only_int8 import rounded


def test_rounded_weights_stay_as_they_are_when_rounded_again():
    """At most 255 values a row; rounding is a projection; small tensors are left alone."""
    weight = torch.randn(64, 32, generator=torch.Generator().manual_seed(0))
    once = rounded(weight)
    assert (once - weight).abs().max() <= weight.abs().max() / 253
    assert torch.allclose(rounded(once), once, rtol=1e-6, atol=0)
    assert all(len(row.unique()) <= 255 for row in once)
    assert torch.equal(rounded(weight.flatten()), weight.flatten())
    assert torch.equal(rounded(weight[:2]), weight[:2])
