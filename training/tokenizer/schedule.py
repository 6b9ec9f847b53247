"""The learning rate over the steps of a training: a linear rise, then half a cosine.

Of a step's number alone, where PyTorch's chained schedulers multiply the rate of the step before:
a resumed run then has the same rates to the last bit.
"""

from __future__ import annotations

import math


def warmup_cosine(step: int, steps: int, warmup: int, final: float) -> float:
    """Share of the peak learning rate at a step.

    Args:
        step: from 0.
        steps: at which the cosine has arrived at `final`.
        warmup: steps of linear growth; the first has 1/`warmup` of the peak.
        final: share of the peak at the end.
    """
    if step < warmup:
        return (step + 1) / warmup
    span = max(1, steps - warmup)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / span)))
    return final + (1 - final) * cosine
