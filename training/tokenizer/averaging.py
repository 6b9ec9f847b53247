"""The moving average of a network's weights, which is what is evaluated and exported."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


def early_decay(step: int, decay: float) -> float:
    """The decay at a step from 0: lower at first, or the average would stay at the start."""
    return min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def move_average(averaged: nn.Module, network: nn.Module, decay: float) -> None:
    """Moves averaged weights towards a network's by 1 − `decay`.

    Floating-point state is averaged, normalisation's statistics among it; all else is copied.
    """
    pairs = list(zip(averaged.state_dict().values(), network.state_dict().values(), strict=True))
    moving = [(kept, now) for kept, now in pairs if kept.is_floating_point()]
    if moving:
        kept, now = (list(side) for side in zip(*moving, strict=True))
        get_ema_multi_avg_fn(decay)(kept, now, None)  # type: ignore[no-untyped-call]
    for kept, now in pairs:
        if not kept.is_floating_point():
            kept.copy_(now)
