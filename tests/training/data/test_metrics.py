"""Figures of merit against scikit-image, against values computed by hand, and at their limits."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from training.data.dataset import read_image
from training.data.metrics import CodeCounter, ms_ssim, psnr, ssim


def batch(*pictures):
    """uint8 `[h, w, 3]` each → float32 `[n, 3, h, w]` in [0, 1]."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255


@pytest.fixture(scope="module")
def otter(photos):
    return read_image(photos / "otter.webp")


@pytest.fixture(scope="module")
def noisy(otter):
    noise = np.random.default_rng(0).normal(0, 20, otter.shape)
    return np.clip(otter + noise, 0, 255).round().astype(np.uint8)


def reference_ssim(made, wanted):
    return structural_similarity(
        made, wanted, channel_axis=2, data_range=255, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False,
    )  # fmt: skip


def test_psnr_of_a_constant_error_is_known_by_hand():
    """An error of 0.1 everywhere is an MSE of 0.01, which is 20 dB."""
    wanted = torch.full((1, 3, 4, 4), 0.5)
    assert psnr(wanted + 0.1, wanted).item() == pytest.approx(20, abs=1e-4)


def test_psnr_of_one_wrong_pixel_is_known_by_hand():
    """One channel of one of four pixels off by 1: MSE 1/12, 10.79 dB."""
    made, wanted = torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)
    made[0, 1, 0, 1] = 1
    assert psnr(made, wanted).item() == pytest.approx(10 * math.log10(12), abs=1e-6)


def test_psnr_equals_scikit_image(otter, noisy):
    """On a photograph with noise."""
    expected = peak_signal_noise_ratio(otter, noisy)
    assert psnr(batch(noisy), batch(otter)).item() == pytest.approx(expected, abs=1e-4)


def test_psnr_of_equal_images_is_finite(otter):
    """A perfect copy has 120 dB, not infinity, so that means and JSON stay finite."""
    assert psnr(batch(otter), batch(otter)).item() == pytest.approx(120)


def test_ssim_equals_scikit_image(otter, noisy):
    """With the settings of the paper (Gaussian window, σ 1.5, population variance)."""
    made = ssim(batch(noisy), batch(otter)).item()
    assert made == pytest.approx(reference_ssim(noisy, otter), abs=2e-4)


def test_ssim_of_equal_images_is_one(otter):
    """Every kind of similarity of an image with itself is 1."""
    assert ssim(batch(otter), batch(otter)).item() == pytest.approx(1, abs=1e-6)
    assert ms_ssim(batch(otter), batch(otter)).item() == pytest.approx(1, abs=1e-6)


def test_ssim_is_symmetric(otter, noisy):
    """It does not matter which of the two is the original."""
    one, other = ssim(batch(noisy), batch(otter)), ssim(batch(otter), batch(noisy))
    torch.testing.assert_close(one, other)


def test_ssim_of_flat_grey_levels_is_known_by_hand():
    """Without any structure what is left is (2ab + C1) / (a² + b² + C1)."""
    a, b = 0.2, 0.8
    expected = (2 * a * b + 1e-4) / (a * a + b * b + 1e-4)
    made = ssim(torch.full((1, 3, 16, 16), a), torch.full((1, 3, 16, 16), b))
    assert made.item() == pytest.approx(expected, abs=1e-3)


def test_ms_ssim_of_one_scale_is_ssim(otter, noisy):
    """One scale has the exponent 1."""
    one = ms_ssim(batch(noisy), batch(otter), scales=1)
    torch.testing.assert_close(one, ssim(batch(noisy), batch(otter)), atol=1e-6, rtol=0)


