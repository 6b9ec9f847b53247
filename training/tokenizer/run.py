"""A run of training from its first step to its last, or from where it was stopped."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from torch.utils.tensorboard import SummaryWriter

from training.data.dataset import Folder, Pixels, find_images, report_broken, split
from training.data.mixture import Mixture
from training.data.synthetic import FontError, Synthetic, find_fonts
from training.tokenizer.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    save_checkpoint,
)
from training.tokenizer.config import Config, ConfigError, DataConfig
from training.tokenizer.discriminator import DiscriminatorCollapsed
from training.tokenizer.distributed import DistributedContext, stop_signal
from training.tokenizer.initial_weights import InitialWeights
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

# Drawn pictures that are validated on, of a seed of their own.
_DRAWN, _DRAWN_SEED = 32, 0xD7A7


class TrainingInterrupted(Exception):
    """A signal ended the run early; its checkpoint is of exactly the step in which it came."""


def train(
    config: Config,
    data: list[Path],
    out: Path,
    context: DistributedContext,
    start: InitialWeights | None = None,
) -> Path:
    """Trains a model, or goes on from `out/last.pt` where that exists.

    Args:
        config: of the run. A resumed run may have other settings of the optimizer, of the phases
            that aren't over and, but for the seed, of the run; that all others are its
            checkpoint's is checked.
        data: folders with images.
        out: folder for checkpoints and TensorBoard files.
        context: device and process.
        start: trained weights to begin from; a resumed run has them already.

    Returns:
        Path of the last checkpoint.

    Raises:
        TrainingInterrupted: a SIGTERM or SIGINT came; there is a checkpoint of that step.
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
    folder = find_images(data)
    images, held_out = split(folder, config.data.validation_fraction)
    report_data(console, folder, images, held_out)

    last = out / "last.pt"
    resumed = _resumable(last, config) if last.exists() else None
    done = 0
    facts: dict[str, Any] = {"images_seen": 0, "seconds": 0.0, "images": len(folder.paths)}
    trainer = Trainer(config, context, resumed)
    if resumed is not None:
        done, facts = resumed.step, resumed.facts
        console.print(f"resuming {last} at step {done} of {config.steps}")
    elif start is not None:
        for line in [f"beginning from {start.name}", *trainer.start_from(start)]:
            console.print(line)
        facts["started_from"] = start.facts()
    drawing = _Drawing(config, console.print)
    board = SummaryWriter(str(out / "tensorboard")) if context.rank == 0 else None
    used = StageCounters(config.quantizer)
    watch, heartbeat = Stopwatch(facts["seconds"]), Heartbeat(console, config.steps)
    with stop_signal(context) as stopping, progress(console, config, done) as advance:
        while done < config.steps:
            phase = config.phase_of(done)
            settings, batch = phase.config.data, phase.config.optimizer.batch
            if phase.name:
                console.print(
                    f"phase {phase.name}: steps {phase.first} to {phase.last}, {batch} crops of "
                    f"{settings.crop}×{settings.crop}, decoder {phase.decoder}"
                )
            crops = _crops_of(settings, images, drawing, context, console)
            drawn = drawing.held_out(settings)
            share = (batch, context.rank, context.processes)
            for pixels in crops.batches(done, phase.last, *share):
                try:
                    result = trainer.step(done, pixels)
                except (TrainingDiverged, DiscriminatorCollapsed) as error:
                    raise type(error)(_advice(error, last)) from error
                done += 1
                watch.step()
                facts["images_seen"] += batch
                _remember(facts, trainer)
                used.add(result.codes)
                if done % config.run.log_every == 0:
                    figures = figures_of(result, used, trainer.optimizer)
                    figures["speed/images_per_second"] = batch * watch.pace()
                    log(console, board, figures, done)
                    heartbeat.said()
                    used = StageCounters(config.quantizer)
                heartbeat.beat(done)
                ending = done == phase.last
                if (done % config.run.validate_every == 0 or ending) and board is not None:
                    with watch.aside():
                        figures = validate(
                            trainer.averaged,
                            held_out,
                            board,
                            console.print,
                            done,
                            context.device,
                            phase.decoder,
                            drawn,
                        )
                        log(console, board, figures, done)
                stop = stopping()
                wanted = done % config.run.checkpoint_every == 0 or ending or stop
                if wanted and context.rank == 0:
                    with watch.aside():
                        facts["seconds"] = watch.seconds()
                        save_checkpoint(last, trainer.checkpoint(done, facts))
                advance(done)
                if stop and done < config.steps:
                    raise TrainingInterrupted(
                        f"stopped by a signal after step {done} of {config.steps}; "
                        "the same command resumes"
                    )
            report_broken(crops.broken, console.print)
    if board is not None:
        board.close()
    return last


