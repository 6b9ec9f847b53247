"""What becomes of flat colours, text and gradients."""

import math
from pathlib import Path

import numpy as np
import pytest

from bundle import open_bundle
from training.evaluation.synthetic_fidelity import synthetic_fidelity
from training.onnx_export.codec import BundleCodec

MODEL = Path(__file__).parents[3] / "models" / "photo-f8"


def test_identity_is_perfect():
    """What changes nothing has no error and no ripple."""
    found = synthetic_fidelity(lambda pixels: pixels)
    assert found.flat_error_95 == found.flat_ripple_95 == 0
    assert found.pure["green"] == (0, 255, 0)
    assert min(found.text_psnr, found.gradient_psnr, found.gradient_psnr_worst) > 100


def test_error_is_that_of_the_worst_channel():
    """A shift of one channel is the error, whatever the others do; it is no ripple."""

    def shifted(pixels):
        made = pixels.astype(int)
        made[..., 0] += 2
        made[..., 1] += np.where(made[..., 1] < 128, 7, -7)
        return made.clip(0, 255).astype(np.uint8)

    found = synthetic_fidelity(shifted)
    assert found.flat_error_median == found.flat_error_95 == 7
    assert found.flat_ripple_95 == 0
    assert found.pure["black"] == (2, 7, 0)


def test_ripple_is_the_standard_deviation():
    """Stripes of ± 10 around the colour are a ripple of 10 and no error."""

    def striped(pixels):
        stripes = np.where(np.arange(pixels.shape[2]) % 2, 10, -10)[:, None]
        base = pixels.astype(int).clip(10, 245)
        return (base + stripes).astype(np.uint8)

    found = synthetic_fidelity(striped)
    assert found.flat_ripple_median == pytest.approx(10)
    assert found.flat_error_median == 0


def test_psnr_of_a_known_error():
    """One level off everywhere is 20·log10(255) dB, in text as in gradients."""
    found = synthetic_fidelity(lambda p: np.where(p < 128, p + 1, p - 1).astype(np.uint8))
    expected = 20 * math.log10(255)
    assert found.text_psnr == pytest.approx(expected)
    assert found.gradient_psnr == found.gradient_psnr_worst == pytest.approx(expected)


def test_a_bundle_through_its_codec():
    """A bundle's figures come out finite and the same twice."""
    codec = BundleCodec(open_bundle(MODEL), threads=1)
    found = synthetic_fidelity(lambda pixels: codec.decode(codec.encode(pixels)))
    assert 0 < found.flat_error_median < found.flat_error_95 < 128
    assert 0 < found.flat_ripple_median < found.flat_ripple_95
    assert 10 < found.text_psnr < found.gradient_psnr
    assert found.gradient_psnr_worst <= found.gradient_psnr
