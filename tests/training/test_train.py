"""Facts about the training loop, each shown by really training a tiny model."""

import dataclasses
import os
import signal
import subprocess
import sys

import pytest
import torch

from training.checkpoint import CheckpointError, load_checkpoint
from training.config import OptimizerConfig
from training.place import Place
from training.train import TrainingDiverged, learning_rate, main, train

CPU = Place(torch.device("cpu"))


def weights(path):
    """All tensors of a checkpoint: weights, averages and the optimizer's moments."""
    state = load_checkpoint(path)
    tensors = {f"model.{k}": v for k, v in state.model.items()}
    tensors |= {f"averaged.{k}": v for k, v in state.averaged.items()}
    for index, moments in state.optimizer["state"].items():
        tensors |= {f"optimizer.{index}.{k}": v for k, v in moments.items()}
    return tensors


def with_steps(config, steps):
    """The configuration with another number of steps."""
    return dataclasses.replace(config, optimizer=dataclasses.replace(config.optimizer, steps=steps))


def test_resuming_equals_not_having_stopped(tiny, photos, tmp_path, monkeypatch):
    """A run that was interrupted and resumed ends with the same bits as an unbroken one."""
    unbroken = weights(train(tiny, [photos], tmp_path / "unbroken", CPU))
    calls = []

    def interrupt(config, step):
        # A signal in the middle of step 5, as a scheduler would send it.
        if len(calls) == 0 and step == 5:
            calls.append(step)
            os.kill(os.getpid(), signal.SIGTERM)
        return learning_rate(config, step)

    monkeypatch.setattr("training.train.learning_rate", interrupt)
    last = train(tiny, [photos], tmp_path / "broken", CPU)
    assert load_checkpoint(last).step == 6
    resumed = weights(train(tiny, [photos], tmp_path / "broken", CPU))
    assert resumed.keys() == unbroken.keys()
    assert all(torch.equal(resumed[name], unbroken[name]) for name in unbroken)


def test_facts_survive_resuming(tiny, photos, tmp_path):
    """What a checkpoint says about the run counts all of it, not the last part."""
    train(with_steps(tiny, 4), [photos], tmp_path, CPU)
    state = load_checkpoint(train(with_steps(tiny, 8), [photos], tmp_path, CPU))
    assert state.facts["images_seen"] == 8 * tiny.optimizer.batch
    assert state.facts["seconds"] > 0


def test_resuming_with_another_model_is_refused(tiny, photos, tmp_path):
    """A checkpoint isn't continued with another network, quantizer, loss or data setting."""
    train(with_steps(tiny, 4), [photos], tmp_path, CPU)
    other = dataclasses.replace(tiny, quantizer=dataclasses.replace(tiny.quantizer, width=8))
    with pytest.raises(CheckpointError, match="other settings"):
        train(other, [photos], tmp_path, CPU)


def test_nan_stops_the_run(tiny, photos, tmp_path):
    """A loss that is no number stops the run at once and keeps the last good checkpoint."""
    last = train(with_steps(tiny, 4), [photos], tmp_path, CPU)
    wild = dataclasses.replace(
        tiny.optimizer, steps=200, learning_rate=1e30, clip=1e30, warmup_steps=0
    )
    with pytest.raises(TrainingDiverged, match=r"last good checkpoint is .*last\.pt"):
        train(dataclasses.replace(tiny, optimizer=wild), [photos], tmp_path, CPU)
    assert all(torch.isfinite(tensor).all() for tensor in weights(last).values())


def test_learning_rate():
    """Linear warm-up to the peak, then a cosine down to the final share."""
    config = OptimizerConfig(steps=100, warmup_steps=10, learning_rate=2.0, final_learning_rate=0.1)
    assert learning_rate(config, 0) == pytest.approx(0.2)
    assert learning_rate(config, 9) == learning_rate(config, 10) == pytest.approx(2.0)
    assert learning_rate(config, 55) == pytest.approx(2.0 * 0.55)
    assert learning_rate(config, 100) == pytest.approx(0.2)


def test_training_learns(tiny, photos, tmp_path, capfd):
    """The loss falls, and the numbers in the log say so."""
    longer = dataclasses.replace(tiny.optimizer, steps=60, learning_rate=3e-3)
    config = dataclasses.replace(tiny, optimizer=longer)
    train(config, [photos], tmp_path, CPU)
    lines = [line.split() for line in capfd.readouterr().out.splitlines() if " mse " in line]
    losses = [float(line[line.index("mse") + 1]) for line in lines]
    assert sum(losses[-4:]) < 0.7 * sum(losses[:4])


def test_tensorboard(tiny, photos, tmp_path):
    """TensorBoard gets losses, code usage, perplexity and pictures."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(tiny, [photos], tmp_path, CPU)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert {"loss/mse", "loss/commitment", "codes/used", "codes/perplexity"} <= set(tags["scalars"])
    assert {"validation/psnr", "validation/perplexity"} <= set(tags["scalars"])
    assert tags["images"]


def test_two_processes_equal_one(photos, tmp_path):
    """Two processes under torchrun end where one does with the same global batch, within noise."""
    arguments = ["tiny", "--data", str(photos), "--device", "cpu"]
    for setting in (
        "optimizer.steps=10",
        "optimizer.batch=8",
        "optimizer.warmup_steps=2",
        "data.crop=32",
        "run.bf16=false",
        "run.log_every=5",
        # With more codes than latents, restarts would amplify rounding to a difference.
        "quantizer.size=32",
        "quantizer.restart_below=0.0",
    ):
        arguments += ["--set", setting]
    assert main([*arguments, "--out", str(tmp_path / "one")]) == 0
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    subprocess.run(
        [*launch, "-m", "training.train", *arguments, "--out", str(tmp_path / "two")],
        env=environment,
        check=True,
        capture_output=True,
        timeout=110,
    )
    one, two = weights(tmp_path / "one" / "last.pt"), weights(tmp_path / "two" / "last.pt")
    for name, wanted in one.items():
        if name.startswith("model.") and wanted.is_floating_point():
            difference = (two[name] - wanted).norm() / wanted.norm().clamp_min(1e-6)
            assert difference < 0.05, name


def test_signal_saves_and_exits(photos, tmp_path):
    """SIGTERM ends the command with exit code 0 and a checkpoint, whatever the step."""
    command = [sys.executable, "-m", "training.train", "tiny", "--data", str(photos)]
    command += ["--out", str(tmp_path), "--set", "optimizer.steps=100000", "--set", "data.crop=32"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith("step 20 "):
                break
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read()
    assert process.returncode == 0
    assert "stopped by a signal" in rest
    assert load_checkpoint(tmp_path / "last.pt").step >= 20


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["photo-f9", "--data", "."], "no preset"),
        (["tiny", "--data", "/nowhere"], "not a folder"),
        (["tiny", "--data", ".", "--set", "data.crop=33"], "multiple of the stride"),
    ],
)
def test_bad_command_lines(arguments, words, capsys, tmp_path):
    """What can't be done ends with exit code 2 and one line that says why."""
    assert main([*arguments, "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
