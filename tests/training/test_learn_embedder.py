"""The learnt embedder: copies embed alike, and its bundle changes in nothing else."""

import shutil

import numpy as np
import pytest
import torch

from bundle import open_bundle
from training.data.augmentation import EDITS, Reach, random_edit
from training.data.dataset import find_images, read_image
from training.embedding.contrastive import (
    GridFeatures,
    PooledFeatures,
    Recipe,
    _folded,
    info_nce,
    learn_features,
)
from training.embedding.embedder import apply_to_grids
from training.embedding.retrieval_benchmark import (
    COPY_SIDE,
    Search,
    held_out,
    random_copies,
    read_photographs,
)
from training.learn_embedder import finished, main
from training.onnx_export.codec import BundleCodec
from training.onnx_export.graphs import run, session_of

SMALL = Recipe(steps=80, batch=24, width=24, blocks=1, features=16, bf16=False)
SIZES = [(1, 1), (1, 2), (3, 1), (5, 7), (16, 11)]


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


@pytest.fixture(scope="module")
def toy():
    """24 "photographs": each has five codes of its own, mixed with noise, in 6 copies."""
    random = np.random.default_rng(0)
    own = random.permutation(120).reshape(24, 1, 5)
    picked = np.take_along_axis(
        np.broadcast_to(own, (24, 6, 5)), random.integers(5, size=(24, 6, 64)), axis=2
    )
    noise = random.integers(120, size=picked.shape)
    noisy = np.where(random.random(picked.shape) < 0.25, noise, picked)
    return noisy.reshape(24, 6, 8, 8).astype(np.uint16)


@pytest.fixture(scope="module")
def table():
    return torch.randn(120, 12, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def learnt(toy, table):
    """Learnt from the first five copies; the sixth is for the test."""
    return learn_features(table, toy[:, :5], SMALL)


def alike(description, toy):
    """Share of unseen copies whose nearest other grid is a copy of the same photograph."""
    grids = [grid.astype(np.int64) for grid in toy.reshape(-1, 8, 8)]
    rows = apply_to_grids(description, grids)
    unit = torch.nn.functional.normalize(rows - rows.mean(0), dim=1).reshape(24, 6, -1)
    nearest = (unit[:, 5] @ unit[:, :5].flatten(0, 1).T).argmax(dim=1) // 5
    return float((nearest == torch.arange(24)).float().mean())


def test_copies_embed_closer_than_other_pictures(toy, table, learnt):
    """Learning finds more unseen copies than the network it began with, and most of them."""
    torch.manual_seed(SMALL.seed)
    before = alike(PooledFeatures(GridFeatures(table, SMALL).eval()), toy)
    after = alike(PooledFeatures(learnt), toy)
    print(before, after)
    assert after > before + 0.2
    assert after > 0.7


def test_the_same_seed_gives_the_same_weights(toy, table, learnt):
    """Every random choice comes from the seed."""
    again = learn_features(table, toy[:, :5], SMALL)
    for name, value in again.state_dict().items():
        torch.testing.assert_close(value, learnt.state_dict()[name], rtol=0, atol=0)


def test_another_seed_gives_other_weights(toy, table, learnt):
    """The seed is not ignored."""
    recipe = Recipe(**{**SMALL.__dict__, "seed": 1, "steps": 2})
    assert not torch.equal(learn_features(table, toy, recipe).table, learnt.table)


def test_folding_the_normalisation_changes_nothing(table):
    """What is exported computes what was trained, with running means that are not trivial."""
    torch.manual_seed(0)
    network = GridFeatures(table, SMALL).train()
    codes = torch.randint(0, 120, (8, 6, 6))
    for _ in range(3):
        network(codes)
    torch.testing.assert_close(_folded(network)(codes), network.eval()(codes))


def test_unit_length_for_every_grid_size(toy, learnt):
    """From a single code on."""
    embedder = finished(learnt, [grid.astype(np.int64) for grid in toy[:, 0]])
    for rows, columns in SIZES:
        made = embedder(torch.zeros(2, rows, columns, dtype=torch.int64))
        assert made.shape == (2, embedder.size)
        torch.testing.assert_close(made.norm(dim=1), torch.ones(2))


def test_the_loss_of_perfect_pairs_is_near_zero():
    """Halves that are alike and unlike all others are all found."""
    loss, found = info_nce(torch.eye(4).repeat(2, 1), 0.05)
    assert found == 1
    assert loss < 1e-6


def test_the_loss_of_swapped_pairs_is_high():
    """Rows i and n + i belong together, and no others."""
    loss, found = info_nce(torch.cat([torch.eye(4), torch.eye(4).roll(1, 0)]), 0.05)
    assert found == 0
    assert loss > 10


def test_one_photograph_is_not_enough(table):
    """There is nothing to tell it from."""
    with pytest.raises(ValueError, match="two photographs"):
        learn_features(table, np.zeros((1, 4, 8, 8), np.uint16), SMALL)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (300, 2), (90, 160)])
