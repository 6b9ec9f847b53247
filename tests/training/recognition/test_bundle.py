"""From labelled codes to a recognizer: the split."""

import numpy as np

from training.recognition.bundle import split_by_class


def test_every_class_is_on_both_sides_of_the_split():
    """A share of each, at least one; nothing twice, nothing lost."""
    labels = np.repeat([0, 1, 2], [40, 10, 2])
    fit, held_out = split_by_class(labels, 0.2, 0)
    assert np.bincount(labels[held_out]).tolist() == [8, 2, 1]
    assert sorted([*fit, *held_out]) == list(range(52))
