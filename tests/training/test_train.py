"""Facts about the training loop, each shown by really training a tiny model."""

import dataclasses
import errno
import io
import os
import re
import signal
import subprocess
import sys

import pytest
import torch
from rich.console import Console

from training.export import parse_arguments as parse_export_arguments
from training.tokenizer.checkpoint import CheckpointError, load_checkpoint
from training.tokenizer.config import (
    ConfigError,
    LossConfig,
    NearestConfig,
    NoQuantizerConfig,
    OptimizerConfig,
    PhaseConfig,
    with_larger_batches,
)
from training.tokenizer.discriminator import Adversary, DiscriminatorCollapsed
from training.tokenizer.distributed import DistributedContext, choose_context
from training.tokenizer.losses import Losses
from training.tokenizer.progress import Heartbeat
from training.tokenizer.quantizers import NearestQuantizer
from training.tokenizer.run import TrainingInterrupted
from training.tokenizer.trainer import TrainingDiverged, learning_rate
from training.train import main, train

CPU = DistributedContext(torch.device("cpu"))


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

    monkeypatch.setattr("training.tokenizer.trainer.learning_rate", interrupt)
    with pytest.raises(TrainingInterrupted, match="after step 6 of 12; the same command resumes"):
        train(tiny, [photos], tmp_path / "broken", CPU)
    last = tmp_path / "broken" / "last.pt"
    assert load_checkpoint(last).step == 6
    resumed = weights(train(tiny, [photos], tmp_path / "broken", CPU))
    assert resumed.keys() == unbroken.keys()
    assert all(torch.equal(resumed[name], unbroken[name]) for name in unbroken)


def test_facts_survive_resuming(tiny, photos, tmp_path):
    """What a checkpoint says about the run counts all of it, not the last part."""
    train(with_steps(tiny, 4), [photos], tmp_path, CPU)
    state = load_checkpoint(train(with_steps(tiny, 8), [photos], tmp_path, CPU))
    assert state.facts["images_seen"] == 8 * tiny.optimizer.batch


def test_seconds_are_of_the_whole_run(tiny, photos, tmp_path):
    """Counted without a line in the log, too, and what came before resuming is added to."""
    quiet = dataclasses.replace(tiny, run=dataclasses.replace(tiny.run, log_every=1000))
    last = train(with_steps(quiet, 4), [photos], tmp_path, CPU)
    values = torch.load(last, weights_only=True)
    assert values["facts"]["seconds"] > 0
    values["facts"]["seconds"] = 5000.0
    torch.save(values, last)
    train(with_steps(quiet, 8), [photos], tmp_path, CPU)
    assert 5000 < load_checkpoint(last).facts["seconds"] < 5100


def test_resuming_with_another_model_is_refused(tiny, photos, tmp_path):
    """A checkpoint isn't continued with another network, quantizer, loss or data setting."""
    train(with_steps(tiny, 4), [photos], tmp_path, CPU)
    other = dataclasses.replace(tiny, quantizer=dataclasses.replace(tiny.quantizer, width=8))
    with pytest.raises(CheckpointError, match="other settings"):
        train(other, [photos], tmp_path, CPU)


def test_resuming_with_another_seed_is_refused(tiny, photos, tmp_path):
    """The seed is of what is random in the quantizer: half a run of each could not be repeated."""
    train(with_steps(tiny, 4), [photos], tmp_path, CPU)
    other = dataclasses.replace(tiny, run=dataclasses.replace(tiny.run, seed=1))
    with pytest.raises(CheckpointError, match="other settings"):
        train(other, [photos], tmp_path, CPU)


def test_resuming_with_fewer_steps_is_refused(tiny, photos, tmp_path):
    """A checkpoint of 8 steps is not written anew as one of 4."""
    last = train(with_steps(tiny, 8), [photos], tmp_path, CPU)
    before = last.read_bytes()
    with pytest.raises(CheckpointError, match=r"has done 8 steps.*\(4\)"):
        train(with_steps(tiny, 4), [photos], tmp_path, CPU)
    assert last.read_bytes() == before


def test_a_finished_run_stays_as_it_is(tiny, photos, tmp_path):
    """Its command run again, even with another learning rate, writes no other checkpoint."""
    last = train(with_steps(tiny, 4), [photos], tmp_path, CPU)
    before = last.read_bytes()
    other = dataclasses.replace(tiny.optimizer, steps=4, learning_rate=1.0)
    train(dataclasses.replace(tiny, optimizer=other), [photos], tmp_path, CPU)
    assert last.read_bytes() == before


