"""An evaluation for people: Markdown tables, and one self-contained HTML page."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from training.evaluation.figures import ENLARGED, Pair
from training.evaluation.html import PAGE, data_url, section
from training.evaluation.linear_probe import ProbeResult
from training.evaluation.rate_distortion import CurvePoint, Evaluation, Quality


def to_markdown(evaluation: Evaluation) -> str:
    """The figures as Markdown tables."""
    e, q = evaluation, evaluation.quality
    lines = [
        f"# {e.model}, {e.runtime}",
        "",
        f"{e.images} images at their own size, one code for each {e.stride}×{e.stride} patch.",
        "",
        "| figure | value |",
        "|---|---|",
        f"| PSNR | {q.psnr:.2f} dB |",
        f"| SSIM | {_number(q.ssim, 4)} |",
        f"| MS-SSIM | {_number(q.ms_ssim, 4)} |",
        f"| LPIPS | {_number(q.lpips, 4)} |",
        f"| bits per pixel, packed | {e.bits_per_pixel:.4f} |",
        f"| bits per pixel at the codes' entropy | {e.bits_per_pixel_entropy:.4f} |",
        f"| codes used | {e.usage.used:.1%} of {e.codebook_size} |",
        f"| perplexity | {e.usage.perplexity:.0f} |",
        f"| entropy | {e.usage.entropy:.2f} bits a code |",
    ]
    if e.without_ms_ssim:
        lines += ["", f"MS-SSIM leaves out {e.without_ms_ssim} images with a side below 176 px."]
    if e.broken:
        lines += ["", f"{len(e.broken)} files could not be read:"]
        lines += [f"- {b}" for b in e.broken]
    if e.peers:
        lines += [
            "",
            f"## At equal bytes, {e.peers[0].images} images",
            "",
            "Whole files of the classical codecs, headers and all, as long as the codes at most.",
            "",
            "| codec | bits per pixel | PSNR, dB | SSIM | MS-SSIM | files that small |",
            "|---|---|---|---|---|---|",
            _quality_row(e.model, e.bits_per_pixel, e.peers[0].model, "all"),
        ]
        for p in e.peers:
            fitting = f"{p.fitting} of {p.images}"
            if p.fitting < p.images:
                fitting += f"; its smallest take {p.smallest_bits_per_pixel:.3f} bpp"
            lines.append(_quality_row(p.codec, p.bits_per_pixel, p.quality, fitting))
    if e.probe:
        lines += [
            "",
            "## Recognition probe",
            "",
            "| representation | numbers | linear | 5-NN, cosine |",
            "|---|---|---|---|",
        ]
        lines += [
            f"| {r.representation} | {r.size} | {r.linear:.3f} | {r.nearest:.3f} |" for r in e.probe
        ]
    return "\n".join(lines) + "\n"


def to_html(evaluation: Evaluation, pictures: Sequence[Pair]) -> str:
    """The figures, curves and pictures as one page that loads nothing from anywhere."""
    e = evaluation
    sections = [_tiles(e)]
    if e.curve:
        sections.append(
            section(
                "Rate and distortion",
                "Means over an even choice of the images. Whole files of the classical codecs, "
                "headers and all; the model’s codes packed, without a header.",
                _chart(e.curve, (e.model, e.bits_per_pixel, e.peers[0].model.psnr))
                + _peer_table(e),
            )
        )
    if pictures:
        sections.append(
            section(
                "Pictures",
                "From the best PSNR to the worst. Hover over a picture, or press it, to see the "
                "original in its place. The crops show, pixel by pixel at 3×, where the model errs "
                "most.",
                f'<div class="pictures">{"".join(_figure(pair) for pair in pictures)}</div>',
            )
        )
    if e.probe:
        sections.append(
            section(
                "Recognition probe",
                "Accuracy on labelled images: a linear classifier on the vectors, and the vote of "
                "the five nearest by cosine.",
                _bars(e.probe),
            )
        )
    sections.append(section("Image by image", "", _image_table(e)))
    return PAGE.format(
        title=html.escape(f"{e.model}: evaluation"),
        model=html.escape(e.model),
        subtitle=html.escape(
            f"{e.images} images at their own size, by {e.runtime}; "
            f"one of {e.codebook_size} codes for each {e.stride}×{e.stride} patch"
        ),
        body="\n".join(sections),
    )


def _tiles(e: Evaluation) -> str:
    q = e.quality
    tiles = [
        ("PSNR", f"{q.psnr:.2f}", "dB"),
        ("SSIM", _number(q.ssim, 3), ""),
        ("MS-SSIM", _number(q.ms_ssim, 3), ""),
        ("LPIPS", _number(q.lpips, 3), ""),
        ("packed", f"{e.bits_per_pixel:.3f}", "bits/pixel"),
        ("at their entropy", f"{e.bits_per_pixel_entropy:.3f}", "bits/pixel"),
        ("codes used", f"{100 * e.usage.used:.1f}", "%"),
        ("perplexity", f"{e.usage.perplexity:.0f}", f"of {e.codebook_size}"),
    ]
    cells = "".join(
        f"<div><dt>{name}</dt><dd>{value} <small>{unit}</small></dd></div>"
        for name, value, unit in tiles
        if value != "–"
    )
    notes = []
    if e.without_ms_ssim:
        notes.append(f"MS-SSIM leaves out {e.without_ms_ssim} images with a side below 176 px.")
    if e.broken:
        names = "; ".join(html.escape(b) for b in e.broken[:10])
        notes.append(f"{len(e.broken)} files could not be read: {names}")
    return f"<dl class='tiles'>{cells}</dl>" + "".join(f"<p>{note}</p>" for note in notes)


def _chart(curve: Sequence[CurvePoint], ours: tuple[str, float, float]) -> str:
    """Mean PSNR over mean bits per pixel (logarithmic) as SVG, each line named at its end."""
    name, rate, quality = ours
    left, right, top, bottom, width, height = 44, 70, 12, 40, 760, 380
    rates = [p.bits_per_pixel for p in curve] + [rate]
    levels = [p.psnr for p in curve] + [quality]
    x0, x1 = math.log2(min(rates)) - 0.1, math.log2(max(rates)) + 0.1
    y0, y1 = math.floor(min(levels) - 0.5), math.ceil(max(levels) + 0.5)

    def x(value: float) -> float:
        return left + (math.log2(value) - x0) / (x1 - x0) * (width - left - right)

    def y(value: float) -> float:
        return top + (y1 - value) / (y1 - y0) * (height - top - bottom)

    step = 1 if y1 - y0 <= 8 else 2 if y1 - y0 <= 18 else 5
    parts = [
        f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y(level):.1f}" '
        f'y2="{y(level):.1f}"/><text x="{left - 8}" y="{y(level) + 4:.1f}" '
        f'text-anchor="end">{level}</text>'
        for level in range(-(-y0 // step) * step, y1 + 1, step)
    ]
    parts += [
        f'<line class="grid" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{top}" '
        f'y2="{height - bottom}"/><text x="{x(tick):.1f}" y="{height - bottom + 18}" '
        f'text-anchor="middle">{tick:g}</text>'
        for tick in (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
        if x0 <= math.log2(tick) <= x1
    ]
    parts.append(
        f'<text x="{left}" y="{height - 4}">bits per pixel →</text>'
        f'<text x="{left + 6}" y="{top + 12}">PSNR, dB</text>'
    )
    labels: list[tuple[float, float]] = []
    for index, codec in enumerate(dict.fromkeys(p.codec for p in curve), 1):
        line = sorted((p.bits_per_pixel, p.psnr) for p in curve if p.codec == codec)
        path = " ".join(f"{x(r):.1f},{y(v):.1f}" for r, v in line)
        dots = "".join(
            f'<circle cx="{x(r):.1f}" cy="{y(v):.1f}" r="3.5"><title>{codec}: {v:.2f} dB at '
            f"{r:.3f} bits per pixel</title></circle>"
            for r, v in line
        )
        across, down = x(line[-1][0]) + 8, y(line[-1][1]) + 4
        while any(abs(across - a) < 60 and abs(down - d) < 16 for a, d in labels):
            down += 16
        labels.append((across, down))
        parts.append(
            f'<g class="series s{index}"><polyline points="{path}"/>{dots}'
            f'<text x="{across:.1f}" y="{down:.1f}">{codec}</text></g>'
        )
    parts.append(
        f'<g class="series s0"><circle cx="{x(rate):.1f}" cy="{y(quality):.1f}" r="7"><title>'
        f"{html.escape(name)}: {quality:.2f} dB at {rate:.3f} bits per pixel</title></circle>"
        f'<text x="{x(rate) + 12:.1f}" y="{y(quality) + 16:.1f}">{html.escape(name)}</text></g>'
    )
    return (
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="PSNR over bits per pixel">{"".join(parts)}</svg>'
    )


def _peer_table(e: Evaluation) -> str:
    rows = [(e.model, e.bits_per_pixel, e.peers[0].model, "")]
    for p in e.peers:
        note = ""
        if p.fitting < p.images:
            note = (
                f"{p.images - p.fitting} of {p.images} files can’t be made that small; "
                f"its smallest take {p.smallest_bits_per_pixel:.3f} bits/pixel"
            )
        rows.append((p.codec, p.bits_per_pixel, p.quality, note))
    body = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{rate:.3f}</td><td>{q.psnr:.2f}</td>"
        f"<td>{_number(q.ssim, 3)}</td><td>{_number(q.ms_ssim, 3)}</td><td class='note'>{note}"
        "</td></tr>"
        for name, rate, q, note in rows
    )
    return (
        "<table><caption>At equal bytes: each file as long as the model’s "
        "codes at most, or as short as it gets</caption>"
        "<tr><th></th><th>bits/pixel</th><th>PSNR, dB</th><th>SSIM</th><th>MS-SSIM</th><th></th>"
        f"</tr>{body}</table>"
    )


def _bars(rows: Sequence[ProbeResult]) -> str:
    body = "".join(
        f"<tr><th>{html.escape(r.representation)} <small>{r.size}</small></th>"
        + "".join(
            f'<td><span class="bar {"own" if i == 0 else ""}" style="--share:{v:.4f}"></span>'
            f"{v:.3f}</td>"
            for v in (r.linear, r.nearest)
        )
        + "</tr>"
        for i, r in enumerate(rows)
    )
    return (
        "<table class='bars'><tr><th>representation <small>numbers</small></th><th>linear</th>"
        f"<th>5-NN, cosine</th></tr>{body}</table>"
    )


def _image_table(e: Evaluation) -> str:
    body = "".join(
        f"<tr><th>{html.escape(r.path)}</th><td>{r.width}×{r.height}</td><td>{r.bytes}</td>"
        f"<td>{r.quality.psnr:.2f}</td><td>{_number(r.quality.ssim, 3)}</td>"
        f"<td>{_number(r.quality.ms_ssim, 3)}</td></tr>"
        for r in e.results
    )
    return (
        f"<details><summary>{len(e.results)} images</summary><table><tr><th></th><th>pixels</th>"
        f"<th>bytes</th><th>PSNR, dB</th><th>SSIM</th><th>MS-SSIM</th></tr>{body}</table></details>"
    )


def _figure(pair: Pair) -> str:
    height, width = pair.original.shape[:2]
    name = html.escape(pair.name)
    crops = [data_url(crop, lossless=True) for crop in pair.crops()]
    # Never beyond twice its size, nor taller than a screen.
    shown = min(2 * width, 560 * width // height)
    crop_width = pair.crops()[0].shape[1] * ENLARGED
    return (
        "<figure>"
        f'<div class="swap" tabindex="0" '
        f'style="aspect-ratio:{width}/{height};max-width:min(100%,{shown}px)">'
        f'<img class="after" alt="{name}, reconstruction" src="{data_url(pair.reconstruction)}">'
        f'<img class="before" alt="{name}, original" src="{data_url(pair.original)}">'
        '<span class="label after">reconstruction</span>'
        '<span class="label before">original</span></div>'
        '<div class="crops">'
        f'<div><img alt="original, 3×" style="width:{crop_width}px" src="{crops[0]}">'
        "<small>original, 3×</small></div>"
        f'<div><img alt="reconstruction, 3×" style="width:{crop_width}px" src="{crops[1]}">'
        "<small>reconstruction, 3×</small></div></div>"
        f"<figcaption>{name} <small>{width}×{height}, {pair.psnr:.2f} dB</small></figcaption>"
        "</figure>"
    )


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _quality_row(name: str, rate: float, quality: Quality, note: str) -> str:
    return (
        f"| {name} | {rate:.4f} | {quality.psnr:.2f} | {_number(quality.ssim, 4)} "
        f"| {_number(quality.ms_ssim, 4)} | {note} |"
    )
