"""Facts about checkpoints."""

import pytest
import torch

from training.tokenizer.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    save_checkpoint,
)


def make(config, step=3):
    """A small checkpoint."""
    state = {"weight": torch.arange(4.0)}
    return Checkpoint(config, step, state, state, {"state": {}}, {"images_seen": 24})


def test_round_trip(tiny, tmp_path):
    """What is saved is loaded, and nothing else is left in the folder."""
    file = tmp_path / "run" / "last.pt"
    save_checkpoint(file, make(tiny))
    loaded = load_checkpoint(file)
    assert (loaded.config, loaded.step, loaded.facts) == (tiny, 3, {"images_seen": 24})
    assert torch.equal(loaded.model["weight"], torch.arange(4.0))
    assert [p.name for p in file.parent.iterdir()] == ["last.pt"]


def test_failed_save_keeps_the_old(tiny, tmp_path):
    """A save that fails midway leaves the old checkpoint whole and no litter."""
    file = tmp_path / "last.pt"
    save_checkpoint(file, make(tiny))
    broken = make(tiny, step=4)
    broken.facts["unpicklable"] = lambda: None
    with pytest.raises(Exception, match="pickle"):
        save_checkpoint(file, broken)
    assert load_checkpoint(file).step == 3
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_not_a_checkpoint(tiny, tmp_path):
    """A missing file, rubbish, another program's file and another format are each refused."""
    with pytest.raises(CheckpointError, match="no checkpoint"):
        load_checkpoint(tmp_path / "none.pt")
    (tmp_path / "rubbish.pt").write_bytes(b"rubbish")
    with pytest.raises(CheckpointError, match="not a readable"):
        load_checkpoint(tmp_path / "rubbish.pt")
    torch.save({"format": 99}, tmp_path / "newer.pt")
    with pytest.raises(CheckpointError, match="format 1"):
        load_checkpoint(tmp_path / "newer.pt")


def test_loading_runs_nothing(tmp_path):
    """A pickle that would run code is refused, and its code isn't run."""

    class Attack:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    torch.save({"format": 1, "config": Attack()}, tmp_path / "attack.pt")
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / "attack.pt")
    assert not (tmp_path / "owned").exists()
