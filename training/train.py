"""`python -m training.train PRESET_OR_TOML --data DIR`: trains a tokenizer.

One process, or several under `torchrun`: each takes its share of every batch,
so that the result is that of one process with the same batch, up to rounding.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import ctypes
import dataclasses
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.tensorboard import SummaryWriter

from training.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from training.config import Config, ConfigError, OptimizerConfig, from_dict, load_config
from training.data import Crops, DataError, Folder, find_images, read_image, split
from training.losses import Losses
from training.metrics import CodeCounter, psnr
from training.model import Tokenizer, to_float

# Validation looks at no more images than this, so that it stays a small part of the time.
_VALIDATION_IMAGES = 32
_PICTURES = 8


class TrainingDiverged(ArithmeticError):
    """The loss is no longer a number; the last good checkpoint is kept."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a process stands: its device and its number among `processes`."""

    device: torch.device
    rank: int = 0
    processes: int = 1


def train(config: Config, data: list[Path], out: Path, place: Place) -> Path:
    """Trains a model, or goes on from `out/last.pt` where that exists.

    Args:
        config: of the run. A resumed run takes all but the optimizer's and the run's
            settings from its checkpoint and refuses to continue if they differ.
        data: folders with images.
        out: folder for checkpoints and TensorBoard files.
        place: device and process.

    Returns:
        Path of the last checkpoint. A SIGTERM or SIGINT ends the run early, after
        the step in progress, with a checkpoint at exactly that step.

    Raises:
        DataError: nothing to train on.
        CheckpointError: `out/last.pt` can't be continued with this configuration.
        TrainingDiverged: the loss became NaN or infinite.
    """
    console = Console(quiet=place.rank > 0, soft_wrap=True)
    folder = find_images(data)
    training_images, validation_images = split(folder, config.data.validation_fraction)
    _tell_data(console, folder, training_images, validation_images)
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
    first_step, facts = 0, {"images_seen": 0, "seconds": 0.0, "images": len(folder.paths)}
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
            state = Checkpoint(
                config,
                step,
                model.state_dict(),
                averaged.state_dict(),
                optimizer.state_dict(),
                facts,
            )
            save_checkpoint(last, state)

    batches = crops.batches(
        first_step, config.optimizer.steps, config.optimizer.batch, place.rank, place.processes
    )
    used = CodeCounter(config.quantizer.size)
    started, steps_timed = time.monotonic(), 0
    step = first_step
    with _stop_signal(place) as stopping, _progress(console, config, first_step) as advance:
        for step, pixels in enumerate(batches, first_step):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(config.optimizer, step)
            images = to_float(torch.from_numpy(pixels).to(place.device))
            images = images.contiguous(memory_format=torch.channels_last)
            with torch.autocast(place.device.type, torch.bfloat16, enabled=config.run.bf16):
                output = forward(images, step)
            loss, terms = losses(output, images)
            _refuse_nan(loss, step, last)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(model.parameters(), config.optimizer.clip)
            optimizer.step()
            _average(averaged, model, config.optimizer.weight_ema, step)

            done = step + 1
            steps_timed += 1
            facts["images_seen"] += config.optimizer.batch
            used.add(output.quantized.codes)
            if done % config.run.log_every == 0:
                elapsed = time.monotonic() - started
                facts["seconds"] += elapsed
                numbers = _numbers(loss, terms, norm, used, optimizer)
                numbers["speed/images_per_second"] = config.optimizer.batch * steps_timed / elapsed
                _log(console, board, numbers, done)
                used, started, steps_timed = CodeCounter(config.quantizer.size), time.monotonic(), 0
            if done % config.run.validate_every == 0 and board is not None:
                _validate(averaged, validation_images, board, console, done, place.device)
                started, steps_timed = time.monotonic(), 0
            stop = stopping()
            if done % config.run.checkpoint_every == 0 or stop:
                checkpoint(done)
            advance(done)
            if stop:
                console.print(f"stopped by a signal after step {done}; the same command resumes")
                break
        else:
            checkpoint(config.optimizer.steps)
    if board is not None:
        board.close()
    for broken in crops.broken:
        console.print(f"unreadable, passed over: {broken.path} ({broken.reason})")
    return last


