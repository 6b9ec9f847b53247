"""Rate–distortion curves as one SVG: a panel for each measure over the same bits per pixel."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

from training.evaluation.results import CurvePoint

_WIDTH, _PANEL, _LEFT, _RIGHT, _TOP, _GAP, _BOTTOM = 760, 250, 52, 76, 22, 34, 40
# Name, title and the distance of its grid lines, of each panel.
_PANELS = (
    ("psnr", "PSNR, dB", (1.0, 2.0, 5.0)),
    ("ms_ssim", "MS-SSIM", (0.01, 0.02, 0.05, 0.1)),
    ("lpips", "LPIPS, less is better", (0.05, 0.1, 0.2)),
)

# Where a point lies in the SVG, and the point.
_Dot = tuple[float, float, CurvePoint]


@dataclass(frozen=True)
class _Axis:
    """A linear axis from values to pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def chart(curve: Sequence[CurvePoint], own: Sequence[str], model: str) -> str:
    """The SVG, each line named at its end.

    Args:
        curve: points of classical codecs and of the model's decoders.
        own: which of the series are the model's.
        model: its name, shown for its default decoder.
    """
    panels = [p for p in _PANELS if all(getattr(c.quality, p[0]) is not None for c in curve)]
    rates = [math.log2(point.bits_per_pixel) for point in curve]
    across = _Axis(min(rates) - 0.1, max(rates) + 0.1, _LEFT, _WIDTH - _RIGHT)
    parts = []
    for number, (name, title, steps) in enumerate(panels):
        top = _TOP + number * (_PANEL + _GAP)
        parts.append(_panel(curve, own, model, name, title, steps, across, top))
    bottom = _TOP + len(panels) * (_PANEL + _GAP) - _GAP
    parts.append(_rate_axis(across, bottom))
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {bottom + _BOTTOM}" role="img" '
        f'aria-label="{", ".join(p[1] for p in panels)} over bits per pixel">{"".join(parts)}</svg>'
    )


def _panel(
    curve: Sequence[CurvePoint],
    own: Sequence[str],
    model: str,
    name: str,
    title: str,
    steps: Sequence[float],
    across: _Axis,
    top: float,
) -> str:
    values = [getattr(point.quality, name) for point in curve]
    margin = 0.05 * (max(values) - min(values)) or 1.0
    down = _Axis(max(values) + margin, min(values) - margin, top, top + _PANEL)
    step = next((s for s in steps if (max(values) - min(values)) / s <= 8), steps[-1])
    first, last = math.ceil(down.high / step), math.floor(down.low / step)
    parts = [
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{down(i * step):.1f}" '
        f'y2="{down(i * step):.1f}"/><text x="{_LEFT - 8}" y="{down(i * step) + 4:.1f}" '
        f'text-anchor="end">{i * step:g}</text>'
        for i in range(first, last + 1)
    ]
    parts += [
        f'<line class="grid" x1="{across(math.log2(tick)):.1f}" '
        f'x2="{across(math.log2(tick)):.1f}" y1="{top}" y2="{top + _PANEL}"/>'
        for tick in _ticks(across)
    ]
    parts.append(f'<text x="{_LEFT}" y="{top - 7}">{title}</text>')
    lines: list[tuple[int, str, list[_Dot]]] = []
    colour = 0
    for series in dict.fromkeys(point.codec for point in curve):
        mine = series in own
        colour += not mine
        dots = [
            (across(math.log2(p.bits_per_pixel)), down(getattr(p.quality, name)), p)
            for p in curve
            if p.codec == series
        ]
        label = model if mine and series == own[0] else series
        lines.append((0 if mine else colour, label, sorted(dots, key=lambda dot: dot[0])))
    # From the topmost end downwards, so that a name that has to give way stays near its line.
    labels: list[tuple[float, float]] = []
    for number, label, dots in sorted(lines, key=lambda line: line[2][-1][1]):
        parts.append(_series(dots, label, number, name, labels))
    return "".join(parts)


def _series(
    points: Sequence[_Dot],
    label: str,
    colour: int,
    name: str,
    labels: list[tuple[float, float]],
) -> str:
    """A line with its dots and its name, which is moved down until it covers no other."""
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
    escaped = html.escape(label)
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{3.5 if colour else 6}"><title>{escaped}: '
        f"{getattr(p.quality, name):.4g} at {p.bits_per_pixel:.3f} bits per pixel</title></circle>"
        for x, y, p in points
    )
    x, y = points[-1][0] + (8 if colour else 11), points[-1][1] + (4 if colour else 16)
    while any(abs(x - a) < 60 and abs(y - b) < 16 for a, b in labels):
        y += 16
    labels.append((x, y))
    return (
        f'<g class="series s{colour}"><polyline points="{line}"/>{dots}'
        f'<text x="{x:.1f}" y="{y:.1f}">{escaped}</text></g>'
    )


def _rate_axis(across: _Axis, bottom: float) -> str:
    ticks = "".join(
        f'<text x="{across(math.log2(tick)):.1f}" y="{bottom + 18:.1f}" '
        f'text-anchor="middle">{tick:g}</text>'
        for tick in _ticks(across)
    )
    return f'{ticks}<text x="{_LEFT}" y="{bottom + 36:.1f}">bits per pixel, as stored →</text>'


def _ticks(across: _Axis) -> list[float]:
    ticks = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
    return [tick for tick in ticks if across.low <= math.log2(tick) <= across.high]