def test_random_edits_have_the_wanted_size(size):
    """Of images of any shape, however small."""
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    for seed in range(20):
        edited = random_edit(image, 24, np.random.default_rng(seed))
        assert edited.shape == (24, 24, 3)
        assert edited.dtype == np.uint8


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


def test_too_few_photographs_is_one_line(tmp_path, tiny_bundle, photos, capsys):
    """Where none is held out, nothing could be measured; the bundle stays as it was."""
    path = shutil.copytree(tiny_bundle, tmp_path / "tiny")
    assert main([str(path), "--data", str(photos), "--cache", str(tmp_path / "cache")]) == 2
    error = capsys.readouterr().err.strip()
    assert error.splitlines()[-1].startswith("error: 8 photographs are too few")
    assert open_bundle(path).manifest.version == "1"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent", "--data", "."], "error: absent: there is no such folder"),
        (["{bundle}", "--data", ".", "--seed", "-1"], "error: --seed must be at least 0, not -1"),
        (["{bundle}", "--data", ".", "--steps", "0"], "error: --steps must be at least 1, not 0"),
        (["{bundle}", "--data", ".", "--copies", "0"], "error: --copies must be at least 2, not 0"),
        (["{bundle}", "--data", ".", "--version", "V 2"], "error: --version must match"),
        (["{bundle}", "--data", "absent"], "error: absent is not a folder"),
        (["{bundle}", "--data", ".", "--labelled", "absent"], "error: absent has no folder train/"),
    ],
)
def test_what_is_missing_or_impossible_is_one_line(
    arguments, message, tiny_bundle, capsys, monkeypatch, tmp_path
):
    """Each says what it is, and nothing else."""
    monkeypatch.chdir(tmp_path)
    assert main([a.format(bundle=tiny_bundle) for a in arguments]) == 2
    assert capsys.readouterr().err.startswith(message)


@pytest.fixture(scope="module")
def renewed(folder, tiny_bundle, tmp_path_factory):
    """The tiny bundle with an embedder learnt in a few steps, and the files it had before."""
    path = shutil.copytree(tiny_bundle, tmp_path_factory.mktemp("models") / "tiny")
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    cache = tmp_path_factory.mktemp("cache")
    arguments = ["--data", str(folder), "--steps", "2", "--copies", "2", "--cache", str(cache)]
    assert main([str(path), *arguments]) == 0
    return path, before


def test_other_files_stay_byte_for_byte(renewed):
    """Only the embedder, the manifest and the card are new."""
    path, before = renewed
    after = {file.name: file.read_bytes() for file in path.iterdir()}
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    assert changed == {"embedder.onnx", "manifest.json", "MODEL_CARD.md"}


def test_the_version_is_raised_and_the_code_space_stays(renewed, tiny_bundle):
    """Vectors are others, codes are not."""
    old, new = open_bundle(tiny_bundle).manifest, open_bundle(renewed[0]).manifest
    assert (old.version, new.version) == ("1", "2")
    assert new.code_space == old.code_space


def test_the_manifest_tells_how_it_was_learnt(renewed):
    """The recipe, the proof, and how many copies were found, edit by edit."""
    manifest = open_bundle(renewed[0]).manifest
    assert manifest.training["embedder"]["recipe"]["steps"] == 2
    assert manifest.training["embedder"]["photographs"] == 23
    assert manifest.parity["embedder"]["fp32"]["embedding_cosine"] > 0.9999
    assert {f"found: {edit}" for edit in EDITS} < set(manifest.metrics["embedder"])


def test_the_graph_takes_every_grid_size(renewed):
    """All axes are dynamic, and vectors have unit length."""
    session = session_of(open_bundle(renewed[0]).read_graph("embedder", "fp32"), threads=1)
    for count, (rows, columns) in enumerate(SIZES, 1):
        made = run(session, np.ones((count, rows, columns), np.int64))
        np.testing.assert_allclose(np.linalg.norm(made, axis=1), np.ones(count), atol=1e-5)