def test_a_batch_that_cannot_be_shared_is_refused(tiny, photos, tmp_path):
    """8 crops over 3 processes: unequal shares would weigh unequally."""
    with pytest.raises(ConfigError, match="multiple of the 3 processes"):
        train(tiny, [photos], tmp_path, DistributedContext(torch.device("cpu"), 0, 3))


def test_nan_stops_the_run(tiny, photos, tmp_path):
    """A loss that is no number stops the run at once and keeps the last good checkpoint."""
    last = train(with_steps(tiny, 4), [photos], tmp_path, CPU)
    wild = dataclasses.replace(
        tiny.optimizer, steps=200, learning_rate=1e30, clip=1e30, warmup_steps=0
    )
    with pytest.raises(TrainingDiverged, match=r"last good checkpoint is .*last\.pt"):
        train(dataclasses.replace(tiny, optimizer=wild), [photos], tmp_path, CPU)
    assert all(torch.isfinite(tensor).all() for tensor in weights(last).values())


def test_a_gradient_of_nan_reaches_no_checkpoint(tiny, photos, tmp_path, monkeypatch):
    """With a sound loss and a gradient that is none, the weights stay those of the step before."""
    forward, calls = Losses.forward, []

    def sharp(self, output, pixels):
        loss, terms = forward(self, output, pixels)
        calls.append(1)
        # The root's slope at zero is infinite, and infinity times zero is NaN.
        return loss + ((0 * output.reconstruction).sum().sqrt() if len(calls) == 4 else 0), terms

    monkeypatch.setattr(Losses, "forward", sharp)
    run = dataclasses.replace(tiny.run, checkpoint_every=1)
    with pytest.raises(TrainingDiverged, match=r"norm nan.*last good checkpoint is .*last\.pt"):
        train(dataclasses.replace(tiny, run=run), [photos], tmp_path, CPU)
    assert load_checkpoint(tmp_path / "last.pt").step == 3
    assert all(torch.isfinite(t).all() for t in weights(tmp_path / "last.pt").values())


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


@pytest.mark.timeout(400)  # three processes that start one after the other, on a busy machine
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
        # Restarts would amplify rounding to a difference; the test below is of them alone.
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
        timeout=300,
    )
    one, two = weights(tmp_path / "one" / "last.pt"), weights(tmp_path / "two" / "last.pt")
    for name, wanted in one.items():
        if name.startswith("model.") and wanted.is_floating_point():
            difference = (two[name] - wanted).norm() / wanted.norm().clamp_min(1e-6)
            assert difference < 0.05, name


_HALF_A_BATCH = """
import sys, torch
from training.tokenizer.config import NearestConfig
from training.tokenizer.progress import Heartbeat
from training.tokenizer.quantizers import NearestQuantizer
rank, folder = int(sys.argv[1]), sys.argv[2]
torch.distributed.init_process_group(
    "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2
)
torch.manual_seed(0)
quantizer = NearestQuantizer(NearestConfig(size=64, width=4, restart_below=0.5)).train()
for step, latents in enumerate(torch.load(f"{folder}/latents.pt")):
    quantizer(latents.chunk(2)[rank], step)
torch.save(quantizer.state_dict(), f"{folder}/{rank}.pt")
torch.distributed.destroy_process_group()
"""


