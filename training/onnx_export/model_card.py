"""`MODEL_CARD.md`: what a person should know before using a bundle, made from its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bundle import Manifest


def model_card(manifest: Manifest) -> str:
    """The card as Markdown."""
    parts = [
        _head(manifest),
        _data(manifest),
        _recipe(manifest),
        _metrics(manifest.metrics),
        _recognizers(manifest),
        _prior(manifest),
        _parity(manifest),
        _limits(manifest),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(manifest: Manifest) -> str:
    s, k = manifest.stride, manifest.codebook_size
    return (
        f"# {manifest.name}, version {manifest.version}\n\n"
        f"A VQ-VAE image tokenizer: each {s}×{s} patch of an RGB image becomes one of {k} codes "
        f"({manifest.bits} bits, {manifest.bits / s**2:.4f} bits per pixel), and the codes become "
        f"the image, or a vector of {manifest.embedding_size} numbers for retrieval and "
        f"recognition. Any image size.{_stages(manifest)}\n\n"
        f"Code space: `{manifest.code_space}`"
    )


def _stages(manifest: Manifest) -> str:
    """What a model of several stages or decoders has beyond the others."""
    text = ""
    if manifest.stages > 1:
        bits = ", ".join(map(str, manifest.stage_bits))
        total = sum(manifest.stage_bits) / manifest.stride**2
        text += (
            f"\n\nThe codes have {manifest.stages} stages, of {bits} bits: the first alone gives a "
            "picture, and each further one makes it better "
            f"({total:.4f} bits per pixel in all). Vectors and labels are of the first stage."
        )
    if manifest.decoders:
        names = ", ".join(sorted(manifest.decoders))
        text += f"\n\nFurther decoders for the same codes: {names}."
    return text


def _data(manifest: Manifest) -> str:
    lines = ["## Trained on", ""]
    if not manifest.data:
        return "\n".join([*lines, "Not stated by whoever exported this bundle."])
    for entry in manifest.data:
        extra = [f"{k} {v}" for k, v in entry.items() if k not in ("name", "licence")]
        lines.append(
            f"- **{entry['name']}**: {entry['licence']}" + "".join(f"; {e}" for e in extra)
        )
    return "\n".join(lines)


def _recipe(manifest: Manifest) -> str:
    facts = manifest.training
    configuration = facts.get("configuration", {})
    lines = ["## Recipe", ""]
    lines.append(
        f"{_steps(facts)} steps, {facts.get('images_seen', '?')} crops, "
        f"{float(facts.get('seconds', 0)) / 60:.0f} minutes; exported at git commit "
        f"`{facts.get('git_commit', 'unknown')}`, torch {facts.get('torch', '?')}."
    )
    if "embedder" in facts:
        learnt = facts["embedder"]
        lines += [
            "",
            f"The embedder was learnt afterwards, without labels: from {learnt['copies']} edited "
            f"copies of each of {learnt['photographs']} photographs, in "
            f"{learnt['recipe']['steps']} steps, {learnt['seconds'] / 60:.0f} minutes.",
        ]
    stored = facts.get("weights", {})
    if stored.get("stored") == "float16":
        lines += [
            "",
            "Weights are stored in half precision, once for all precisions, which costs "
            f"{max(0.0, stored['psnr_cost_of_float16']):.4f} dB; fp32 computes in float32.",
        ]
    if "code_space" in facts:
        kept = facts["code_space"]
        lines += [
            "",
            f"It keeps the code space of {kept['bundle']}: {kept['code_agreement']:.2%} of the "
            f"codes of {kept['images']} images are the same, and from the same codes it reaches "
            f"{kept['psnr'][-1]:.2f} dB where that reached {kept['psnr_before'][-1]:.2f}.",
        ]
    if "note" in facts:
        lines += ["", str(facts["note"])]
    for section in ("network", "quantizer", "loss", "optimizer"):
        values = configuration.get(section, {})
        shown = ", ".join(f"{k} {v}" for k, v in values.items() if v not in (0.0, ""))
        lines += ["", f"- {section}: {shown}"]
    return "\n".join(lines)


def _steps(facts: Mapping[str, Any]) -> str:
    done = facts.get("steps", "?")
    planned = facts.get("steps_planned", done)
    return f"{done}" if planned == done else f"{done} of {planned} planned"


def _metrics(metrics: Mapping[str, Any]) -> str:
    if not metrics:
        return ""
    lines = ["## Measured", ""]
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            figures = [(k, v) for k, v in value.items() if isinstance(v, (int, float, str))]
            if figures:
                lines += [f"**{name}**", "", "| | |", "|-|-|"]
                lines += [f"| {k} | {_shown(v)} |" for k, v in figures]
                lines.append("")
        elif isinstance(value, (int, float, str)):
            lines.append(f"- {name}: {_shown(value)}")
    return "\n".join(lines).rstrip()


def _recognizers(manifest: Manifest) -> str:
    if not manifest.recognizers:
        return ""
    lines = ["## Recognizers", "", "Labels from codes alone; they change no code."]
    for name, recognizer in manifest.recognizers.items():
        lines += [
            "",
            f"**{name}**: {len(recognizer.classes)} classes ({', '.join(recognizer.classes)}). "
            f"Data: {recognizer.licence}",
        ]
        figures = [
            (key, value)
            for key, value in recognizer.metrics.items()
            if isinstance(value, (int, float, str))
        ]
        if figures:
            lines += ["", "| | |", "|-|-|"]
            lines += [f"| {key} | {_shown(value)} |" for key, value in figures]
    return "\n".join(lines)


def _prior(manifest: Manifest) -> str:
    if manifest.prior is None:
        return ""
    facts = manifest.training.get("prior", {})
    lines = [
        "## Prior",
        "",
        f"A context model of the codes, with which they are stored in less than {manifest.bits} "
        f"bits each. Learnt from {facts.get('images', '?')} images, none of which is among the "
        f"{facts.get('images_held_out', '?')} held out. Digest `{manifest.prior.digest}`.",
        "",
    ]
    for name, value in manifest.prior.metrics.items():
        saved = 1 - float(value) / manifest.bits
        lines.append(f"- {name.replace('_', ' ')}: {value} of {manifest.bits}, {saved:.1%} less")
    return "\n".join(lines)


def _parity(manifest: Manifest) -> str:
    lines = [
        "## Precisions",
        "",
        "Against the trained network, on photographs of odd sizes:",
        "",
        "| graph | precision | codes that agree | PSNR, dB | of the network | error |",
        "|-|-|-|-|-|-|",
    ]
    for graph, precisions in manifest.parity.items():
        for precision, figures in precisions.items():
            cells = [
                f"{figures[key]:{form}}" if key in figures else ""
                for key, form in (
                    ("code_agreement", ".2%"),
                    ("psnr", ".3f"),
                    ("psnr_torch", ".3f"),
                )
            ]
            error = next(
                (
                    f"{name} {figures[key]:{form}}"
                    for key, name, form in (
                        ("latent_error", "latents", ".2g"),
                        ("embedding_cosine", "cosine", ".6g"),
                        ("score_error", "scores", ".2g"),
                        ("different_frequencies", "other frequencies", "d"),
                    )
                    if key in figures
                ),
                "",
            )
            if "failed" in figures:
                error = f"left out: {figures['failed']}"
            lines.append(f"| {graph} | {precision} | " + " | ".join([*cells, error]) + " |")
    return "\n".join(lines)


def _limits(manifest: Manifest) -> str:
    last = (
        "- A recognizer knows no classes but its own, and no “none of them”: whatever is shown, "
        "its probabilities add up to one. Not tested for use on people."
        if manifest.recognizers
        else "- Not a classifier, and not tested for use on people."
    )
    return (
        "## Limits\n\n"
        "- Lossy: text, faces and fine texture suffer first. Look at reconstructions of your own "
        "images before you keep codes instead of pictures.\n"
        "- 8-bit sRGB; colour profiles are converted to it, transparency is laid over white.\n"
        "- Codes of other code spaces than the one above can't be decoded by this model; codes "
        "made in a lower precision differ in near ties, at the same quality.\n"
        f"- Vectors of this version, {manifest.version}, are not comparable with those of another "
        "version, even where the code space is the same. Codes may be mixed, vectors may not: "
        "make the vectors anew, from the codes.\n"
        f"{last}"
    )


def _shown(value: float | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
