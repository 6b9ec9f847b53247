"""An evaluation as Markdown tables."""

from __future__ import annotations

from collections.abc import Sequence

from training.evaluation.quality import Quality
from training.evaluation.recognisability import Judgement
from training.evaluation.results import Evaluation, RateDifference
from training.evaluation.synthetic_fidelity import SyntheticFidelity

MEASURE_NAMES = {"psnr": "PSNR", "ms_ssim": "MS-SSIM", "lpips": "LPIPS"}


def to_markdown(evaluation: Evaluation) -> str:
    """The figures as Markdown tables."""
    parts = [
        _summary(evaluation),
        _variants(evaluation),
        _equal_bytes(evaluation),
        _rate_differences(evaluation),
        _synthetic(evaluation),
        _recognisability(evaluation),
        _probe(evaluation),
        _absent(evaluation),
    ]
    return "\n\n".join("\n".join(lines) for lines in parts if lines) + "\n"


def number(value: float | None, digits: int) -> str:
    """A figure, or a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


def rate_difference_text(difference: RateDifference) -> str:
    """Percent with its sign, or that the qualities don't meet."""
    if difference.percent is None:
        return "no common quality"
    return f"{difference.percent:+.1f} %"


def rate_difference_meaning(differences: Sequence[RateDifference]) -> str:
    """What the percentages are, in a sentence: that depends on how many points there are."""
    curves = any(d.points > 1 for d in differences)
    single = any(d.points == 1 for d in differences)
    parts = []
    if curves:
        parts.append(
            "of a decoder with several rates the Bjøntegaard delta (BD-rate), the mean over all "
            "qualities that both reach"
        )
    if single:
        parts.append(
            "of a decoder with one rate, which has no BD-rate, the difference at its one quality"
        )
    return "Bits more (+) or fewer (−) than the codec for equal quality: " + "; ".join(parts) + "."


def judge_text(judgement: Judgement) -> str:
    """Who judges, at which size, and whether it may."""
    text = f"{judgement.judge}, at {judgement.side}×{judgement.side} pixels"
    if judgement.used_in_training:
        text += ", with which the model was trained, so that its word counts for little"
    return text


def _summary(e: Evaluation) -> list[str]:
    q = e.quality
    lines = [
        f"# {e.model}, {e.runtime}",
        "",
        f"{e.images} images at their own size, one code for each {e.stride}×{e.stride} patch.",
        "",
        "| figure | value |",
        "|---|---|",
        f"| PSNR | {q.psnr:.2f} dB |",
        f"| SSIM | {number(q.ssim, 4)} |",
        f"| MS-SSIM | {number(q.ms_ssim, 4)} |",
    ]
    if q.lpips is not None:
        lines.append(f"| LPIPS ({e.lpips_network}), less is better | {q.lpips:.4f} |")
    if q.ssimulacra2 is not None:
        lines.append(f"| SSIMULACRA2 | {q.ssimulacra2:.2f} |")
    lines += [
        f"| bits per pixel, packed | {e.bits_per_pixel:.4f} |",
        "| bits per pixel at the entropy of these codes' own histogram, which no reader has "
        f"| {e.bits_per_pixel_own_histogram:.4f} |",
        f"| codes used | {e.usage.used:.1%} of {e.codebook_size} |",
        f"| perplexity | {e.usage.perplexity:.0f} |",
        f"| entropy of the codes' own histogram | {e.usage.entropy:.2f} bits a code |",
    ]
    if e.without_ms_ssim:
        lines += ["", f"MS-SSIM leaves out {e.without_ms_ssim} images with a side below 176 px."]
    if e.broken:
        lines += ["", f"{len(e.broken)} files could not be read:"]
        lines += [f"- {b}" for b in e.broken]
    return lines


_QUALITY_HEAD = "| bits per pixel | PSNR, dB | SSIM | MS-SSIM | LPIPS | SSIMULACRA2 |"