def test_ms_ssim_equals_the_product_of_scales_from_scikit_image(otter, noisy):
    """Contrast and structure at the finer scale, all of SSIM at the coarser, with exponents."""
    a, b = batch(noisy), batch(otter)
    weights = np.array([0.0448, 0.2856])
    weights /= weights.sum()

    def halved(x):
        return torch.nn.functional.avg_pool2d(x, 2)[0].permute(1, 2, 0).numpy()

    # Contrast times structure is SSIM of images whose local means agree: scikit-image gives
    # the full map, so the luminance factor is divided out of it.
    fine = _contrast_structure(noisy / 255.0, otter / 255.0)
    coarse = structural_similarity(
        halved(a), halved(b), channel_axis=2, data_range=1, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False,
    )  # fmt: skip
    expected = fine ** weights[0] * coarse ** weights[1]
    assert ms_ssim(a, b, scales=2).item() == pytest.approx(expected, abs=1e-3)


def _contrast_structure(made, wanted):
    def blur(x):
        return gaussian_filter(x, (1.5, 1.5, 0), truncate=3.5)[5:-5, 5:-5]

    mean_a, mean_b = blur(made), blur(wanted)
    variance_a = blur(made * made) - mean_a**2
    variance_b = blur(wanted * wanted) - mean_b**2
    covariance = blur(made * wanted) - mean_a * mean_b
    return ((2 * covariance + 9e-4) / (variance_a + variance_b + 9e-4)).mean()


def test_ms_ssim_ranks_noise_by_strength(otter):
    """More noise, less similarity."""
    random = np.random.default_rng(0)
    values = [
        ms_ssim(batch(otter) + strength * torch.from_numpy(random.normal(size=otter.shape))
                .permute(2, 0, 1)[None].float(), batch(otter)).item()
        for strength in (0.02, 0.1, 0.4)
    ]  # fmt: skip
    assert values == sorted(values, reverse=True)
    assert 0 < values[-1] < values[0] < 1


def test_ms_ssim_of_an_opposite_image_is_a_number():
    """Anticorrelated structure would be a negative base of a power; it counts as none."""
    wanted = torch.rand(1, 3, 192, 192, generator=torch.Generator().manual_seed(0))
    value = ms_ssim(1 - wanted, wanted)
    assert torch.isfinite(value).all()
    assert value.item() < 0.05


def test_figures_of_a_batch_are_those_of_its_images(otter, noisy):
    """One value an image, whatever else is in the batch."""
    made, wanted = batch(noisy, otter), batch(otter, otter)
    for figure in (psnr, ssim, ms_ssim):
        together = figure(made, wanted)
        assert together.shape == (2,)
        alone = figure(made[:1], wanted[:1])
        torch.testing.assert_close(together[:1], alone, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(("figure", "side"), [(ssim, 10), (ms_ssim, 175)])
def test_too_small_an_image_is_refused(figure, side):
    """SSIM needs 11 pixels a side, MS-SSIM 11 at the coarsest of five scales, which is 176."""
    small, enough = torch.rand(1, 3, side, 200), torch.rand(1, 3, side + 1, 200)
    with pytest.raises(ValueError, match="11×11"):
        figure(small, small)
    assert figure(enough, enough).item() == pytest.approx(1, abs=1e-6)


def test_code_usage_of_equally_used_codes():
    """Four of eight codes, equally often: half used, 2 bits, perplexity 4."""
    counter = CodeCounter(8)
    counter.add(torch.tensor([[0, 1], [2, 3]]))
    counter.add(torch.tensor([3, 2, 1, 0]))
    usage = counter.usage()
    assert (usage.used, usage.entropy, usage.perplexity) == (0.5, 2.0, 4.0)


def test_code_usage_is_of_the_whole_set_and_not_a_mean_over_batches():
    """Two batches of one code each have perplexity 1; the set of both has 2."""
    counter = CodeCounter(2)
    counter.add(torch.zeros(5, dtype=torch.int64))
    counter.add(torch.ones(5, dtype=torch.int64))
    assert counter.usage().perplexity == pytest.approx(2)


def test_code_usage_of_nothing_is_zero():
    """No division by zero before the first code."""
    usage = CodeCounter(4).usage()
    assert (usage.used, usage.entropy, usage.perplexity) == (0, 0, 0)
