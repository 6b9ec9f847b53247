"""The plot of RESULTS.md: who answers how many requests a second, as SVG."""

from __future__ import annotations

from statistics import median
from typing import Any

from benchmarks.candidates import CANDIDATES, TESSERA, TESSERA_INT8
from benchmarks.rows import middle, pick, values

_WIDTH, _BAR, _LABELS = 760, 22, 150


def plot(compared: dict[str, Any]) -> str:
    """Requests per second at the most clients: a bar each, its spread, and the bare limit."""
    rows = compared["closed"]
    most = max(values(rows, "clients"))
    drawn, top = [], 10
    for side in values(rows, "side"):
        bars = [
            (c, speeds)
            for c in CANDIDATES
            if (
                speeds := [
                    row["per_second"] for row in pick(rows, key=c.key, side=side, clients=most)
                ]
            )
        ]
        limits = [
            (precision, middle(compared["bare"], "per_second", precision=precision, side=side))
            for precision in ("fp32", "int8")
        ]
        longest = max([max(v) for _, v in bars] + [limit for _, limit in limits if limit])
        scale = (_WIDTH - _LABELS - 60) / longest
        drawn.append(
            f'<text x="0" y="{top + 14}" class="title">{side} × {side} JPEG → codes, {most} '
            "clients, requests per second</text>"
        )
        top += 26
        height = len(bars) * (_BAR + 6)
        for precision, limit in limits:
            if limit:
                x = _LABELS + limit * scale
                drawn.append(
                    f'<line x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{top + height}" '
                    f'class="limit"/><text x="{x:.1f}" y="{top + height + 12}" class="note" '
                    f'text-anchor="middle">bare {precision} {limit:.0f}</text>'
                )
        for candidate, speeds in bars:
            rate = median(speeds)
            kind = "ours" if candidate in (TESSERA, TESSERA_INT8) else "peer"
            y = top + _BAR / 2
            low, high = (_LABELS + value * scale for value in (min(speeds), max(speeds)))
            drawn.append(
                f'<text x="{_LABELS - 8}" y="{y + 4}" text-anchor="end">{candidate.title}</text>'
                f'<rect x="{_LABELS}" y="{top}" width="{rate * scale:.1f}" height="{_BAR}" '
                f'class="{kind}"/>'
                f'<line x1="{low:.1f}" y1="{y}" x2="{high:.1f}" y2="{y}" class="spread"/>'
                f'<text x="{high + 6:.1f}" y="{y + 4}">{rate:.0f}</text>'
            )
            top += _BAR + 6
        top += 30
    style = (
        "text{font:12px sans-serif;fill:#222}.title{font-weight:bold}"
        ".note{fill:#666;font-size:11px}"
        ".ours{fill:#c0562f}.peer{fill:#9aa5b1}.spread{stroke:#222;stroke-width:2}"
        ".limit{stroke:#666;stroke-dasharray:4 3}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top}" width="{_WIDTH}" '
        f'height="{top}"><rect width="100%" height="100%" fill="#fff"/><style>{style}</style>'
        + "".join(drawn)
        + "</svg>\n"
    )