def _variants(e: Evaluation) -> list[str]:
    if len(e.variants) < 2:
        return []
    lines = [
        "## Decoders and stages",
        "",
        f"| variant {_QUALITY_HEAD}",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [f"| {v.name} {_quality_cells(v.bits_per_pixel, v.quality)}" for v in e.variants]
    return lines


def _equal_bytes(e: Evaluation) -> list[str]:
    lines: list[str] = []
    for stages in dict.fromkeys(p.stages for p in e.baselines):
        baselines = [p for p in e.baselines if p.stages == stages]
        own = next(v for v in e.variants if v.stages == stages)
        title = f"At equal bytes, {baselines[0].images} images"
        if len(e.variants) > 1:
            title += f": {own.name}"
        lines += [""] if lines else []
        lines += [
            f"## {title}",
            "",
            "Whole files of the classical codecs, headers and all, as long as the codes at most.",
            "",
            f"| codec {_QUALITY_HEAD} files that small |",
            "|---|---|---|---|---|---|---|---|",
            f"| {own.name} {_quality_cells(own.bits_per_pixel, baselines[0].model)} all |",
        ]
        for p in baselines:
            fitting = f"{p.fitting} of {p.images}"
            if p.fitting < p.images:
                fitting += f"; its smallest take {p.smallest_bits_per_pixel:.3f} bpp"
            lines.append(f"| {p.codec} {_quality_cells(p.bits_per_pixel, p.quality)} {fitting} |")
    return lines


def _rate_differences(e: Evaluation) -> list[str]:
    if not e.rate_differences:
        return []
    measures = list(dict.fromkeys(d.measure for d in e.rate_differences))
    found = {(d.decoder, d.codec, d.measure): d for d in e.rate_differences}
    lines = [
        "## Rate at equal quality",
        "",
        rate_difference_meaning(e.rate_differences),
        "",
        "| decoder | against | " + " | ".join(MEASURE_NAMES[m] for m in measures) + " |",
        "|---|---|" + "---|" * len(measures),
    ]
    for decoder, codec in dict.fromkeys((d.decoder, d.codec) for d in e.rate_differences):
        cells = [
            rate_difference_text(found[decoder, codec, m]) if (decoder, codec, m) in found else "–"
            for m in measures
        ]
        lines.append(f"| {decoder} | {codec} | " + " | ".join(cells) + " |")
    return lines


SYNTHETIC_HEAD = (
    "flat colours: error, median",
    "95 %",
    "ripple, median",
    "text and boxes, dB",
    "gradient, dB",
)


def synthetic_figures(s: SyntheticFidelity) -> tuple[str, ...]:
    """The figures that stand under `SYNTHETIC_HEAD`."""
    return (
        f"{s.flat_error_median:.1f}",
        f"{s.flat_error_95:.1f}",
        f"{s.flat_ripple_median:.1f}",
        f"{s.text_psnr:.2f}",
        f"{s.gradient_psnr:.2f}",
    )


SYNTHETIC_MEANING = (
    "200 random colours of 64×64 pixels: the worst channel's error of the mean and its ripple, of "
    "255; text with boxes, and a smooth gradient, of 256×256: PSNR."
)


def _synthetic(e: Evaluation) -> list[str]:
    found = [(v.name, v.synthetic) for v in e.variants if v.synthetic is not None]
    if not found:
        return []
    return [
        "## Synthetic pictures",
        "",
        SYNTHETIC_MEANING,
        "",
        f"| | {' | '.join(SYNTHETIC_HEAD)} |",
        "|---" * (1 + len(SYNTHETIC_HEAD)) + "|",
        *(f"| {name} | {' | '.join(synthetic_figures(s))} |" for name, s in found),
    ]


def _recognisability(e: Evaluation) -> list[str]:
    if not e.judgements:
        return []
    lines = [
        "## Recognisability",
        "",
        f"What a frozen ImageNet network names in {e.judgements[0].images} test images at their "
        "own size; the classical codecs at the same bytes or, where they can't, at their smallest.",
    ]
    for j in e.judgements:
        lines += [
            "",
            f"{judge_text(j)}.",
            "",
            f"| pictures | bytes | top-1 of 1,000 | top-1 of the {j.classes} classes |",
            "|---|---|---|---|",
        ]
        lines += [
            f"| {r.source} | {number(r.bytes, 0)} | {r.top1:.3f} | {r.top1_of_classes:.3f} |"
            for r in j.rows
        ]
    return lines


def _probe(e: Evaluation) -> list[str]:
    if not e.probe:
        return []
    return [
        "## Recognition probe",
        "",
        "| representation | numbers | linear | 5-NN, cosine |",
        "|---|---|---|---|",
        *(f"| {r.representation} | {r.size} | {r.linear:.3f} | {r.nearest:.3f} |" for r in e.probe),
    ]


def _absent(e: Evaluation) -> list[str]:
    return ["## Not measured", "", *(f"- {a}" for a in e.absent)] if e.absent else []


def _quality_cells(rate: float, q: Quality) -> str:
    return (
        f"| {rate:.4f} | {q.psnr:.2f} | {number(q.ssim, 4)} | {number(q.ms_ssim, 4)} "
        f"| {number(q.lpips, 4)} | {number(q.ssimulacra2, 2)} |"
    )