class _Drawing:
    """Draws synthetic crops, where a configuration asks for any."""

    def __init__(self, config: Config, report: Callable[[str], object]) -> None:
        shares = [phase.config.data.synthetic for phase in config.resolved_phases()]
        self._fonts = None
        if max(shares) > 0:
            try:
                self._fonts = find_fonts(tell=report)
            except FontError as error:
                raise ConfigError(str(error)) from error

    def of(self, settings: DataConfig) -> Synthetic | None:
        """What draws crops for training."""
        if self._fonts is None:
            return None
        return Synthetic(settings.seed, settings.crop, self._fonts)

    def held_out(self, settings: DataConfig) -> Pixels | None:
        """Pictures that the training doesn't see: uint8 `[n, crop, crop, 3]`."""
        if settings.synthetic == 0 or self._fonts is None:
            return None
        synthetic = Synthetic(_DRAWN_SEED, settings.crop, self._fonts)
        return np.stack([synthetic.crop_of(0, index) for index in range(_DRAWN)])


def _crops_of(
    settings: DataConfig,
    images: Folder,
    drawing: _Drawing,
    context: DistributedContext,
    console: Console,
) -> Mixture:
    """Crops for a phase; says where images are smaller than those."""
    synthetic = drawing.of(settings)
    crops = Mixture(
        images,
        crop=settings.crop,
        flip=settings.flip,
        seed=settings.seed,
        cache_gib=settings.cache_gib / context.processes,
        enlarge=settings.enlarge,
        synthetic=settings.synthetic,
        colour_jitter=settings.colour_jitter,
        draw=None if synthetic is None else synthetic.crop_of,
    )
    if crops.smaller:
        done = "enlarged to it" if settings.enlarge else "left out"
        console.print(
            f"warning: {crops.smaller} of {len(images.paths)} images are smaller than a crop of "
            f"{settings.crop}×{settings.crop} and are {done}; data.crop sets its side"
        )
    return crops


def _check_shares(config: Config, processes: int) -> None:
    for phase in config.resolved_phases():
        batch = phase.config.optimizer.batch
        if batch % processes:
            # Gradients are averaged over the processes: unequal shares would weigh unequally.
            raise ConfigError(
                f"optimizer.batch ({batch}) must be a multiple of the {processes} processes "
                "that share it"
            )


def _remember(facts: dict[str, Any], trainer: Trainer) -> None:
    """Notes the frozen networks that took part, for the model card."""
    known = facts.setdefault("networks", [])
    known += [network for network in trainer.networks if network not in known]


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
    past, now = (_phases_until(c, state.step) for c in (state.config, config))
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


def _phases_until(config: Config, step: int) -> list[Any]:
    """What may no longer change of the phases: those that are over, and who learns in this one."""
    phases = config.resolved_phases() if config.phases else ()
    over = [phase for phase in phases if phase.last <= step]
    now = [phase for phase in phases if phase.first < step < phase.last]
    return [
        *[(p.name, p.first, p.last) for p in over],
        *[(p.name, p.first, p.decoder, p.config.optimizer.freeze) for p in now],
    ]
