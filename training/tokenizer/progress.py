"""What a person sees of a training run: lines of figures, a bar and TensorBoard's curves."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from training.data.dataset import Folder, report_broken
from training.data.metrics import CodeCounter
from training.tokenizer.config import Config, QuantizerConfig
from training.tokenizer.optimizer import Optimizer
from training.tokenizer.trainer import StepResult


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


class StageCounters:
    """Counts the codes of each stage over several batches; nothing for a plain autoencoder."""

    def __init__(self, config: QuantizerConfig) -> None:
        self._counters = [CodeCounter(size) for size in config.stages]

    def add(self, codes: Tensor) -> None:
        """Counts int64 codes `[n, h, w]` or `[n, stages, h, w]`."""
        stages = codes.unbind(1) if codes.ndim == 4 else (codes,)
        for counter, stage in zip(self._counters, stages, strict=False):
            counter.add(stage)

    def figures(self, group: str) -> dict[str, float]:
        """Share of the codes that occurred and perplexity, of each stage."""
        figures = {}
        for number, counter in enumerate(self._counters, 1):
            usage = counter.usage()
            suffix = "" if number == 1 else f"_stage{number}"
            figures[f"{group}/used{suffix}"] = usage.used
            figures[f"{group}/perplexity{suffix}"] = usage.perplexity
        return figures

    def words(self) -> str:
        """The same for people: `250 of 256 codes used  perplexity 201`, and so on."""
        parts = []
        for number, counter in enumerate(self._counters, 1):
            used, size = int((counter.counts > 0).sum()), len(counter.counts)
            stage = "" if number == 1 else f" of stage {number}"
            parts.append(f"{used} of {size} codes{stage} used")
            parts.append(f"perplexity {counter.usage().perplexity:.4g}")
        return "  ".join(parts)


def figures_of(result: StepResult, used: StageCounters, optimizer: Optimizer) -> dict[str, float]:
    """The figures of a step, named as TensorBoard groups them; `used` counts since the last."""
    numbers = {"loss/total": result.loss.item()}
    numbers |= {f"loss/{name}": value.item() for name, value in result.terms.items()}
    numbers |= used.figures("codes")
    numbers |= result.discriminator
    numbers |= {
        "optimizer/gradient_norm": float(result.norm),
        "optimizer/learning_rate": float(optimizer.param_groups[0]["lr"]),
    }
    return numbers


def log(
    console: Console,
    board: SummaryWriter | None,
    numbers: dict[str, float],
    step: int,
    codes: str = "",
) -> None:
    """One line of figures, and a point of each TensorBoard curve.

    Args:
        console: to print to.
        board: of TensorBoard, if this process writes one.
        numbers: by group and name.
        step: of the run.
        codes: stands in the line in place of the use of codes and their perplexity.
    """
    if board is not None:
        for name, value in numbers.items():
            board.add_scalar(name, value, step)
    shown = [_shown(name, value) for name, value in numbers.items() if not _is_of_codes(name)]
    console.print("  ".join([f"step {step}", *shown, *([codes] if codes else [])]), highlight=False)


def _is_of_codes(name: str) -> bool:
    return name.partition("/")[2].startswith(("used", "perplexity"))


def _shown(name: str, value: float) -> str:
    group, _, rest = name.partition("/")
    return f"{f'{group} ' if group == 'discriminator' else ''}{rest} {value:.4g}"


def report_data(console: Console, folder: Folder, training: Folder, validation: Folder) -> None:
    """How many images there are, and which can't be read."""
    console.print(
        f"{len(folder.paths)} images: {len(training.paths)} to train on, "
        f"{len(validation.paths)} held out; {len(folder.broken)} unreadable"
    )
    if not validation.paths:
        console.print("no image is held out, so that there will be no validation")
    report_broken(folder.broken, console.print)


def progress(
    console: Console, config: Config, first: int
) -> contextlib.AbstractContextManager[Callable[[int], None]]:
    """The bar of a training run, from a step on."""
    return bar(console, config.name, config.steps, first)


class Heartbeat:
    """Says where a run is, where its output goes to a file and nothing else was said for long.

    Args:
        console: that is printed to; on a terminal there is a bar instead.
        steps: of the run.
        every: seconds.
    """

    def __init__(self, console: Console, steps: int, every: float = 10.0) -> None:
        self._console, self._steps, self._every = console, steps, every
        self._said = time.monotonic()

    def said(self) -> None:
        """Something else was printed just now."""
        self._said = time.monotonic()

    def beat(self, done: int) -> None:
        """Called after every step."""
        if not self._console.is_terminal and time.monotonic() - self._said > self._every:
            self._console.print(f"step {done} of {self._steps}", highlight=False)
            self.said()


@contextlib.contextmanager
def bar(
    console: Console, title: str, total: int, first: int = 0
) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal and in a notebook; nothing where the output goes to a file."""
    columns = (
        TextColumn(title),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
    )
    seen = console.is_terminal or console.is_jupyter
    with Progress(*columns, console=console, disable=not seen) as progress:
        task = progress.add_task("", total=total, completed=first)
        yield lambda done: progress.update(task, completed=done)
