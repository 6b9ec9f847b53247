"""Which held-out images validation looks at, and what it says of them."""

import torch

from training.data.dataset import find_images, read_image
from training.tokenizer.model import Tokenizer
from training.tokenizer.validation import validate


class Board:
    """Stands for TensorBoard and keeps what it is given."""

    def __init__(self):
        self.pictures = []

    def add_image(self, name, _pixels, _step):
        self.pictures.append(name)


def test_validation_looks_at_images_spread_over_the_folder(tiny, photos, monkeypatch):
    """Two of eight: the first and the fifth in order of their paths, and not the first two."""
    monkeypatch.setattr("training.tokenizer.validation._VALIDATION_IMAGES", 2)
    seen = []
    monkeypatch.setattr(
        "training.data.dataset.read_image", lambda path: (seen.append(path), read_image(path))[1]
    )
    folder, board = find_images([photos]), Board()
    model = Tokenizer(tiny).eval()
    figures, codes = validate(model, folder, board, print, 1, torch.device("cpu"))
    assert seen == [folder.paths[0], folder.paths[4]]
    assert len(board.pictures) == 2
    assert 0 < figures["validation/psnr"] < 40
    assert " of 256 codes used  perplexity " in codes


def test_an_unreadable_held_out_image_is_named(tiny, photos, cut_jpeg, tmp_path):
    """And the others are looked at."""
    (tmp_path / "cut.jpg").write_bytes(cut_jpeg)
    (tmp_path / "whole.webp").write_bytes((photos / "lake.webp").read_bytes())
    board, lines = Board(), []
    model = Tokenizer(tiny).eval()
    validate(model, find_images([tmp_path]), board, lines.append, 1, torch.device("cpu"))
    assert "cut.jpg" in "".join(lines)
    assert len(board.pictures) == 1
