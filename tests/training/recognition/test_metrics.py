"""Figures of a recognizer, counted by hand."""

import numpy as np
import pytest

from training.recognition.metrics import classify


def test_figures_of_a_confusion_made_by_hand():
    """Five images of three classes: accuracies, recall, precision and who is taken for whom."""
    logits = np.eye(3, dtype=np.float32)[[0, 0, 1, 1, 0]] * 4
    f = classify(logits, np.array([0, 0, 0, 1, 2]), ("a", "b", "c"), 2.0)
    assert (f.top1, f.top5) == (pytest.approx(0.6), 1.0)
    assert f.confusion == [[2, 1, 0], [0, 1, 0], [1, 0, 0]]
    assert [c.recall for c in f.classes] == [pytest.approx(2 / 3), 1.0, 0.0]
    assert [c.precision for c in f.classes] == [pytest.approx(2 / 3), 0.5, 0.0]
    assert [c.mistaken_for for c in f.classes] == ["b", None, "a"]
    assert f.error != f.error_uncalibrated
