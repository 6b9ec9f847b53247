"""Codecs: how images of any size are padded."""

import numpy as np

from training.onnx_export.codec import pad_to_stride


def test_padding():
    """Padding repeats the last row and column, up to the next multiple of the stride."""
    image = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    padded = pad_to_stride(image, 4)
    assert padded.shape == (8, 8, 3)
    assert np.array_equal(padded[:5, :7], image)
    assert (padded[5:, :7] == image[-1]).all()
    assert (padded[:5, 7:] == image[:, -1:]).all()
