"""Whether something grows: a straight line through samples, by least squares."""

from __future__ import annotations

from collections.abc import Sequence


def slope(times_s: Sequence[float], values: Sequence[float]) -> float:
    """Growth per second of the line that fits best; 0 for fewer than two moments."""
    count = len(times_s)
    if count < 2:
        return 0.0
    middle_time, middle_value = sum(times_s) / count, sum(values) / count
    spread = sum((time - middle_time) ** 2 for time in times_s)
    if spread == 0:
        return 0.0
    return (
        sum(
            (time - middle_time) * (value - middle_value)
            for time, value in zip(times_s, values, strict=True)
        )
        / spread
    )


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that this share of all values doesn't exceed; nan if there are none."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[
        min(len(ordered) - 1, max(0, -(-round(share * 1e6) * len(ordered) // 10**6) - 1))
    ]
