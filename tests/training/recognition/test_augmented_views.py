"""Augmented views: what they are, and that their codes are kept."""

import numpy as np

from training.recognition.augmented_views import encode_views, view_of


def test_views_are_the_image_its_mirror_image_and_edits():
    """The first two exactly; the others of the same size, decided by seed and number alone."""
    image = np.random.default_rng(0).integers(0, 256, (40, 56, 3)).astype(np.uint8)
    assert np.array_equal(view_of(image, 0, (1,)), image)
    assert np.array_equal(view_of(image, 1, (1,)), image[:, ::-1])
    edit = view_of(image, 2, (1,))
    assert edit.shape == image.shape
    assert edit.dtype == np.uint8
    assert np.array_equal(edit, view_of(image, 2, (1,)))
    assert not np.array_equal(edit, view_of(image, 3, (1,)))
    assert not np.array_equal(edit, view_of(image, 2, (2,)))


class Counting:
    """A codec whose code is a patch's red, and which counts what it encodes."""

    stride, encoded = 8, 0

    def __init__(self, fingerprint="one encoder"):
        self.fingerprint = fingerprint

    def encode(self, pixels):
        self.encoded += len(pixels)
        return pixels[:, ::8, ::8, 0].astype(np.int64)


def test_views_are_encoded_once_and_read_afterwards(tmp_path):
    """The cache gives the same codes without encoding; more views encode only what is new."""
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (16, 8 * n, 3)).astype(np.uint8) for n in (1, 2, 3)]

    def grids(codec, count, seed=0):
        views = encode_views(codec, codec, images, count, seed=seed, cache=tmp_path)
        return [views.grid(i, v).tolist() for i in range(3) for v in range(count)]

    codec = Counting()
    first = grids(codec, 2)
    assert codec.encoded == 6
    assert first[0] == images[0][::8, ::8, 0].tolist()
    assert grids(codec, 2) == first
    assert codec.encoded == 6
    grids(codec, 3)
    assert codec.encoded == 9
    grids(codec, 3, seed=1)
    assert codec.encoded == 18
    other = Counting("another encoder of the same code space")
    grids(other, 2)
    assert other.encoded == 6
