"""A run of training from its first step to its last, or from where it was stopped."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from torch.utils.tensorboard import SummaryWriter

from training.data.dataset import Folder, Pixels, find_images, report_broken, split
from training.tokenizer.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    save_checkpoint,
)
from training.tokenizer.config import Config, ConfigError, Phase
from training.tokenizer.discriminator import DiscriminatorCollapsed
from training.tokenizer.distributed import DistributedContext, stop_signal
from training.tokenizer.initial_weights import InitialWeights
from training.tokenizer.model import Tokenizer
from training.tokenizer.phase_crops import Drawing, crops_of
from training.tokenizer.progress import (
    Heartbeat,
    StageCounters,
    Stopwatch,
    figures_of,
    log,
    progress,
    report_data,
)
from training.tokenizer.trainer import Trainer, TrainingDiverged
from training.tokenizer.validation import validate


class TrainingInterrupted(Exception):
    """A signal or the time ended the run early; there is a checkpoint of exactly that step."""


def train(
    config: Config,
    data: list[Path] | Folder,
    out: Path,
    context: DistributedContext,
    start: InitialWeights | None = None,
    minutes: float | None = None,
    model: Tokenizer | None = None,
) -> Path:
    """Trains a model, or goes on from `out/last.pt` where that exists.

    Args:
        config: of the run. A resumed run may have other settings of the optimizer, of the phases
            that aren't over and, but for the seed, of the run; that all others are its
            checkpoint's is checked.
        data: folders with images, or the images that were found already.
        out: folder for checkpoints and TensorBoard files.
        context: device and process.
        start: trained weights to begin from; a resumed run has them already.
        minutes: after which the run is interrupted, as by a signal.
        model: to train; None makes the one that the configuration describes.

    Returns:
        Path of the last checkpoint.

    Raises:
        TrainingInterrupted: a SIGTERM or SIGINT came, or the time was over; there is a checkpoint
            of that step.
        ConfigError: a batch can't be shared equally by the processes, a frozen network can't be
            read, or `start` doesn't fit.
        DataError: nothing to train on.
        CheckpointError: `out/last.pt` can't be continued with this configuration.
        TrainingDiverged: the loss or the gradient became NaN or infinite.
        DiscriminatorCollapsed: the discriminator no longer teaches anything.
        OSError: `out` can't be written to.
    """
    _check_shares(config, context.processes)
    console = Console(quiet=context.rank > 0, soft_wrap=True)
    folder = data if isinstance(data, Folder) else find_images(data, config.data.samples)
    images, held_out = split(folder, config.data.validation_fraction)
    report_data(console, folder, images, held_out)
    last = out / "last.pt"
    resumed = _resumable(last, config) if last.exists() else None
    trainer = Trainer(config, context, resumed, model)
    facts: dict[str, Any] = {"images_seen": 0, "seconds": 0.0, "images": len(folder.paths)}
    done = 0
    if resumed is not None:
        done, facts = resumed.step, resumed.facts
        console.print(f"resuming {last} at step {done} of {config.steps}")
    elif start is not None:
        for line in [f"beginning from {start.name}", *trainer.start_from(start)]:
            console.print(line)
        facts["started_from"] = start.facts()
        facts["networks"] = list(start.networks)
    loop = _Loop(config, context, trainer, console, last, facts)
    try:
        with stop_signal(context, minutes) as stopping, progress(console, config, done) as advance:
            for phase in config.resolved_phases():
                if done < phase.last:
                    loop.run_phase(
                        phase, max(done, phase.first), images, held_out, stopping, advance
                    )
    finally:
        loop.close()
    return last


class _Loop:
    """Steps, and after them what the settings ask for: lines, validations, checkpoints.

    Args:
        config: of the run.
        context: device and process.
        trainer: at the step that comes next.
        console: to print to.
        last: the checkpoint's path.
        facts: of the run so far; counted on in place.
    """

    def __init__(
        self,
        config: Config,
        context: DistributedContext,
        trainer: Trainer,
        console: Console,
        last: Path,
        facts: dict[str, Any],
    ) -> None:
        self._config, self._context, self._trainer = config, context, trainer
        self._console, self._last, self._facts = console, last, facts
        self._drawing = Drawing(config, console.print)
        self._board = SummaryWriter(str(last.parent / "tensorboard")) if context.rank == 0 else None
        self._used = StageCounters(config.quantizer)
        self._watch = Stopwatch(facts["seconds"])
        self._heartbeat = Heartbeat(console, config.steps)

    def run_phase(
        self,
        phase: Phase,
        first: int,
        images: Folder,
        held_out: Folder,
        stopping: Callable[[], bool],
        advance: Callable[[int], None],
    ) -> None:
        """The steps of a phase from `first` on.

        Raises:
            TrainingInterrupted: `stopping` said so; there is a checkpoint of that step.
        """
        run, context = self._config.run, self._context
        settings, batch = phase.config.data, phase.config.optimizer.batch
        if phase.name:
            self._console.print(
                f"phase {phase.name}: steps {phase.first} to {phase.last}, {batch} crops of "
                f"{settings.crop}×{settings.crop}, decoder {phase.decoder}"
            )
        crops = crops_of(settings, images, self._drawing, context, self._console)
        drawn = self._drawing.held_out(settings)
        if first == 0 and "started_from" in self._facts:
            self._validate(phase, held_out, drawn, 0)  # what there is to gain
        share = (batch, context.rank, context.processes)
        batches = crops.batches(first, phase.last, *share, workers=run.data_workers)
        for done, pixels in enumerate(batches, first + 1):
            self._step(done - 1, pixels, batch)
            if done % run.log_every == 0:
                self._log_step(batch, done)
            self._heartbeat.beat(done)
            ending = done == phase.last
            if done % run.validate_every == 0 or ending:
                self._validate(phase, held_out, drawn, done)
            stop = stopping()
            if done % run.checkpoint_every == 0 or ending or stop:
                self._save(done)
            advance(done)
            if stop and done < self._config.steps:
                raise TrainingInterrupted(
                    f"stopped after step {done} of {self._config.steps}; the same command resumes"
                )
        report_broken(crops.broken, self._console.print)

    def close(self) -> None:
        """Closes TensorBoard's file."""
        if self._board is not None:
            self._board.close()

    def _step(self, number: int, pixels: Pixels, batch: int) -> None:
        try:
            self._result = self._trainer.step(number, pixels)
        except (TrainingDiverged, DiscriminatorCollapsed) as error:
            raise type(error)(_advice(error, self._last)) from error
        self._watch.step()
        self._facts["images_seen"] += batch
        known = self._facts.setdefault("networks", [])
        known += [network for network in self._trainer.networks if network not in known]
        self._used.add(self._result.codes)

    def _log_step(self, batch: int, done: int) -> None:
        figures = figures_of(self._result, self._used, self._trainer.optimizer)
        figures["speed/images_per_second"] = batch * self._watch.pace()
        log(self._console, self._board, figures, done, self._used.words())
        self._heartbeat.said()
        self._used = StageCounters(self._config.quantizer)

    def _validate(self, phase: Phase, held_out: Folder, drawn: Pixels | None, done: int) -> None:
        if self._board is None:
            return
        averaged, device, report = self._trainer.averaged, self._context.device, self._console.print
        with self._watch.aside():
            figures, codes = validate(
                averaged, held_out, self._board, report, done, device, phase.decoder, drawn
            )
            if figures:
                log(self._console, self._board, figures, done, codes)

    def _save(self, done: int) -> None:
        if self._context.rank == 0:
            with self._watch.aside():
                self._facts["seconds"] = self._watch.seconds()
                save_checkpoint(self._last, self._trainer.checkpoint(done, self._facts))


