"""`python -m training.train PRESET_OR_TOML --data DIR`: trains a tokenizer.

One process, or several under `torchrun`: each takes its share of every batch,
so that the result is that of one process with the same batch, up to rounding.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import math
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from rich.console import Console
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.tensorboard import SummaryWriter

from training.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from training.config import Config, ConfigError, OptimizerConfig
from training.configfile import load_config, override
from training.data import Crops, DataError, find_images, split, tell_broken
from training.losses import Losses
from training.metrics import CodeCounter
from training.model import Tokenizer, to_float
from training.place import Place, choose_place, keep_freed_memory, stop_signal
from training.progress import Stopwatch, figures_of, log, progress, tell_data, validate


class TrainingDiverged(ArithmeticError):
    """Loss or gradient is no longer a number; the last good checkpoint is kept."""


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

    torch.manual_seed(config.run.seed)
    model = Tokenizer(config).to(place.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    averaged = copy.deepcopy(model).requires_grad_(requires_grad=False).eval()
    optimizer = _make_optimizer(model, config.optimizer)
    last = out / "last.pt"
    first_step, steps = 0, config.optimizer.steps
    facts: dict[str, Any] = {"images_seen": 0, "seconds": 0.0, "images": len(folder.paths)}
    if last.exists():
        first_step, facts = _resume(last, config, model, averaged, optimizer)
        console.print(f"resuming {last} at step {first_step}")
    if config.run.compile:
        model.encoder.compile()
        model.decoder.compile()
    forward: nn.Module = DistributedDataParallel(model) if place.processes > 1 else model
    losses = Losses(config.loss, config.quantizer).to(place.device)
    board = SummaryWriter(str(out / "tensorboard")) if place.rank == 0 else None

    def checkpoint(step: int) -> None:
        if place.rank == 0:
            facts["seconds"] = watch.seconds()
            state = Checkpoint(
                config,
                step,
                model.state_dict(),
                averaged.state_dict(),
                optimizer.state_dict(),
                facts,
            )
            save_checkpoint(last, state)

    batches = crops.batches(first_step, steps, config.optimizer.batch, place.rank, place.processes)
    used = CodeCounter(config.quantizer.size)
    watch = Stopwatch(facts["seconds"])
    with stop_signal(place) as stopping, progress(console, config, first_step) as advance:
        for step, pixels in enumerate(batches, first_step):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(config.optimizer, step)
            images = to_float(torch.from_numpy(pixels).to(place.device))
            images = images.contiguous(memory_format=torch.channels_last)
            with torch.autocast(place.device.type, torch.bfloat16, enabled=config.run.bf16):
                output = forward(images, step)
            loss, terms = losses(output, images)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(model.parameters(), config.optimizer.clip)
            _refuse_nan(loss, norm, step, last)
            optimizer.step()
            _average(averaged, model, config.optimizer.weight_ema, step)

            done = step + 1
            watch.step()
            facts["images_seen"] += config.optimizer.batch
            used.add(output.quantized.codes)
            if done % config.run.log_every == 0:
                figures = figures_of(loss, terms, norm, used, optimizer)
                figures["speed/images_per_second"] = config.optimizer.batch * watch.pace()
                log(console, board, figures, done)
                used = CodeCounter(config.quantizer.size)
            if done % config.run.validate_every == 0 and board is not None:
                with watch.aside():
                    validate(averaged, validation_images, board, console, done, place.device)
            stop = stopping()
            if done % config.run.checkpoint_every == 0 or done == steps or stop:
                with watch.aside():
                    checkpoint(done)
            advance(done)
            if stop:
                console.print(f"stopped by a signal after step {done}; the same command resumes")
                break
    if board is not None:
        board.close()
    tell_broken(crops.broken, console.print)
    return last


def learning_rate(config: OptimizerConfig, step: int) -> float:
    """Linear warm-up, then a cosine down to `final_learning_rate` × the peak at the last step."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    span = max(1, config.steps - config.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, (step - config.warmup_steps) / span)))
    floor = config.final_learning_rate
    return config.learning_rate * (floor + (1 - floor) * cosine)


def _make_optimizer(model: Tokenizer, config: OptimizerConfig) -> torch.optim.AdamW:
    kernels = [p for p in model.parameters() if p.ndim == 4]
    others = [p for p in model.parameters() if p.ndim != 4]
    return torch.optim.AdamW(
        [
            {"params": kernels, "weight_decay": config.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
        betas=config.betas,
    )


def _resume(
    path: Path, config: Config, model: Tokenizer, averaged: Tokenizer, optimizer: torch.optim.AdamW
) -> tuple[int, dict[str, Any]]:
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
    model.load_state_dict(state.model)
    averaged.load_state_dict(state.averaged)
    optimizer.load_state_dict(state.optimizer)
    return state.step, state.facts


@torch.no_grad()
def _average(averaged: Tokenizer, model: Tokenizer, decay: float, step: int) -> None:
    """Moves the average by one step; early on it forgets faster, or it would stay at the start."""
    decay = min(decay, (1 + step) / (10 + step))
    targets, sources = averaged.state_dict(), model.state_dict()
    for name, target in targets.items():
        if target.is_floating_point() and not name.startswith("quantizer."):
            target.lerp_(sources[name], 1 - decay)
        else:
            target.copy_(sources[name])


def _refuse_nan(loss: Tensor, norm: Tensor, step: int, last: Path) -> None:
    # One look at both, since on CUDA each waits for the step. A gradient of NaN with a sound
    # loss would reach the weights, and the averaged ones, a step before the loss shows it.
    if not torch.isfinite(torch.stack([loss.detach(), norm])).all():
        kept = f"the last good checkpoint is {last}" if last.exists() else "there is no checkpoint"
        raise TrainingDiverged(
            f"at step {step} the loss became {loss.item()}, the gradient's norm {norm.item()}; "
            f"{kept}. A lower optimizer.learning_rate or optimizer.clip usually helps"
        )


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line; see `--help`."""
    parser = argparse.ArgumentParser(
        prog="python -m training.train",
        description="Trains a tokenizer on folders of images. The same command run again "
        "goes on from the last checkpoint; SIGTERM and Ctrl-C save one first.",
        epilog="Then: python -m training.evaluate OUT/last.pt --data DIR, and "
        "python -m training.export OUT/last.pt --out models/NAME.",
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