def keep_freed_memory() -> None:
    """Makes glibc keep the memory that a step frees, for the next step to use.

    By default it returns large blocks to the kernel, which then clears them anew at
    the next step: on a virtual machine that took half the time (docs/log.md). Does
    nothing where the C library is another.
    """
    mmap_threshold, trim_threshold, top_pad = -3, -1, -2  # M_… of <malloc.h>
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    mallopt(mmap_threshold, 2**31 - 1)
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(top_pad, 2**28)


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
    if dataclasses.replace(state.config, optimizer=config.optimizer, run=config.run) != config:
        raise CheckpointError(
            f"{path} was made with other settings than these; choose another --out, "
            "or give the same preset, file and --set as before"
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


def _refuse_nan(loss: Tensor, step: int, last: Path) -> None:
    if not torch.isfinite(loss):
        kept = f"the last good checkpoint is {last}" if last.exists() else "there is no checkpoint"
        raise TrainingDiverged(
            f"the loss became {loss.item()} at step {step}; {kept}. "
            "A lower optimizer.learning_rate or optimizer.clip usually helps"
        )


def _numbers(
    loss: Tensor,
    terms: dict[str, Tensor],
    norm: Tensor,
    used: CodeCounter,
    optimizer: torch.optim.Optimizer,
) -> dict[str, float]:
    usage = used.usage()
    numbers = {"loss/total": loss.item()}
    numbers |= {f"loss/{name}": value.item() for name, value in terms.items()}
    numbers |= {
        "codes/used": usage.used,
        "codes/perplexity": usage.perplexity,
        "optimizer/gradient_norm": float(norm),
        "optimizer/learning_rate": float(optimizer.param_groups[0]["lr"]),
    }
    return numbers


def _log(
    console: Console, board: SummaryWriter | None, numbers: dict[str, float], step: int
) -> None:
    if board is not None:
        for name, value in numbers.items():
            board.add_scalar(name, value, step)
    shown = "  ".join(f"{name.split('/')[1]} {value:.4g}" for name, value in numbers.items())
    console.print(f"step {step}  {shown}", highlight=False)


@torch.no_grad()
def _validate(
    model: Tokenizer,
    folder: Folder,
    board: SummaryWriter,
    console: Console,
    step: int,
    device: torch.device,
) -> None:
    """Whole held-out images, cropped to multiples of the stride, through the averaged weights."""
    counter = CodeCounter(model.config.quantizer.size)
    values, stride = [], model.config.network.stride
    for index, path in enumerate(folder.paths[:_VALIDATION_IMAGES]):
        try:
            pixels = torch.from_numpy(read_image(path).copy())
        except OSError:
            continue
        height, width = (side // stride * stride for side in pixels.shape[:2])
        if min(height, width) == 0:
            continue
        wanted = to_float(pixels[None, :height, :width].to(device))
        output = model(wanted)
        made = output.reconstruction.clamp(-1, 1)
        counter.add(output.quantized.codes)
        values.append(float(psnr((made + 1) / 2, (wanted + 1) / 2)))
        if index < _PICTURES:
            pair = torch.cat([wanted, made], dim=3)[0]
            board.add_image(f"original and reconstruction/{index}", (pair + 1) / 2, step)
    if not values:
        return
    usage = counter.usage()
    numbers = {
        "validation/psnr": sum(values) / len(values),
        "validation/used": usage.used,
        "validation/perplexity": usage.perplexity,
    }
    _log(console, board, numbers, step)


def _tell_data(console: Console, folder: Folder, training: Folder, validation: Folder) -> None:
    console.print(
        f"{len(folder.paths)} images: {len(training.paths)} to train on, "
        f"{len(validation.paths)} held out; {len(folder.broken)} unreadable"
    )
    for broken in folder.broken[:20]:
        console.print(f"unreadable, passed over: {broken.path} ({broken.reason})")
    if len(folder.broken) > 20:
        console.print(f"… and {len(folder.broken) - 20} more")


@contextlib.contextmanager
def _stop_signal(place: Place) -> Iterator[Callable[[], bool]]:
    """Turns SIGTERM and SIGINT into a question that every process answers alike."""
    received: list[int] = []
    handlers = {
        number: signal.signal(number, lambda number, _: received.append(number))
        for number in (signal.SIGTERM, signal.SIGINT)
    }

    def stopping() -> bool:
        if place.processes == 1:
            return bool(received)
        # One process may get the signal a step before the others: they stop together.
        flag = torch.tensor(float(bool(received)), device=place.device)
        torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
        return bool(flag > 0)

    try:
        yield stopping
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _progress(console: Console, config: Config, first: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal; nothing where the output goes to a file."""
    columns = (
        TextColumn(config.name),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=config.optimizer.steps, completed=first)
        yield lambda done: progress.update(task, completed=done)


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


def override(config: Config, assignments: list[str]) -> Config:
    """The configuration with `key=value` pairs put in, values written as in TOML.

    Raises:
        ConfigError: an assignment that is malformed or impossible.
    """
    import tomllib

    values = config.to_dict()
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        *tables, name = key.strip().split(".")
        if not equals or not name:
            raise ConfigError(f"--set takes KEY=VALUE, not {assignment!r}")
        try:
            value = tomllib.loads(f"v = {text}")["v"]
        except tomllib.TOMLDecodeError:
            value = text.strip()
        table = values
        for part in tables:
            table = table.get(part, {})
            if not isinstance(table, dict):
                raise ConfigError(f"unknown setting {key}")
        if name not in table:
            raise ConfigError(f"unknown setting {key}")
        table[name] = value
    return from_dict(values)


def choose_place(device: str) -> Place:
    """The device and, under `torchrun`, the process group that its variables describe."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes == 1:
        return Place(torch.device(device))
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    if device == "cuda":
        device = f"cuda:{local}"
        torch.cuda.set_device(local)
    torch.distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    return Place(torch.device(device), rank, processes)


def main(arguments: list[str] | None = None) -> int:
    """Parses the command line and trains; 0 if that went well, 2 if it can't be."""
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    try:
        keep_freed_memory()
        config = override(load_config(options.config), options.set)
        place = choose_place(options.device)
        last = train(config, options.data, options.out or Path("runs") / config.name, place)
    except (ConfigError, DataError, CheckpointError) as error:
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