def _check_shares(config: Config, processes: int) -> None:
    for phase in config.resolved_phases():
        batch = phase.config.optimizer.batch
        if batch % processes:
            # Gradients are averaged over the processes: unequal shares would weigh unequally.
            raise ConfigError(
                f"optimizer.batch ({batch}) must be a multiple of the {processes} processes "
                "that share it"
            )


def _advice(error: Exception, last: Path) -> str:
    kept = f"the last good checkpoint is {last}" if last.exists() else "there is no checkpoint"
    return f"{error}; {kept}. A lower learning_rate or optimizer.clip usually helps"


def _resumable(path: Path, config: Config) -> Checkpoint:
    state = load_checkpoint(path)
    # How long and how fast may change on the way; what is learnt from what may not.
    run = dataclasses.replace(config.run, seed=state.config.run.seed)
    same = dataclasses.replace(
        state.config, optimizer=config.optimizer, run=run, phases=config.phases
    )
    past, now = (_settled(c, state.step) for c in (state.config, config))
    if same != config or past != now:
        raise CheckpointError(
            f"{path} was made with other settings than these; choose another --out, "
            "or give the same preset, file and --set as before"
        )
    if state.step > config.steps:
        raise CheckpointError(
            f"{path} has done {state.step} steps, more than optimizer.steps "
            f"({config.steps}); choose another --out, or at least as many"
        )
    return state


def _settled(config: Config, step: int) -> list[Any]:
    """What may no longer change after so many steps: the phases before, and how this one learns."""
    if not config.phases:
        return [config.optimizer.kind]
    phases = config.resolved_phases()
    over = [phase for phase in phases if phase.last <= step]
    now = [phase for phase in phases if phase.first < step < phase.last]
    return [
        *[(p.name, p.first, p.last) for p in over],
        *[
            (p.name, p.first, p.decoder, p.config.optimizer.freeze, p.config.optimizer.kind)
            for p in now
        ],
    ]
