"""Codecs: how images of any size are padded."""

import numpy as np
import torch

from training.data.dataset import find_images, read_image
from training.onnx_export.any_size import encode_images
from training.onnx_export.codec import CheckpointCodec, pad_to_stride
from training.tokenizer.model import Tokenizer


def test_padding():
    """Padding repeats the last row and column, up to the next multiple of the stride."""
    image = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    padded = pad_to_stride(image, 4)
    assert padded.shape == (8, 8, 3)
    assert np.array_equal(padded[:5, :7], image)
    assert (padded[5:, :7] == image[-1]).all()
    assert (padded[:5, 7:] == image[:, -1:]).all()


def test_batches_of_mixed_sizes_keep_their_order(tiny, photos):
    """Encoding many images gives what encoding each alone gives, in the order given."""
    torch.manual_seed(0)
    codec = CheckpointCodec(Tokenizer(tiny))
    paths = find_images([photos]).paths
    images = [read_image(path)[:64, : 40 + 8 * (i % 3)] for i, path in enumerate(paths)]
    for image, codes in zip(images, encode_images(codec, images), strict=True):
        np.testing.assert_array_equal(codes, codec.encode_image(image))
