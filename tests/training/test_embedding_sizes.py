"""How good the first numbers of a bundle's vectors are, judged by one command."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from app.api.compat.openai import shortened as served
from training.data.augmentation import EDITS
from training.data.dataset import find_images
from training.embedding_sizes import main, shortened


@pytest.fixture(scope="module")
def arguments(photos, tmp_path_factory):
    """24 photographs, and two classes of four."""
    folder = tmp_path_factory.mktemp("material")
    (folder / "photographs").mkdir()
    for number, path in enumerate(find_images([photos]).paths):
        for copy in (1, 2, 3):
            shutil.copy(path, folder / "photographs" / f"{path.stem}_{copy}.webp")
        for part in ("train", "test"):
            target = folder / "labelled" / part / ("even", "odd")[number % 2]
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    return ["--data", str(folder / "photographs"), "--labelled", str(folder / "labelled")]


def test_a_row_for_each_size(tiny_bundle, arguments, capsys):
    """A bundle of short vectors has one; accuracies and shares of copies found are in it."""
    assert main([str(tiny_bundle), *arguments]) == 0
    head, _, *rows = capsys.readouterr().out.splitlines()
    assert head == f"| numbers | linear | 5-NN | {' | '.join(EDITS)} |"
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert len(cells) == 1
    assert all(0 <= float(cell) <= 1 for cell in cells[0][1:])


def test_what_is_measured_is_what_is_served():
    """The service's shorter vectors are those that the command judges."""
    vector = torch.nn.functional.normalize(torch.randn(1, 256), dim=1)
    for size in (32, 64, 128, 256):
        here = shortened(vector, size)[0].numpy()
        np.testing.assert_allclose(served(vector[0].numpy(), size), here, rtol=1e-5, atol=1e-7)


def test_what_is_no_bundle_is_said(tmp_path, arguments, capsys):
    """In one line, with exit code 2."""
    assert main([str(tmp_path), *arguments]) == 2
    assert capsys.readouterr().err.startswith("error: ")
