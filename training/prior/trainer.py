"""Training of a prior: steps, checks on held-out grids, an early end, and going on after a stop."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.data.dataset import DataError
from training.prior.context import Grid, Margins
from training.prior.dataset import Cuts
from training.prior.network import StageNetwork

_STATE_FORMAT = 1
# Held-out codes that a check looks at, evenly chosen among the grids.
_CHECK_CODES = 60_000


@dataclass(frozen=True)
class Recipe:
    """How a prior is trained.

    Attributes:
        steps: at most.
        cuts: of a batch.
        side: of a cut, codes.
        learning_rate: highest of AdamW's; reached after a hundredth of the steps, and brought
            down to nothing over the second half.
        rounding: share of the steps after which everything is rounded as in the file.
        check_every: steps from one check on held-out grids to the next.
        patience: checks without a better result, once rounding, that end the training.
        seed: of weights and batches.
    """

    steps: int = 20_000
    cuts: int = 16
    side: int = 8
    learning_rate: float = 1.5e-3
    rounding: float = 0.5
    check_every: int = 500
    patience: int = 6
    seed: int = 0


@dataclass
class Progress:
    """What a run has come to.

    Attributes:
        step: steps done.
        best: bits a code on held-out grids, rounded; infinite before rounding.
        best_weights: that it was measured with.
        checks: since it got better.
        seconds: of training.
    """

    step: int = 0
    best: float = math.inf
    best_weights: dict[str, Any] = field(default_factory=dict)
    checks: int = 0
    seconds: float = 0.0


def train(
    network: StageNetwork,
    stage: int,
    sizes: Sequence[int],
    grids: Sequence[Grid],
    held_out: Sequence[Grid],
    recipe: Recipe,
    *,
    state: Path | None = None,
    tell: Callable[[int, float, float | None], None] = lambda *_: None,
) -> Progress:
    """Trains a network in place; it ends with its best weights, rounding on.

    Args:
        network: with random weights.
        stage: whose codes it predicts.
        sizes: number of codes of each stage.
        grids: to learn from.
        held_out: to check with.
        recipe: of the training.
        state: file to go on from if it is there, and to keep the state in at every check.
        tell: told after each step its number, the loss in bits, and what a check measured.

    Raises:
        DataError: too small grids, or `state` is of another training.
    """
    margins = Margins.of(network.neighbours)
    cuts = Cuts([margins.around(grid, sizes) for grid in grids], margins, recipe.side, recipe.seed)
    checked = _some_of(held_out)
    optimizer = torch.optim.AdamW(
        network.parameters(),
        lr=recipe.learning_rate,
        betas=(0.9, 0.98),
        weight_decay=0.01,
        fused=True,
    )
    about = {
        "recipe": dataclasses.asdict(recipe),
        "layout": dataclasses.asdict(network.layout),
        "neighbours": [list(place) for place in network.neighbours],
        "stage": stage,
        "grids": len(grids),
    }
    done = _read_state(state, network, optimizer, about)
    losses: deque[float] = deque(maxlen=recipe.check_every)
    began = time.monotonic() - done.seconds
    while done.step < recipe.steps and done.checks < recipe.patience:
        network.quantized = done.step >= recipe.rounding * recipe.steps
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * _pace(done.step / recipe.steps)
        neighbours, codes = _places(cuts.batch(done.step, recipe.cuts), margins, network, stage)
        with torch.autocast("cpu", torch.bfloat16):
            loss = network.bits(neighbours, codes).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        done.step += 1
        losses.append(loss.item())
        measured = None
        if done.step % recipe.check_every == 0 or done.step == recipe.steps:
            measured = bits_a_code(network, stage, sizes, checked)
            _judge(done, network, measured)
            done.seconds = time.monotonic() - began
            _write_state(state, network, optimizer, about, done)
        tell(done.step, sum(losses) / len(losses), measured)
    network.quantized = True
    if done.best_weights:
        network.load_state_dict(done.best_weights)
    return done


@torch.no_grad()
def bits_a_code(
    network: StageNetwork, stage: int, sizes: Sequence[int], grids: Sequence[Grid]
) -> float:
    """Mean cost of a code, in bits; without what whole-number frequencies add (under 0.1 %)."""
    margins = Margins.of(network.neighbours)
    total, count = 0.0, 0
    for grid in grids:
        framed = torch.from_numpy(margins.around(grid, sizes).astype(np.int64))[None]
        neighbours, codes = _places(framed, margins, network, stage)
        total += float(network.bits(neighbours, codes).sum())
        count += len(codes)
    return total / count


def _places(
    framed: Tensor, margins: Margins, network: StageNetwork, stage: int
) -> tuple[Tensor, Tensor]:
    """Neighbours int64 `[m, C]` and codes `[m]` of all places of `[n, stages, rows, columns]`."""
    own = margins.contexts(framed.numpy(), [(stage, 0, 0)])
    around = margins.contexts(framed.numpy(), network.neighbours)
    return (
        torch.from_numpy(around.reshape(-1, len(network.neighbours))),
        torch.from_numpy(own.reshape(-1)),
    )


def _pace(share: float) -> float:
    """Of the learning rate, after a share of the steps."""
    if share < 0.01:
        return (share + 1e-4) / 0.01
    return min(1.0, 0.5 * (1 + math.cos(math.pi * max(0.0, share - 0.5) * 2)) + 1e-3)


def _some_of(grids: Sequence[Grid]) -> list[Grid]:
    """Grids of about `_CHECK_CODES` codes together, evenly chosen."""
    every = max(1, round(sum(grid[0].size for grid in grids) / _CHECK_CODES))
    return list(grids[::every])


def _judge(done: Progress, network: StageNetwork, measured: float) -> None:
    if not network.quantized:
        return
    if measured < done.best:
        done.best, done.checks = measured, 0
        done.best_weights = {k: v.clone() for k, v in network.state_dict().items()}
    else:
        done.checks += 1


def _write_state(
    path: Path | None,
    network: StageNetwork,
    optimizer: torch.optim.Optimizer,
    about: dict[str, Any],
    done: Progress,
) -> None:
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    values = {
        "format": _STATE_FORMAT,
        "about": about,
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "progress": vars(done),
    }
    torch.save(values, temporary)
    temporary.replace(path)


def _read_state(
    path: Path | None,
    network: StageNetwork,
    optimizer: torch.optim.Optimizer,
    about: dict[str, Any],
) -> Progress:
    if path is None or not path.is_file():
        return Progress()
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
        kept = values["format"] == _STATE_FORMAT and values["about"] == about
    except Exception as error:  # pickle, zip and torch each have errors of their own
        raise DataError(f"{path} is not the state of such a training: remove it") from error
    if not kept:
        raise DataError(f"{path} is of another training: remove it, or give another --state")
    network.load_state_dict(values["network"])
    optimizer.load_state_dict(values["optimizer"])
    return Progress(**values["progress"])
