"""Calibration: its error counted by hand, and the temperature that lowers it."""

import numpy as np
import pytest

from training.recognition.calibration import (
    calibration_error,
    fit_temperature,
    negative_log_likelihood,
    probabilities,
    reliability,
)


def test_calibration_error_of_numbers_made_by_hand():
    """Four answers at 0.9, three right; two at 0.6, one right: (4·0.15 + 2·0.1) / 6."""
    shares = np.array([[0.9, 0.1]] * 4 + [[0.4, 0.6]] * 2)
    labels = np.array([0, 0, 0, 1, 1, 0])
    bins = reliability(shares, labels)
    assert calibration_error(bins) == pytest.approx((4 * 0.15 + 2 * 0.1) / 6)
    assert [b.count for b in bins if b.count] == [2, 4]
    # 0.6 and 0.9 are the upper ends of bins of width 1/15, or fall into the next by rounding.
    assert all(b.low - 1e-9 <= b.confidence <= b.high + 1e-9 for b in bins if b.count)


def test_certainty_belongs_to_the_last_bin():
    """A probability of exactly 1 is counted."""
    bins = reliability(np.array([[1.0, 0.0]]), np.array([0]))
    assert bins[-1].count == 1
    assert calibration_error(bins) == 0


def test_temperature_lowers_the_loss_of_what_it_was_fitted_to():
    """Logits three times too large: about three, a lower loss, and the same answers."""
    random = np.random.default_rng(0)
    logits = random.normal(size=(4000, 4)).astype(np.float32) * 2
    labels = np.array([random.choice(4, p=p) for p in probabilities(logits)])
    temperature = fit_temperature(3 * logits, labels)
    assert temperature == pytest.approx(3, rel=0.1)
    before = negative_log_likelihood(3 * logits, labels)
    assert negative_log_likelihood(3 * logits, labels, temperature) < before
