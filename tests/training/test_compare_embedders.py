"""The comparison of embedders: every candidate, and a bundle's own, in one table."""

import shutil

import pytest
import torch

from bundle import open_bundle, write_bundle
from training.compare_embedders import main
from training.data.augmentation import EDITS
from training.data.dataset import find_images
from training.tokenizer.checkpoint import Checkpoint, save_checkpoint
from training.tokenizer.model import Tokenizer, code_space_of


@pytest.fixture(scope="module")
def model(tiny):
    torch.manual_seed(0)
    return Tokenizer(tiny).eval()


@pytest.fixture(scope="module")
def arguments(model, photos, tmp_path_factory):
    """A checkpoint of random weights, 24 photographs, and two classes of four."""
    folder = tmp_path_factory.mktemp("material")
    weights = model.state_dict()
    save_checkpoint(folder / "last.pt", Checkpoint(model.config, 1, weights, weights, {}, {}))
    (folder / "photographs").mkdir()
    for number, path in enumerate(find_images([photos]).paths):
        for copy in (1, 2, 3):
            shutil.copy(path, folder / "photographs" / f"{path.stem}_{copy}.webp")
        for part in ("train", "test"):
            target = folder / "labelled" / part / ("even", "odd")[number % 2]
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    return [
        str(folder / "last.pt"), "--data", str(folder / "photographs"),
        "--labelled", str(folder / "labelled"),
    ]  # fmt: skip


def test_a_row_for_every_candidate_and_bundle(model, arguments, tiny_bundle, tmp_path, capsys):
    """Each with both accuracies and the share of copies found, edit by edit."""
    old = open_bundle(tiny_bundle)
    files = {name: old.read(name) for name in old.manifest.files}
    manifest = old.manifest.__class__(
        **{**old.manifest.__dict__, "code_space": code_space_of(model)}
    )
    write_bundle(tmp_path / "mine", manifest, files)
    table = tmp_path / "table.md"
    assert main([*arguments, "--bundle", str(tmp_path / "mine"), "--out", str(table)]) == 0
    head, _, *rows = table.read_text().splitlines()
    assert table.read_text() == capsys.readouterr().out
    for edit in EDITS:
        assert edit in head
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert len(cells) == 16
    assert cells[-1][0] == f"of {tmp_path / 'mine'}"
    for row in cells:
        assert all(0 <= float(cell) <= 1 for cell in row[2:-1])


def test_a_bundle_of_other_codes_is_one_line(arguments, tiny_bundle, capsys):
    """Its embedder would be given codes that mean something else to it."""
    assert main([*arguments, "--bundle", str(tiny_bundle)]) == 2
    assert "another code space than the checkpoint" in capsys.readouterr().err.splitlines()[-1]