@pytest.mark.timeout(300)
def test_dead_codes_restart_alike_in_two_processes(tmp_path):
    """Each sees half of the latents; both move the same codes to where one process would."""
    latents = torch.randn(4, 4, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    torch.save(latents, tmp_path / "latents.pt")
    processes = [
        subprocess.Popen([sys.executable, "-c", _HALF_A_BATCH, str(rank), str(tmp_path)])
        for rank in (0, 1)
    ]
    assert [process.wait(250) for process in processes] == [0, 0]

    def alone(restart_below):
        torch.manual_seed(0)
        config = NearestConfig(size=64, width=4, restart_below=restart_below)
        quantizer = NearestQuantizer(config).train()
        for step, batch in enumerate(latents):
            quantizer(batch, step)
        return quantizer.state_dict()

    wanted = alone(0.5)
    assert not torch.allclose(wanted["codebook"], alone(0.0)["codebook"])  # codes did restart
    for rank in (0, 1):
        made = torch.load(tmp_path / f"{rank}.pt")
        for name in ("codebook", "counts", "sums"):
            torch.testing.assert_close(made[name], wanted[name], msg=f"{name} of process {rank}")


def test_signal_saves_and_exits(photos, tmp_path):
    """SIGTERM ends the command with exit code 130 and a checkpoint, whatever the step."""
    command = [sys.executable, "-m", "training.train", "tiny", "--data", str(photos)]
    command += ["--out", str(tmp_path), "--set", "optimizer.steps=100000", "--set", "data.crop=32"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, **pipes, text=True) as process:
        for line in process.stdout:
            if line.startswith("step 20 "):
                break
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read()
    assert process.returncode == 130
    assert "stopped after step" in rest
    assert load_checkpoint(tmp_path / "last.pt").step >= 20


@pytest.mark.filterwarnings("ignore:`torch.jit.load`:DeprecationWarning")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["photo-f9", "--data", "."], "no preset"),
        (["tiny", "--data", "/nowhere"], "not a folder"),
        (["tiny", "--data", ".", "--set", "data.crop=33"], "multiple of the stride"),
        (["tiny", "--data", ".", "--device", "gpu"], "auto, cpu, cuda or cuda:N"),
        (["tiny", "--data", ".", "--device", "cuda:1000"], "auto, cpu, cuda or cuda:N"),
        (["tiny", "--data", ".", "--device", "cuda:999"], "isn't there"),
        (
            [
                "tiny",
                "--data",
                "{photos}",
                "--set",
                "loss.lpips=1.0",
                "--set",
                "loss.lpips_weights=/nowhere/lpips.pt",
            ],
            "not a readable TorchScript file",
        ),
    ],
)
def test_bad_command_lines(arguments, words, photos, capsys, tmp_path):
    """What can't be done ends with exit code 2 and one line that says why."""
    arguments = [argument.format(photos=photos) for argument in arguments]
    assert main([*arguments, "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_cuda_without_a_card_is_refused(monkeypatch):
    """Instead of torch's own trace, wherever torch can't use CUDA."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="can use 0 CUDA devices"):
        choose_context("cuda")
    assert choose_context("auto").device == torch.device("cpu")


class FullDisk(io.RawIOBase):
    """A file that takes a thousand bytes."""

    room = 1000

    def writable(self):
        return True

    def write(self, content):
        self.room -= len(content)
        if self.room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return len(content)


@pytest.mark.parametrize("fault", ["no folder", "full disk"])
def test_what_cannot_be_written_is_one_line(fault, photos, capsys, tmp_path, monkeypatch):
    """Exit code 2 and the system's reason, and no half of a checkpoint is left."""
    out = tmp_path / "run"
    if fault == "no folder":
        out.write_text("a file")
    else:
        monkeypatch.setattr("training.tokenizer.checkpoint.os.fdopen", lambda *_: FullDisk())
    settings = ["--set", "optimizer.steps=1", "--set", "data.crop=32"]
    assert main(["tiny", "--data", str(photos), "--out", str(out), *settings]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert list(tmp_path.rglob("*last.pt*")) == []


SHORT = ["--set", "optimizer.steps=2", "--set", "data.crop=32", "--set", "optimizer.batch=4"]


def test_a_finished_run_names_the_next_command(photos, tmp_path, capsys):
    """That command is run as it was printed, but for the folder that it writes to."""
    out = tmp_path / "run"
    assert main(["tiny", "--data", str(photos), "--out", str(out), *SHORT]) == 0
    *_, finished, following = capsys.readouterr().out.splitlines()
    assert finished == f"finished: 2 steps, {out / 'last.pt'}"
    command = following.removeprefix("next: ").split()
    assert command[:3] == ["python", "-m", "training.export"]
    options = parse_export_arguments(command[3:])
    assert options.data == [photos]
    assert options.checkpoint == out / "last.pt"


def test_short_runs_validate_at_their_end(tiny, photos, tmp_path, capfd):
    """Twelve steps with a validation every thousand: one, after the last step."""
    rare = dataclasses.replace(tiny, run=dataclasses.replace(tiny.run, validate_every=1000))
    train(rare, [photos], tmp_path, CPU)
    lines = [line for line in capfd.readouterr().out.splitlines() if " psnr " in line]
    assert len(lines) == 1
    assert lines[0].startswith("step 12 ")


def test_no_held_out_images_is_said(tiny, photos, tmp_path, capfd):
    """And there is no validation, but a checkpoint."""
    none = dataclasses.replace(tiny.data, validation_fraction=0.0)
    train(dataclasses.replace(with_steps(tiny, 2), data=none), [photos], tmp_path, CPU)
    output = capfd.readouterr().out
    assert "no image is held out, so that there will be no validation" in output
    assert " psnr " not in output


def test_images_smaller_than_the_crop_are_said(tiny, photos, tmp_path, capfd):
    """How many, what becomes of them, and which setting is about it."""
    wide = dataclasses.replace(with_steps(tiny, 1), data=dataclasses.replace(tiny.data, crop=256))
    train(wide, [photos], tmp_path, CPU)
    warning = next(x for x in capfd.readouterr().out.splitlines() if x.startswith("warning: "))
    assert "smaller than a crop of 256×256 and are enlarged to it; data.crop sets" in warning


def test_a_plain_autoencoder_has_no_figures_of_codes(tiny, photos, tmp_path, capfd):
    """Not in training, and not in validation."""
    plain = dataclasses.replace(tiny, quantizer=NoQuantizerConfig(width=tiny.quantizer.width))
    train(plain, [photos], tmp_path, CPU)
    output = capfd.readouterr().out
    assert " mse " in output
    assert " psnr " in output
    assert "used" not in output
    assert "perplexity" not in output


def test_used_codes_are_counted(tiny, photos, tmp_path, capfd):
    """So many of so many, of each stage."""
    quantizer = dataclasses.replace(tiny.quantizer, residual_sizes=(8,))
    train(dataclasses.replace(tiny, quantizer=quantizer), [photos], tmp_path, CPU)
    lines = [x for x in capfd.readouterr().out.splitlines() if " mse " in x or " psnr " in x]
    assert len(lines) == 5
    for line in lines:
        assert re.search(r"  \d+ of 256 codes used  .*  \d of 8 codes of stage 2 used  ", line)


def test_a_long_run_without_a_terminal_says_where_it_is(monkeypatch):
    """Every ten seconds if nothing else was said."""
    now, output = [0.0], io.StringIO()
    monkeypatch.setattr("training.tokenizer.progress.time.monotonic", lambda: now[0])
    heartbeat = Heartbeat(Console(file=output), 500)
    for step in range(1, 9):
        now[0] += 4
        heartbeat.beat(step)
    assert output.getvalue() == "step 3 of 500\nstep 6 of 500\n"


def test_phases_are_named_in_the_log(tiny, photos, tmp_path, capfd):
    """With their steps and crops."""
    phases = (PhaseConfig("first", 2), PhaseConfig("second", 3, crop=48, batch=4))
    train(dataclasses.replace(tiny, phases=phases), [photos], tmp_path, CPU)
    output = capfd.readouterr().out
    assert "phase first: steps 0 to 2, 8 crops of 32×32, decoder decoder" in output
    assert "phase second: steps 2 to 5, 4 crops of 48×48, decoder decoder" in output


def test_a_discriminator_that_collapses_stops_the_run(tiny, photos, tmp_path, monkeypatch):
    """The last good checkpoint stays, and the error names it."""
    adversarial = LossConfig(adversarial=1.0, discriminator="patch")
    config = dataclasses.replace(tiny, loss=adversarial)

    def collapse(_self, _loss, _share):
        raise DiscriminatorCollapsed("always right")

    monkeypatch.setattr("training.tokenizer.discriminator.CollapseWatch.look", collapse)
    # The watch begins when the discriminator has learnt alone for so many steps.
    defaults = Adversary.__init__.__kwdefaults__
    monkeypatch.setitem(defaults, "warmup", 0)
    with pytest.raises(DiscriminatorCollapsed, match="always right; there is no checkpoint"):
        train(config, [photos], tmp_path, CPU)


def test_a_run_stops_when_its_time_is_over(photos, tmp_path, capsys):
    """With a checkpoint and exit code 130, as after a signal; the same command goes on."""
    arguments = ["tiny", "--data", str(photos), "--out", str(tmp_path), *SHORT]
    assert main([*arguments, "--minutes", "0"]) == 130
    assert "stopped after step 1 of 2; the same command resumes" in capsys.readouterr().err
    assert load_checkpoint(tmp_path / "last.pt").step == 1
    assert main(arguments) == 0


def test_larger_batches(photos, tmp_path):
    """Four times as many crops a step, twice the learning rate, the same number of steps."""
    arguments = ["tiny", "--data", str(photos), "--out", str(tmp_path), *SHORT]
    assert main([*arguments, "--batch-factor", "4"]) == 0
    state = load_checkpoint(tmp_path / "last.pt")
    assert state.config.optimizer.batch == 16
    assert state.config.optimizer.learning_rate == 2 * 2e-3
    assert state.facts["images_seen"] == 2 * 16


def test_larger_batches_of_phases(tiny):
    """What a phase sets grows with the rest; what it doesn't set stays unset."""
    phases = (PhaseConfig("a", 3, batch=2), PhaseConfig("b", 4, learning_rate=1.0))
    grown = with_larger_batches(dataclasses.replace(tiny, phases=phases), 4)
    assert grown.phases == (PhaseConfig("a", 3, batch=8), PhaseConfig("b", 4, learning_rate=2.0))
