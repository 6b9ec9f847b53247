"""A recognizer's figures as one HTML page, with pictures and their activation maps."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from training.data.dataset import Pixels
from training.evaluation.html import PAGE, data_url, section
from training.recognition.calibration import Bin
from training.recognition.metrics import Classification
from training.recognition.report import Baseline, Example, Report, bytes_text

# The colour in which a class activation map is laid over the picture.
_HEAT = (255, 96, 0)


def to_html(report: Report) -> str:
    """One page that loads nothing from anywhere."""
    f = report.figures
    sections = [_tiles(report)]
    if report.baselines:
        sections.append(
            section(
                "Compared with baselines",
                "Accuracy on the same test images, and bytes an image that have to be kept.",
                _baselines(report.baselines),
            )
        )
    for title, text, wrong in (
        ("Recognized", "The surest first.", False),
        ("Not recognized", "The surest first: these are the errors to learn from.", True),
    ):
        chosen = [e for e in report.examples if (e.truth != e.label) == wrong]
        if chosen:
            hint = " Hover over a picture, or press it, to see it without its map."
            sections.append(section(title, text + hint, _gallery(chosen)))
    sections += [
        section("Class by class", "", _classes(f)),
        section(
            "Who is taken for whom",
            "Rows are the true classes, columns what they were taken for.",
            _confusion(f),
        ),
        section(
            "Can the probabilities be believed?",
            "Share of right answers over the probability that was given with them; on the line, "
            "they agree. Thin: before temperature scaling.",
            _reliability(f.bins, f.bins_uncalibrated),
        ),
        section("How it was made", "", _facts(report.facts)),
    ]
    return PAGE.format(
        title=html.escape(f"{report.name}: recognition"),
        model=html.escape(report.name),
        subtitle=html.escape(
            f"Recognition from codes of {report.model} alone: {f.images} test images, "
            f"{len(f.classes)} classes"
        ),
        body="\n".join(sections),
    )


def overlay(example: Example) -> Pixels:
    """The picture, grey but where its map speaks for the label: uint8 `[h, w, 3]`."""
    height, width = example.image.shape[:2]
    positive = np.maximum(example.activation, 0)
    scaled = positive / max(float(positive.max()), 1e-9)
    grown = Image.fromarray(scaled.astype(np.float32)).resize(
        (width, height), Image.Resampling.BILINEAR
    )
    # Squared, so that the places that speak the most stand out.
    share = 0.7 * np.square(np.asarray(grown))[..., None]
    grey = example.image.mean(axis=2, keepdims=True) * 0.5 + example.image * 0.5
    mixed: Pixels = (grey * (1 - share) + np.array(_HEAT) * share).clip(0, 255).astype(np.uint8)
    return mixed


def _tiles(report: Report) -> str:
    f = report.figures
    tiles = [
        ("top-1", f"{f.top1:.3f}", ""),
        ("top-5", f"{f.top5:.3f}", ""),
        ("calibration error", f"{f.error:.3f}", f"{f.error_uncalibrated:.3f} uncalibrated"),
        ("likelihood", f"{f.loss:.3f}", "nats, negative log"),
    ]
    cells = "".join(
        f"<div><dt>{name}</dt><dd>{value} <small>{unit}</small></dd></div>"
        for name, value, unit in tiles
    )
    return f"<dl class='tiles'>{cells}</dl>"


def _baselines(baselines: Sequence[Baseline]) -> str:
    body = "".join(
        f"<tr><th>{html.escape(p.name)}</th><td><span class='bar {'' if i else 'own'}' "
        f"style='--share:{p.top1:.4f}'></span>{p.top1:.3f}</td><td>{bytes_text(p)}</td></tr>"
        for i, p in enumerate(baselines)
    )
    return (
        f"<table class='bars'><tr><th></th><th>top-1</th><th>bytes an image</th></tr>{body}</table>"
    )


def _gallery(examples: Sequence[Example]) -> str:
    figures = []
    for example in examples:
        height, width = example.image.shape[:2]
        caption = f"{example.label} <small>{example.probability:.2f}</small>"
        if example.truth != example.label:
            caption += f"<br><small>is {html.escape(example.truth)}</small>"
        name = html.escape(example.truth)
        figures.append(
            f'<figure><div class="swap" tabindex="0" style="aspect-ratio:{width}/{height}">'
            f'<img class="after" alt="{name}, with its map" src="{data_url(overlay(example))}">'
            f'<img class="before" alt="{name}" src="{data_url(example.image)}"></div>'
            f"<figcaption>{caption}</figcaption></figure>"
        )
    style = "grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:18px"
    return f'<div class="pictures" style="{style}">{"".join(figures)}</div>'


def _classes(f: Classification) -> str:
    body = "".join(
        f"<tr><th>{html.escape(c.name)}</th><td>{c.images}</td><td>{c.recall:.3f}</td>"
        f"<td>{c.precision:.3f}</td><td class='note'>{html.escape(c.mistaken_for or '')}</td></tr>"
        for c in f.classes
    )
    head = "<th></th><th>images</th><th>recall</th><th>precision</th><th>mistaken for</th>"
    return f"<table><tr>{head}</tr>{body}</table>"


def _confusion(f: Classification) -> str:
    numbers = "".join(f"<th>{i + 1}</th>" for i in range(len(f.classes)))
    rows = []
    for index, (figures, row) in enumerate(zip(f.classes, f.confusion, strict=True)):
        total = max(1, sum(row))
        cells = "".join(
            f"<td style='background:color-mix(in srgb,var(--own) {80 * n / total:.0f}%,"
            f"transparent);padding:5px 12px'>{n or ''}</td>"
            for n in row
        )
        rows.append(f"<tr><th>{index + 1} {html.escape(figures.name)}</th>{cells}</tr>")
    return f"<table><tr><th></th>{numbers}</tr>{''.join(rows)}</table>"


def _reliability(bins: Sequence[Bin], before: Sequence[Bin]) -> str:
    side, margin = 300, 40

    def line(values: Sequence[Bin]) -> str:
        points = [
            (margin + b.confidence * side, 10 + (1 - b.accuracy) * side, b)
            for b in values
            if b.count
        ]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
        dots = "".join(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{2 + 6 * (b.count / most) ** 0.5:.1f}"><title>'
            f"{b.count} images: {b.accuracy:.2f} right at {b.confidence:.2f}</title></circle>"
            for x, y, b in points
        )
        return f'<polyline points="{path}"/>{dots}'

    most = max(b.count for b in [*bins, *before])
    ticks = "".join(
        f'<text x="{margin + t * side:.0f}" y="{side + 28}" text-anchor="middle">{t}</text>'
        f'<text x="{margin - 8}" y="{14 + (1 - t) * side:.0f}" text-anchor="end">{t}</text>'
        for t in (0, 0.5, 1)
    )
    return (
        f'<svg class="chart" style="max-width:420px" viewBox="0 0 {side + 60} {side + 40}" '
        'role="img" aria-label="share of right answers over probability">'
        f'<line class="grid" x1="{margin}" y1="{side + 10}" x2="{margin + side}" y2="10"/>{ticks}'
        f'<g class="series s1" opacity=".45">{line(before)}</g>'
        f'<g class="series s0">{line(bins)}</g></svg>'
    )


def _facts(facts: Mapping[str, str]) -> str:
    body = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>"
        for name, value in facts.items()
    )
    return f"<table>{body}</table>"
