"""An evaluation as one self-contained HTML page for people."""

from __future__ import annotations

import html
from collections.abc import Sequence

from training.evaluation.baselines import baseline_codecs
from training.evaluation.chart import chart
from training.evaluation.figures import ENLARGED, Pair
from training.evaluation.html import PAGE, data_url, section
from training.evaluation.linear_probe import ProbeResult
from training.evaluation.markdown import (
    MEASURE_NAMES,
    SYNTHETIC_HEAD,
    SYNTHETIC_MEANING,
    judge_text,
    number,
    rate_difference_meaning,
    rate_difference_text,
    synthetic_figures,
)
from training.evaluation.quality import Quality
from training.evaluation.results import Evaluation


def to_html(evaluation: Evaluation, pictures: Sequence[Pair]) -> str:
    """The figures, curves and pictures as one page that loads nothing from anywhere."""
    e = evaluation
    sections = [_tiles(e)]
    if e.curve:
        baselines = {baseline.name for baseline in baseline_codecs()}
        own = list(dict.fromkeys(p.codec for p in e.curve if p.codec not in baselines))
        sections.append(
            section(
                "Rate and distortion",
                "Means over an even choice of the images. Whole files of the classical codecs, "
                "headers and all; the model’s codes packed, without a header.",
                chart(e.curve, own, e.model) + _peer_tables(e) + _rate_differences(e),
            )
        )
    if len(e.variants) > 1:
        sections.append(section("Decoders and stages", "", _variants_table(e)))
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
    if any(v.synthetic is not None for v in e.variants):
        sections.append(section("Synthetic pictures", SYNTHETIC_MEANING, _synthetic_table(e)))
    if e.judgements:
        sections.append(
            section(
                "Recognisability",
                "What a frozen ImageNet network, never tuned on reconstructions, still names in "
                f"{e.judgements[0].images} test images at their own size; the classical codecs at "
                "the same bytes or, where they can’t, at their smallest.",
                _judgements(e),
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
        ("SSIM", number(q.ssim, 3), ""),
        ("MS-SSIM", number(q.ms_ssim, 3), ""),
        ("LPIPS", number(q.lpips, 3), f"{html.escape(e.lpips_network)}, less is better"),
        ("SSIMULACRA2", number(q.ssimulacra2, 1), "of 100"),
        ("packed", f"{e.bits_per_pixel:.3f}", "bits/pixel"),
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
    if e.absent:
        notes.append(f"Not measured: {html.escape('; '.join(e.absent))}.")
    return f"<dl class='tiles'>{cells}</dl>" + "".join(f"<p>{note}</p>" for note in notes)


_QUALITY_HEAD = (
    "<th>bits/pixel</th><th>PSNR, dB</th><th>SSIM</th><th>MS-SSIM</th><th>LPIPS</th>"
    "<th>SSIMULACRA2</th>"
)


def _quality_cells(rate: float, q: Quality) -> str:
    return (
        f"<td>{rate:.3f}</td><td>{q.psnr:.2f}</td><td>{number(q.ssim, 3)}</td>"
        f"<td>{number(q.ms_ssim, 3)}</td><td>{number(q.lpips, 3)}</td>"
        f"<td>{number(q.ssimulacra2, 1)}</td>"
    )


def _peer_tables(e: Evaluation) -> str:
    tables = []
    for stages in dict.fromkeys(p.stages for p in e.baselines):
        baselines = [p for p in e.baselines if p.stages == stages]
        own = next(v for v in e.variants if v.stages == stages)
        rows = [(own.name, own.bits_per_pixel, baselines[0].model, "")]
        for p in baselines:
            note = ""
            if p.fitting < p.images:
                note = (
                    f"{p.images - p.fitting} of {p.images} files can’t be made that small; "
                    f"its smallest take {p.smallest_bits_per_pixel:.3f} bits/pixel"
                )
            rows.append((p.codec, p.bits_per_pixel, p.quality, note))
        body = "".join(
            f"<tr><th>{html.escape(name)}</th>{_quality_cells(rate, q)}<td class='note'>{note}</td>"
            "</tr>"
            for name, rate, q, note in rows
        )
        tables.append(
            "<table><caption>At equal bytes: each file as long as the model’s codes at most, or "
            f"as short as it gets</caption><tr><th></th>{_QUALITY_HEAD}<th></th></tr>{body}</table>"
        )
    return "".join(tables)


def _rate_differences(e: Evaluation) -> str:
    if not e.rate_differences:
        return ""
    measures = list(dict.fromkeys(d.measure for d in e.rate_differences))
    found = {(d.decoder, d.codec, d.measure): d for d in e.rate_differences}
    body = "".join(
        f"<tr><th>{html.escape(decoder)} against {codec}</th>"
        + "".join(
            f"<td>{rate_difference_text(found[decoder, codec, m])}</td>"
            if (decoder, codec, m) in found
            else "<td>–</td>"
            for m in measures
        )
        + "</tr>"
        for decoder, codec in dict.fromkeys((d.decoder, d.codec) for d in e.rate_differences)
    )
    head = "".join(f"<th>{MEASURE_NAMES[m]}</th>" for m in measures)
    return (
        f"<table><caption>{rate_difference_meaning(e.rate_differences)}</caption>"
        f"<tr><th></th>{head}</tr>{body}</table>"
    )


def _variants_table(e: Evaluation) -> str:
    body = "".join(
        f"<tr><th>{html.escape(v.name)}</th>{_quality_cells(v.bits_per_pixel, v.quality)}</tr>"
        for v in e.variants
    )
    return f"<table><tr><th></th>{_QUALITY_HEAD}</tr>{body}</table>"


def _synthetic_table(e: Evaluation) -> str:
    head = "".join(f"<th>{name}</th>" for name in SYNTHETIC_HEAD)
    body = "".join(
        f"<tr><th>{html.escape(v.name)}</th>"
        + "".join(f"<td>{figure}</td>" for figure in synthetic_figures(v.synthetic))
        + "</tr>"
        for v in e.variants
        if v.synthetic is not None
    )
    return f"<table><tr><th></th>{head}</tr>{body}</table>"


def _judgements(e: Evaluation) -> str:
    tables = []
    for j in e.judgements:
        body = "".join(
            f"<tr><th>{html.escape(r.source)}</th><td>{number(r.bytes, 0)}</td>"
            f"<td>{r.top1:.3f}</td><td>{r.top1_of_classes:.3f}</td></tr>"
            for r in j.rows
        )
        tables.append(
            f"<table><caption>{html.escape(judge_text(j))}</caption><tr><th>pictures</th>"
            "<th>bytes</th><th>top-1 of 1,000</th>"
            f"<th>top-1 of the {j.classes} classes</th></tr>{body}</table>"
        )
    return "".join(tables)


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
        f"<td>{r.quality.psnr:.2f}</td><td>{number(r.quality.ssim, 3)}</td>"
        f"<td>{number(r.quality.ms_ssim, 3)}</td><td>{number(r.quality.lpips, 3)}</td>"
        f"<td>{number(r.quality.ssimulacra2, 1)}</td></tr>"
        for r in e.results
    )
    return (
        f"<details><summary>{len(e.results)} images</summary><table><tr><th></th><th>pixels</th>"
        f"<th>bytes</th><th>PSNR, dB</th><th>SSIM</th><th>MS-SSIM</th><th>LPIPS</th>"
        f"<th>SSIMULACRA2</th></tr>{body}</table></details>"
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
