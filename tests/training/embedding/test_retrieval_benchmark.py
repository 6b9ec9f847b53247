"""TODO."""

import shutil

import numpy as np
import pytest
import torch

from bundle import open_bundle
from training.data.augmentation import Reach
from training.data.dataset import find_images, read_image
from training.embedding.retrieval_benchmark import (
    COPY_SIDE,
    Search,
    held_out,
    random_copies,
    read_photographs,
)
from training.onnx_export.codec import BundleCodec


@pytest.fixture(scope="module")
def images(photos):
    return [read_image(path) for path in find_images([photos]).paths]


@pytest.fixture(scope="module")
def folder(photos, tmp_path_factory):
    """Three copies of each photograph under names of which one is held out."""
    folder = tmp_path_factory.mktemp("photographs")
    for path in photos.glob("*.webp"):
        for number in (1, 2, 3):
            shutil.copy(path, folder / f"{path.stem}_{number}.webp")
    return folder


def test_random_copies_are_kept_and_differ(images, tiny_bundle, tmp_path):
    """Copies of one photograph are different; a second call reads the same codes from the file."""
    codec = BundleCodec(open_bundle(tiny_bundle))
    made = random_copies(codec, images, 3, seed=0, cache=tmp_path)
    assert made.shape == (len(images), 3, COPY_SIDE, COPY_SIDE)
    assert (made[:, 0] != made[:, 1]).mean() > 0.1
    (file,) = tmp_path.iterdir()
    np.save(file, made + 1)
    np.testing.assert_array_equal(random_copies(codec, images, 3, seed=0, cache=tmp_path), made + 1)
    np.testing.assert_array_equal(random_copies(codec, images, 3, seed=0), made)


def test_copies_of_another_encoder_or_of_other_edits_are_not_read(
    images, tiny_bundle, tmp_path, monkeypatch
):
    """The code space is the same in both precisions; what is kept has a name for each."""
    bundle = open_bundle(tiny_bundle)
    exact, fast = BundleCodec(bundle), BundleCodec(bundle, "int8")
    assert exact.fingerprint == BundleCodec(bundle).fingerprint != fast.fingerprint
    random_copies(exact, images, 1, seed=0, cache=tmp_path)
    random_copies(fast, images, 1, seed=0, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    monkeypatch.setattr("training.embedding.retrieval_benchmark.Reach", lambda: Reach(grey=1.0))
    random_copies(exact, images, 1, seed=0, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def test_unreadable_photographs_are_named(folder, cut_jpeg, tmp_path, capsys):
    """A broken header is, as broken pixels are; neither is fatal."""
    shutil.copytree(folder, tmp_path / "data")
    (tmp_path / "data" / "header.png").write_bytes(b"not an image at all")
    (tmp_path / "data" / "pixels.jpg").write_bytes(cut_jpeg)
    paths, images = read_photographs([tmp_path / "data"], 64)
    assert len(paths) == len(images) == 24
    assert max(min(image.shape[:2]) for image in images) == 64
    named = capsys.readouterr().err
    assert named.count("\n") == 2
    assert "header.png" in named
    assert "pixels.jpg" in named


def test_a_search_counts_what_it_finds():
    """Two of the copies are nearest to their originals, the third is nearest to another."""
    grids = [np.array([[code]]) for code in range(4)]
    search = Search(grids, np.array([0, 1, 2]), {"edit": [grids[0], grids[1], grids[3]]})
    found = search.found(lambda codes: torch.eye(4)[codes[:, 0, 0]])
    assert found == {"edit": pytest.approx(2 / 3)}
    assert [int(grid[0, 0]) for grid in search.others] == [3]


def test_held_out_photographs_do_not_depend_on_the_others(folder):
    """Chosen by name: without some of the others, the same ones are held out."""
    paths = find_images([folder]).paths
    names = {paths[i].name for i in held_out(paths)}
    fewer = [path for path in paths if path.name in names or path.name < "m"]
    assert {fewer[i].name for i in held_out(fewer)} == names
