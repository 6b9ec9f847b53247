"""What a person sees of a training run: lines, a bar, TensorBoard, and pictures now and then."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from training.data.dataset import Broken, Folder, decoded, evenly, tell_broken
from training.data.metrics import CodeCounter, psnr
from training.tokenizer.config import Config
from training.tokenizer.model import Tokenizer, to_float
from training.tokenizer.trainer import Taken

# Validation looks at no more images than this, so that it stays a small part of the time.
_VALIDATION_IMAGES = 32
_PICTURES = 8


class Stopwatch:
    """How long a run has taken, and how fast its steps are.

    Args:
        before: seconds that the run had taken until it was resumed.
    """

    def __init__(self, before: float = 0.0) -> None:
        self._began = time.monotonic() - before
        self._pace_began, self._steps = time.monotonic(), 0

    def seconds(self) -> float:
        """Of the whole run, validations and checkpoints among them."""
        return time.monotonic() - self._began

    def step(self) -> None:
        """Counts a step."""
        self._steps += 1

    def pace(self) -> float:
        """Steps a second since this was asked last, without what was done aside."""
        now = time.monotonic()
        pace = self._steps / max(now - self._pace_began, 1e-9)
        self._pace_began, self._steps = now, 0
        return pace

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Leaves what is done meanwhile out of the pace; it counts as the run's time."""
        began = time.monotonic()
        yield
        self._pace_began += time.monotonic() - began


def figures_of(
    taken: Taken, used: CodeCounter, optimizer: torch.optim.Optimizer
) -> dict[str, float]:
    """The figures of a step, named as TensorBoard groups them; `used` counts since the last."""
    usage = used.usage()
    numbers = {"loss/total": taken.loss.item()}
    numbers |= {f"loss/{name}": value.item() for name, value in taken.terms.items()}
    numbers |= {
        "codes/used": usage.used,
        "codes/perplexity": usage.perplexity,
        "optimizer/gradient_norm": float(taken.norm),
        "optimizer/learning_rate": float(optimizer.param_groups[0]["lr"]),
    }
    return numbers


def log(
    console: Console, board: SummaryWriter | None, numbers: dict[str, float], step: int
) -> None:
    """One line of figures, and a point of each TensorBoard curve."""
    if board is not None:
        for name, value in numbers.items():
            board.add_scalar(name, value, step)
    shown = "  ".join(f"{name.split('/')[1]} {value:.4g}" for name, value in numbers.items())
    console.print(f"step {step}  {shown}", highlight=False)


@torch.no_grad()
def validate(
    model: Tokenizer,
    folder: Folder,
    board: SummaryWriter,
    console: Console,
    step: int,
    device: torch.device,
) -> None:
    """Held-out images, cropped to multiples of the stride, through the averaged weights.

    An even choice of them, the same at every step of a run.
    """
    counter = CodeCounter(model.config.quantizer.size)
    values, stride = [], model.config.network.stride
    # Spread over the folders: the first ones in order of their paths may be of one kind.
    chosen = [folder.paths[i] for i in evenly(len(folder.paths), _VALIDATION_IMAGES)]
    broken: list[Broken] = []
    for index, (_, pixels) in enumerate(decoded(chosen, broken)):
        height, width = (side // stride * stride for side in pixels.shape[:2])
        if min(height, width) == 0:
            continue
        wanted = to_float(torch.from_numpy(pixels)[None, :height, :width].to(device))
        output = model(wanted)
        made = output.reconstruction.clamp(-1, 1)
        counter.add(output.quantized.codes)
        values.append(float(psnr((made + 1) / 2, (wanted + 1) / 2)))
        if index < _PICTURES:
            pair = torch.cat([wanted, made], dim=3)[0]
            board.add_image(f"original and reconstruction/{index}", (pair + 1) / 2, step)
    tell_broken(broken, console.print)
    if not values:
        return
    usage = counter.usage()
    numbers = {
        "validation/psnr": sum(values) / len(values),
        "validation/used": usage.used,
        "validation/perplexity": usage.perplexity,
    }
    log(console, board, numbers, step)


def tell_data(console: Console, folder: Folder, training: Folder, validation: Folder) -> None:
    """How many images there are, and which can't be read."""
    console.print(
        f"{len(folder.paths)} images: {len(training.paths)} to train on, "
        f"{len(validation.paths)} held out; {len(folder.broken)} unreadable"
    )
    tell_broken(folder.broken, console.print)


def progress(
    console: Console, config: Config, first: int
) -> contextlib.AbstractContextManager[Callable[[int], None]]:
    """The bar of a training run, from a step on."""
    return bar(console, config.name, config.optimizer.steps, first)


@contextlib.contextmanager
def bar(
    console: Console, title: str, total: int, first: int = 0
) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal; nothing where the output goes to a file."""
    columns = (
        TextColumn(title),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=total, completed=first)
        yield lambda done: progress.update(task, completed=done)
