"""The recognition probe and the classical features beside it."""

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.feature import hog

from training.data.dataset import DataError, find_images, read_image
from training.embedding.embedder import fit_embedder
from training.evaluation.baselines import colour_histogram, gradient_histograms, raw_pixels
from training.evaluation.linear_probe import (
    probe,
    probe_baselines,
    probe_codec,
    read_labelled,
    untrained,
)
from training.onnx_export.codec import CheckpointCodec
from training.tokenizer.model import Tokenizer


@pytest.fixture(scope="module")
def images(photos):
    return [read_image(path) for path in find_images([photos]).paths]


@pytest.fixture(scope="module")
def folder(images, tmp_path_factory):
    """Two classes that a glance tells apart: pieces of a red-tinted and of a blue-tinted photo."""
    root = tmp_path_factory.mktemp("labelled")
    random = np.random.default_rng(0)
    for part, count in (("train", 8), ("test", 4)):
        for name, tint in (("blue", [40, 80, 255]), ("red", [255, 80, 40])):
            (root / part / name).mkdir(parents=True)
            for index in range(count):
                image = images[int(random.integers(len(images)))]
                top, left = random.integers(30), random.integers(60)
                piece = image[top : top + 128, left : left + 100].astype(np.float64)
                pixels = (piece * np.array(tint) / 255).astype(np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{index}.png")
    return root


@pytest.fixture(scope="module")
def labelled(folder):
    return read_labelled(folder)


def clusters(count, size, distance, seed):
    """`count` vectors of each of two classes, whose centres are `distance` apart."""
    random = np.random.default_rng(seed)
    labels = np.repeat([0, 1], count)
    vectors = random.normal(size=(2 * count, size)) + distance * labels[:, None] * np.eye(size)[0]
    return (vectors + 1).astype(np.float32), labels


def test_separable_classes_are_read_off_perfectly():
    """Two far clusters: both accuracies are 1."""
    result = probe("far", *clusters(40, 6, 40, 0), *clusters(20, 6, 40, 1))
    assert (result.representation, result.size) == ("far", 6)
    assert (result.linear, result.nearest) == (1.0, 1.0)


def test_noise_tells_nothing():
    """Vectors without any class in them: about chance, so that nothing leaks from the test part."""
    result = probe("noise", *clusters(200, 6, 0, 0), *clusters(200, 6, 0, 1))
    assert 0.4 < result.linear < 0.6
    assert 0.4 < result.nearest < 0.6


def test_the_linear_probe_does_not_depend_on_scale():
    """Vectors are standardised first: one feature in other units changes nothing."""
    train, train_labels = clusters(100, 4, 1.5, 0)
    test, test_labels = clusters(100, 4, 1.5, 1)
    units = np.array([1000, 1, 1e-3, 1], dtype=np.float32)
    plain = probe("a", train, train_labels, test, test_labels)
    scaled = probe("b", train * units, train_labels, test * units, test_labels)
    assert scaled.linear == pytest.approx(plain.linear, abs=0.01)


def test_the_neighbours_vote_by_cosine():
    """The length of a vector plays no part, only where it points."""
    train = np.array([[1, 0.1], [1, 0.2], [1, 0], [0, 1], [0.1, 1], [0.2, 1]] * 2, np.float32)
    labels = np.array([0, 0, 0, 1, 1, 1] * 2)
    test = np.array([[0.01, 0.001], [1, 900]], np.float32)
    assert probe("directions", train, labels, test, np.array([0, 1])).nearest == 1


def test_labels_are_the_folders_names(labelled):
    """Classes sorted by name, the same numbers in both parts."""
    assert labelled.classes == ("blue", "red")
    assert labelled.train_labels.tolist() == [0] * 8 + [1] * 8
    assert labelled.test_labels.tolist() == [0] * 4 + [1] * 4
    for image, label in zip(labelled.train, labelled.train_labels, strict=True):
        assert (image[..., 0].mean() > image[..., 2].mean()) == bool(label)


def test_a_folder_without_parts_is_refused(tmp_path):
    """The message says what is wanted there."""
    with pytest.raises(DataError, match="train/ with one folder for each class"):
        read_labelled(tmp_path)


def test_a_class_that_is_only_tested_is_refused(folder, tmp_path):
    """What was never shown can't be recognised."""
    for part, name in (("train", "a"), ("train", "b"), ("test", "c")):
        (tmp_path / part / name).mkdir(parents=True)
        source = folder / "train" / "red" / "0.png"
        (tmp_path / part / name / "0.png").write_bytes(source.read_bytes())
    with pytest.raises(DataError, match="same two or more classes"):
        read_labelled(tmp_path)


def test_an_unreadable_labelled_image_is_named(folder, tmp_path):
    """A probe on other images than thought would be a wrong number: it stops instead."""
    for part in ("train", "test"):
        for name in ("red", "blue"):
            (tmp_path / part / name).mkdir(parents=True)
            png = (folder / part / name / "0.png").read_bytes()
            (tmp_path / part / name / "0.png").write_bytes(png)
    (tmp_path / "train" / "red" / "0.png").write_bytes(png[: len(png) // 2])
    with pytest.raises(DataError, match=r"0\.png can't be read"):
        read_labelled(tmp_path)


def test_a_tokenizer_without_embedder_has_no_probe(tiny, labelled):
    """None, rather than a number of something else."""
    assert probe_codec(CheckpointCodec(Tokenizer(tiny)), labelled) is None


def test_embeddings_and_all_baselines_are_probed(tiny, labelled):
    """One row each, and colour is easy: the histogram tells red from blue."""
    torch.manual_seed(0)
    model = Tokenizer(tiny).eval()
    codec = CheckpointCodec(model, fit_embedder(model, labelled.train))
    own = probe_codec(codec, labelled)
    rows = {row.representation: row for row in probe_baselines(labelled, tiny)}
    assert own is not None
    assert own.representation == "embedding"
    assert list(rows) == [
        "pixels 16×16",
        "PCA-15 of pixels",
        "colour histogram",
        "HOG",
        "untrained encoder, pooled embedder",
    ]
    assert rows["colour histogram"].linear == 1
    assert rows["pixels 16×16"].size == 768


def test_an_untrained_tokenizer_uses_many_codes(tiny, images):
    """Its codebook is the k-means of its own latents; without that a few codes would do."""
    codec = untrained(tiny, images)
    codes = codec.encode_image(images[0])
    assert len(np.unique(codes)) > 30


def test_an_untrained_tokenizer_is_reproducible(tiny, images):
    """The run's seed gives its weights."""
    one, other = (untrained(tiny, images).encode_image(images[0]) for _ in range(2))
    np.testing.assert_array_equal(one, other)


def test_gradient_histograms_equal_scikit_image(images):
    """Cells of 16 pixels, blocks of 2×2 cells, nine unsigned orientations, L2-Hys."""
    image = np.asarray(Image.fromarray(images[0]).resize((128, 128)))
    expected = hog(image, 9, (16, 16), (2, 2), channel_axis=-1)
    made = gradient_histograms(image)
    assert made.shape == expected.shape
    # The order within a block is the same; a rounding here and there picks another bin.
    assert np.corrcoef(made, expected)[0, 1] > 0.999


def test_a_colour_histogram_is_of_unit_length(images):
    """Square roots of shares; half black and half white is √½ in the first and last bin."""
    assert np.linalg.norm(colour_histogram(images[0])) == pytest.approx(1, abs=1e-6)
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[:2] = 255
    histogram = colour_histogram(pixels)
    assert histogram[[0, 511]].tolist() == pytest.approx([0.5**0.5] * 2)


def test_raw_pixels_are_averages():
    """Each number is the mean of the pixels it stands for, in [0, 1]."""
    image = np.zeros((32, 32, 3), np.uint8)
    image[0, 0] = 204
    pixels = raw_pixels(image, side=16)
    assert pixels.shape == (768,)
    assert pixels[0] == pytest.approx(0.2, abs=1e-6)
