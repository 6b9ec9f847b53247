"""The learnt embedder: copies embed alike, and its bundle changes in nothing else."""

import shutil

import numpy as np
import pytest

from bundle import open_bundle
from training.data.augmentation import EDITS
from training.learn_embedder import main
from training.onnx_export.graphs import run, session_of


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
def renewed(repeated_photos, tiny_bundle, tmp_path_factory):
    """The tiny bundle with an embedder learnt in a few steps, and the files it had before."""
    path = shutil.copytree(tiny_bundle, tmp_path_factory.mktemp("models") / "tiny")
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    cache = tmp_path_factory.mktemp("cache")
    arguments = [
        "--data",
        str(repeated_photos),
        "--steps",
        "2",
        "--copies",
        "2",
        "--cache",
        str(cache),
    ]
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
    for count, (rows, columns) in enumerate([(1, 1), (1, 2), (3, 1), (5, 7), (16, 11)], 1):
        made = run(session, np.ones((count, rows, columns), np.int64))
        np.testing.assert_allclose(np.linalg.norm(made, axis=1), np.ones(count), atol=1e-5)


def test_a_learnt_embedder_is_replaced_only_when_told(renewed, repeated_photos, capsys):
    """Before any work; the message names what would be lost."""
    path, _ = renewed
    before = (path / "manifest.json").read_bytes()
    assert main([str(path), "--data", str(repeated_photos)]) == 2
    error = capsys.readouterr().err
    assert "tiny, version 2, with its learnt embedder" in error
    assert "--replace" in error
    assert (path / "manifest.json").read_bytes() == before


@pytest.mark.parametrize("version", ["1", "0"])
def test_a_version_is_lowered_only_when_told(version, tiny_bundle, photos, tmp_path, capsys):
    """Nor kept: vectors of the two could not be told apart."""
    path = shutil.copytree(tiny_bundle, tmp_path / "tiny")
    assert main([str(path), "--data", str(photos), "--version", version]) == 2
    assert "does not raise the bundle's version 1" in capsys.readouterr().err
