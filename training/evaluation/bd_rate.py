"""Differences of rate at equal quality: the Bjøntegaard delta, and its like for a single point.

Bjøntegaard 2001 (VCEG-M33), with the piecewise cubic Hermite interpolation of the common test
conditions (JCTVC-L1100, JVET-T2010): the mean difference of log rate over the qualities that
both curves reach.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy.interpolate import PchipInterpolator

# Pairs of rate, bits per pixel, and quality, more being better.
Curve = Sequence[tuple[float, float]]


def bd_rate(anchor: Curve, test: Curve) -> float | None:
    """How many percent more bits `test` takes than `anchor` for the same quality, on average.

    Args:
        anchor: at least two points that differ in quality.
        test: the same.

    Returns:
        Percent, negative where `test` takes fewer; None where the curves have no quality in
        common, or one of them is no curve.
    """
    a, b = _by_quality(anchor), _by_quality(test)
    if len(a) < 2 or len(b) < 2:
        return None
    low, high = max(a[0][0], b[0][0]), min(a[-1][0], b[-1][0])
    if low >= high:
        return None
    means = [
        float(PchipInterpolator(*zip(*c, strict=True)).integrate(low, high)) / (high - low)
        for c in (a, b)
    ]
    return 100 * math.expm1(means[1] - means[0])


def rate_difference(anchor: Curve, rate: float, quality: float) -> float | None:
    """The same for a single point: how many percent more bits it takes than the curve there.

    Args:
        anchor: the curve.
        rate: of the point.
        quality: of the point.

    Returns:
        Percent; None where the curve doesn't reach that quality.
    """
    points = _by_quality(anchor)
    if len(points) < 2 or not points[0][0] <= quality <= points[-1][0]:
        return None
    log_rate = float(PchipInterpolator(*zip(*points, strict=True))(quality))
    return 100 * math.expm1(math.log(rate) - log_rate)


def _by_quality(curve: Curve) -> list[tuple[float, float]]:
    """Pairs of quality and log rate, both rising; a point that costs more for less is dropped."""
    rising: list[tuple[float, float]] = []
    for rate, quality in sorted(curve):
        if not rising or (quality > rising[-1][0] and math.log(rate) > rising[-1][1]):
            rising.append((quality, math.log(rate)))
    return rising
