"""Calibration of int8 graphs: on images of whatever size there is."""

import numpy as np
import pytest

from training.onnx_export.quantize import calibration_batches


def images(*sides):
    return [np.zeros((side, side + 3, 3), np.uint8) for side in sides]


@pytest.mark.parametrize(
    ("sides", "stride", "side", "count"),
    [
        ([300] * 40, 8, 160, 32),
        ([150] * 40, 8, 152, 35),  # padded to the stride, as for encoding
        ([128] * 40, 8, 128, 40),
        ([32] * 900, 4, 32, 256),
        ([5, 6], 16, 16, 2),
        ([600] + [32] * 40, 8, 32, 41),  # one large image isn't all that is calibrated on
        ([600] * 16 + [32] * 40, 8, 160, 16),
    ],
)
def test_the_largest_side_that_enough_images_have(sides, stride, side, count):
    """At most 160 pixels, all of one shape, and more images where they are smaller."""
    batches = calibration_batches(images(*sides), stride)
    assert {batch.shape for batch in batches} == {(1, side, side, 3)}
    assert len(batches) == count
