"""`python -m training.train PRESET_OR_TOML --data DIR`: trains a tokenizer.

One process, or several under `torchrun`: each takes its share of every batch,
so that the result is that of one process with the same batch, up to rounding.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from rich.console import Console
from torch.utils.tensorboard import SummaryWriter

from training.data.dataset import Crops, DataError, find_images, split, tell_broken
from training.data.metrics import CodeCounter
from training.tokenizer.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    save_checkpoint,
)
from training.tokenizer.config import Config, ConfigError
from training.tokenizer.config_file import load_config, override
from training.tokenizer.distributed import Place, choose_place, keep_freed_memory, stop_signal
from training.tokenizer.progress import Stopwatch, figures_of, log, progress, tell_data, validate
from training.tokenizer.trainer import Learner, TrainingDiverged


def train(config: Config, data: list[Path], out: Path, place: Place) -> Path:
    """Trains a model, or goes on from `out/last.pt` where that exists.

    Args:
        config: of the run. A resumed run may have other settings of the optimizer and, but
            for the seed, of the run; that all others are its checkpoint's is checked.
        data: folders with images.
        out: folder for checkpoints and TensorBoard files.
        place: device and process.

    Returns:
        Path of the last checkpoint. A SIGTERM or SIGINT ends the run early, after
        the step in progress, with a checkpoint at exactly that step.

    Raises:
        ConfigError: the batch can't be shared equally by the processes, or the LPIPS
            network can't be read.
        DataError: nothing to train on.
        CheckpointError: `out/last.pt` can't be continued with this configuration.
        TrainingDiverged: the loss or the gradient became NaN or infinite.
        OSError: `out` can't be written to.
    """
    if config.optimizer.batch % place.processes:
        # Gradients are averaged over the processes: unequal shares would weigh unequally.
        raise ConfigError(
            f"optimizer.batch ({config.optimizer.batch}) must be a multiple of the "
            f"{place.processes} processes that share it"
        )
    console = Console(quiet=place.rank > 0, soft_wrap=True)
    folder = find_images(data)
    training_images, validation_images = split(folder, config.data.validation_fraction)
    tell_data(console, folder, training_images, validation_images)
    crops = Crops(
        training_images,
        crop=config.data.crop,
        flip=config.data.flip,
        seed=config.data.seed,
        cache_gib=config.data.cache_gib / place.processes,
    )

    last, steps = out / "last.pt", config.optimizer.steps
    resumed = _resumable(last, config) if last.exists() else None
    first_step = 0
    facts: dict[str, Any] = {"images_seen": 0, "seconds": 0.0, "images": len(folder.paths)}
    if resumed is not None:
        first_step, facts = resumed.step, resumed.facts
        console.print(f"resuming {last} at step {first_step}")
    learner = Learner(config, place, resumed)
    board = SummaryWriter(str(out / "tensorboard")) if place.rank == 0 else None
    batches = crops.batches(first_step, steps, config.optimizer.batch, place.rank, place.processes)
    used = CodeCounter(config.quantizer.size)
    watch = Stopwatch(facts["seconds"])
    with stop_signal(place) as stopping, progress(console, config, first_step) as advance:
        for done, pixels in enumerate(batches, first_step + 1):
            try:
                taken = learner.step(done - 1, pixels)
            except TrainingDiverged as error:
                kept = "there is no checkpoint"
                if last.exists():
                    kept = f"the last good checkpoint is {last}"
                raise TrainingDiverged(
                    f"{error}; {kept}. A lower optimizer.learning_rate or optimizer.clip "
                    "usually helps"
                ) from error
            watch.step()
            facts["images_seen"] += config.optimizer.batch
            used.add(taken.codes)
            if done % config.run.log_every == 0:
                figures = figures_of(taken, used, learner.optimizer)
                figures["speed/images_per_second"] = config.optimizer.batch * watch.pace()
                log(console, board, figures, done)
                used = CodeCounter(config.quantizer.size)
            if done % config.run.validate_every == 0 and board is not None:
                with watch.aside():
                    validate(
                        learner.averaged, validation_images, board, console, done, place.device
                    )
            stop = stopping()
            wanted = done % config.run.checkpoint_every == 0 or done == steps or stop
            if wanted and place.rank == 0:
                with watch.aside():
                    facts["seconds"] = watch.seconds()
                    save_checkpoint(last, learner.checkpoint(done, facts))
            advance(done)
            if stop:
                console.print(f"stopped by a signal after step {done}; the same command resumes")
                break
    if board is not None:
        board.close()
    tell_broken(crops.broken, console.print)
    return last


def _resumable(path: Path, config: Config) -> Checkpoint:
    state = load_checkpoint(path)
    # How long and how fast may change on the way; what is learnt from what may not.
    run = dataclasses.replace(config.run, seed=state.config.run.seed)
    if dataclasses.replace(state.config, optimizer=config.optimizer, run=run) != config:
        raise CheckpointError(
            f"{path} was made with other settings than these; choose another --out, "
            "or give the same preset, file and --set as before"
        )
    if state.step > config.optimizer.steps:
        raise CheckpointError(
            f"{path} has done {state.step} steps, more than optimizer.steps "
            f"({config.optimizer.steps}); choose another --out, or at least as many"
        )
    return state


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line; see `--help`."""
    parser = argparse.ArgumentParser(
        prog="python -m training.train",
        description="Trains a tokenizer on folders of images. The same command run again "
        "goes on from the last checkpoint; SIGTERM and Ctrl-C save one first.",
        epilog="Then: python -m training.evaluate OUT/last.pt --data DIR, and "
        "python -m training.export OUT/last.pt --data DIR --out models/NAME.",
    )
    parser.add_argument(
        "config", help="a preset (photo-f8, photo-f16, small-f4, tiny) or the path of a TOML file"
    )
    parser.add_argument(
        "--data",
        type=Path,
        action="append",
        required=True,
        metavar="DIR",
        help="a folder of images, searched at any depth; may be given several times",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: runs/NAME")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a setting, such as optimizer.steps=5000; may be given several times",
    )
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)"
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Parses the command line and trains; 0 if that went well, 2 if it can't be."""
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    try:
        keep_freed_memory()
        config = override(load_config(options.config), options.set)
        place = choose_place(options.device)
        last = train(config, options.data, options.out or Path("runs") / config.name, place)
    except (ConfigError, DataError, CheckpointError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except TrainingDiverged as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    print(f"checkpoint: {last}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
