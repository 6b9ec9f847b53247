"""The retrieval benchmark: edited copies made, kept, and looked for."""

import shutil

import numpy as np
import pytest
import torch

from bundle import open_bundle
from training.data.augmentation import Reach
from training.data.dataset import find_images
from training.embedding.retrieval_benchmark import (
    COPY_SIDE,
    RetrievalBenchmark,
    encode_random_copies,
    held_out,
    read_photographs,
)
from training.onnx_export.codec import BundleCodec


def test_random_copies_are_kept_and_differ(images, tiny_bundle, tmp_path):
    """Copies of one photograph are different; a second call reads the same codes from the file."""
    codec = BundleCodec(open_bundle(tiny_bundle))
    made = encode_random_copies(codec, images, 3, seed=0, cache=tmp_path)
    assert made.shape == (len(images), 3, COPY_SIDE, COPY_SIDE)
    assert (made[:, 0] != made[:, 1]).mean() > 0.1
    (file,) = tmp_path.iterdir()
    np.save(file, made + 1)
    np.testing.assert_array_equal(
        encode_random_copies(codec, images, 3, seed=0, cache=tmp_path), made + 1
    )
    np.testing.assert_array_equal(encode_random_copies(codec, images, 3, seed=0), made)


def test_copies_of_another_encoder_or_of_other_edits_are_not_read(
    images, tiny_bundle, tmp_path, monkeypatch
):
    """The code space is the same in both precisions; what is kept has a name for each."""
    bundle = open_bundle(tiny_bundle)
    exact, fast = BundleCodec(bundle), BundleCodec(bundle, "int8")
    assert exact.fingerprint == BundleCodec(bundle).fingerprint != fast.fingerprint
    encode_random_copies(exact, images, 1, seed=0, cache=tmp_path)
    encode_random_copies(fast, images, 1, seed=0, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    monkeypatch.setattr("training.embedding.retrieval_benchmark.Reach", lambda: Reach(grey=1.0))
    encode_random_copies(exact, images, 1, seed=0, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def test_unreadable_photographs_are_named(repeated_photos, cut_jpeg, tmp_path, capsys):
    """A broken header is, as broken pixels are; neither is fatal."""
    shutil.copytree(repeated_photos, tmp_path / "data")
    (tmp_path / "data" / "header.png").write_bytes(b"not an image at all")
    (tmp_path / "data" / "pixels.jpg").write_bytes(cut_jpeg)
    paths, images = read_photographs([tmp_path / "data"], 64)
    assert len(paths) == len(images) == 24
    assert max(min(image.shape[:2]) for image in images) == 64
    named = capsys.readouterr().err
    assert named.count("\n") == 2
    assert "header.png" in named
    assert "pixels.jpg" in named


def test_recall_counts_the_copies_whose_original_is_nearest():
    """Two of the copies are nearest to their originals, the third is nearest to another."""
    grids = [np.array([[code]]) for code in range(4)]
    benchmark = RetrievalBenchmark(
        grids, np.array([0, 1, 2]), {"edit": [grids[0], grids[1], grids[3]]}
    )
    found = benchmark.recall(lambda codes: torch.eye(4)[codes[:, 0, 0]])
    assert found == {"edit": pytest.approx(2 / 3)}
    assert [int(grid[0, 0]) for grid in benchmark.others] == [3]


def test_held_out_photographs_do_not_depend_on_the_others(repeated_photos):
    """Chosen by name: without some of the others, the same ones are held out."""
    paths = find_images([repeated_photos]).paths
    names = {paths[i].name for i in held_out(paths)}
    fewer = [path for path in paths if path.name in names or path.name < "m"]
    assert {fewer[i].name for i in held_out(fewer)} == names
