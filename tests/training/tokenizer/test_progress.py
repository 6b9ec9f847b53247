"""What a person sees of a training run: the pace, and which images validation looks at."""

import io

import pytest
import torch
from rich.console import Console

from training.data.dataset import find_images, read_image
from training.tokenizer.model import Tokenizer
from training.tokenizer.progress import Stopwatch, validate


class Board:
    """Stands for TensorBoard and keeps what it is given."""

    def __init__(self):
        self.pictures, self.figures = [], {}

    def add_image(self, name, _pixels, _step):
        self.pictures.append(name)

    def add_scalar(self, name, value, _step):
        self.figures[name] = value


def test_validation_looks_at_images_spread_over_the_folder(tiny, photos, monkeypatch):
    """Two of eight: the first and the fifth in order of their paths, and not the first two."""
    monkeypatch.setattr("training.tokenizer.progress._VALIDATION_IMAGES", 2)
    seen = []
    monkeypatch.setattr(
        "training.data.dataset.read_image", lambda path: (seen.append(path), read_image(path))[1]
    )
    folder, board = find_images([photos]), Board()
    model = Tokenizer(tiny).eval()
    validate(model, folder, board, Console(quiet=True), 1, torch.device("cpu"))
    assert seen == [folder.paths[0], folder.paths[4]]
    assert len(board.pictures) == 2
    assert 0 < board.figures["validation/psnr"] < 40


def test_an_unreadable_held_out_image_is_named(tiny, photos, cut_jpeg, tmp_path):
    """And the others are looked at."""
    (tmp_path / "cut.jpg").write_bytes(cut_jpeg)
    (tmp_path / "whole.webp").write_bytes((photos / "lake.webp").read_bytes())
    board, lines = Board(), io.StringIO()
    model = Tokenizer(tiny).eval()
    console = Console(file=lines, soft_wrap=True)
    validate(model, find_images([tmp_path]), board, console, 1, torch.device("cpu"))
    assert "cut.jpg" in lines.getvalue()
    assert len(board.pictures) == 1


def test_the_pace_leaves_out_what_is_done_aside(monkeypatch):
    """Four steps in two seconds, and three seconds of validation: two steps a second, in five."""
    now = [100.0]
    monkeypatch.setattr("training.tokenizer.progress.time.monotonic", lambda: now[0])
    watch = Stopwatch(before=60.0)
    for _ in range(4):
        now[0] += 0.5
        watch.step()
    with watch.aside():
        now[0] += 3
    assert watch.pace() == pytest.approx(2)
    assert watch.seconds() == pytest.approx(65)
    now[0] += 1
    watch.step()
    assert watch.pace() == pytest.approx(1)
