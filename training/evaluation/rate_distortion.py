"""Measures a model on whole folders of images: rate, distortion, and what is seen.

Whole images at their own size, padded as the service pads them and cropped back; every decoder
with every number of stages; codes counted over the whole set; classical codecs at equal bytes
and as curves; and, with labelled images, the recognition probe and recognisability.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from training.data.dataset import DataError, Folder, Read, decoded, evenly, find_images
from training.data.metrics import CodeCounter
from training.embedding.embedder import fit_embedder
from training.evaluation.baselines import BaselineCodec, baseline_codecs, decode_file, encode_within
from training.evaluation.curves import Measured, baseline_curve, own_curve, rate_differences
from training.evaluation.linear_probe import (
    Labelled,
    ProbeResult,
    probe_baselines,
    probe_codec,
    read_labelled,
)
from training.evaluation.quality import (
    Measures,
    available_measures,
    mean_quality,
    measure,
)
from training.evaluation.recognisability import Judgement, recognisability
from training.evaluation.results import (
    BaselineResult,
    CurvePoint,
    Evaluation,
    ImageResult,
    VariantResult,
)
from training.evaluation.synthetic_fidelity import synthetic_fidelity
from training.evaluation.variants import DEFAULT_DECODER, Variant, variants_of
from training.onnx_export.codec import CheckpointCodec, Codec

_T = TypeVar("_T")


def evaluate(
    codec: Codec,
    folders: Sequence[Path] | Folder,
    *,
    baseline_images: int = 100,
    curve_images: int = 24,
    labelled: Path | None = None,
    judged_images: int = 400,
    used_in_training: Collection[str] = (),
    measures: Measures | None = None,
    synthetic: bool = True,
    console: Console | None = None,
) -> Evaluation:
    """Measures a model on every image under some folders.

    Args:
        codec: the model; of another than RGB of 8 bits PSNR, SSIM and the codes are measured.
        folders: of images, searched at any depth; or the images that were found already.
        baseline_images: how many images, evenly chosen, the classical codecs are tried on.
        curve_images: the same for their curves.
        labelled: folder with `train/CLASS/` and `test/CLASS/` for the recognition probe and for
            recognisability.
        judged_images: how many of `test/`, evenly chosen, recognisability is measured on; 0
            leaves it out.
        used_in_training: names of the frozen networks that the model was trained with.
        measures: the optional ones; None takes all that are installed.
        synthetic: measure flat colours, text and gradients too.
        console: told what is happening; nothing is said without it.

    Raises:
        DataError: no readable image, or no usable labelled images.
        WeightsError: the weights of a frozen network are not the pinned ones.
    """
    console = console or Console(quiet=True)
    measures = available_measures() if measures is None else measures
    variants = variants_of(codec)
    form = codec.samples
    if not form.is_rgb:  # what the other codecs and measures are for
        baseline_images, synthetic, labelled = 0, False, None
        measures = Measures(absent=("LPIPS and SSIMULACRA2: for RGB of 8 bits",))
    found = folders if isinstance(folders, Folder) else find_images(folders, form)
    above = () if isinstance(folders, Folder) else folders
    broken = list(found.broken)
    measured: list[Measured] = []
    used = [CodeCounter(size) for size in codec.codebook_sizes]
    patches = 0
    for path, image in decoded(_tracked(console, "images", found.paths), broken, found.read):
        codes = codec.encode_image(image)
        height, width = image.shape[:2]
        for counter, stage in zip(used, codes.reshape(codec.stages, -1), strict=True):
            counter.add(torch.from_numpy(stage))
        patches += codes.shape[-2] * codes.shape[-1]
        made = [v.decode(codes, height, width) for v in variants]
        qualities = [measure(picture, image, measures, form.maximum) for picture in made]
        sizes = [v.size(codes) for v in variants]
        measured.append(Measured(path, width, height, sizes, qualities))
    if not measured:
        raise DataError("not one image could be decoded")

    baselines: list[BaselineResult] = []
    curve: list[CurvePoint] = []
    chosen = [measured[i] for i in evenly(len(measured), baseline_images)]
    drawn = [measured[i] for i in evenly(len(measured), min(curve_images, baseline_images))]
    if drawn:
        curve += own_curve(variants, drawn)
    for baseline in baseline_codecs() if chosen else ():
        for index, variant in _default_decoder(variants):
            title = f"{baseline.name} at the bytes of {variant.name}"
            tried = _tracked(console, title, chosen)
            baselines.append(
                _at_equal_bytes(baseline, index, variant.stages, tried, measures, found.read)
            )
        curve += baseline_curve(
            baseline, _tracked(console, f"curve of {baseline.name}", drawn), measures, found.read
        )

    rows: list[ProbeResult] = []
    judgements: list[Judgement] = []
    absent = list(measures.absent)
    if labelled is not None:
        console.print("recognition probe")
        pictures = read_labelled(labelled)
        rows = _probed(codec, pictures)
        if judged_images > 0:
            console.print("recognisability")
            judgements, missing = recognisability(
                codec, variants, pictures, used_in_training=used_in_training, images=judged_images
            )
            absent += missing

    pixels = sum(m.pixels for m in measured)
    usages = [counter.usage() for counter in used]
    results = [
        ImageResult(_relative(m.path, above), m.width, m.height, m.sizes[0], m.qualities[0])
        for m in measured
    ]
    of_variants = [_variant_result(index, v, measured) for index, v in enumerate(variants)]
    if synthetic:
        console.print("synthetic pictures")
        of_variants = [
            dataclasses.replace(r, synthetic=synthetic_fidelity(partial(v.reconstruct_all, codec)))
            for r, v in zip(of_variants, variants, strict=True)
        ]
    return Evaluation(
        model=codec.name,
        runtime=codec.runtime,
        stride=codec.stride,
        codebook_size=codec.codebook_size,
        images=len(results),
        broken=tuple(f"{_relative(b.path, above)}: {b.reason}" for b in broken),
        absent=tuple(absent),
        lpips_network=measures.lpips_network,
        without_ms_ssim=sum(r.quality.ms_ssim is None for r in results),
        bits_per_pixel=of_variants[0].bits_per_pixel,
        bits_per_pixel_own_histogram=patches * sum(usage.entropy for usage in usages) / pixels,
        quality=of_variants[0].quality,
        usage=usages[0],
        variants=tuple(of_variants),
        baselines=tuple(baselines),
        curve=tuple(curve),
        rate_differences=tuple(rate_differences(curve)),
        probe=tuple(rows),
        judgements=tuple(judgements),
        results=tuple(results),
    )


def _tracked(console: Console, title: str, things: Sequence[_T]) -> Iterable[_T]:
    """The same things with a progress bar, where somebody can see it."""
    return track(things, title, console=console, disable=not console.is_terminal)


def _probed(codec: Codec, pictures: Labelled) -> list[ProbeResult]:
    if isinstance(codec, CheckpointCodec) and codec.embedder is None:
        # No labels go in: the same fit as the export's, on these images instead.
        codec.embedder = fit_embedder(codec.model, pictures.train)
    own = probe_codec(codec, pictures)
    return ([own] if own else []) + probe_baselines(pictures, codec.config)


def _default_decoder(variants: Sequence[Variant]) -> list[tuple[int, Variant]]:
    """Index and variant of the default decoder with each number of stages."""
    return [(i, v) for i, v in enumerate(variants) if v.decoder == DEFAULT_DECODER]


def _variant_result(index: int, variant: Variant, measured: Sequence[Measured]) -> VariantResult:
    return VariantResult(
        name=variant.name,
        decoder=variant.decoder,
        stages=variant.stages,
        bits_per_pixel=8 * sum(m.sizes[index] for m in measured) / sum(m.pixels for m in measured),
        quality=mean_quality([m.qualities[index] for m in measured]),
        synthetic=None,
    )


def _at_equal_bytes(
    baseline: BaselineCodec,
    index: int,
    stages: int,
    images: Iterable[Measured],
    measures: Measures,
    read: Read,
) -> BaselineResult:
    qualities, models, rates, smallest, fitting = [], [], [], [], 0
    for result in images:
        image = read(result.path)
        file = encode_within(baseline, image, result.sizes[index])
        fitting += file.fits
        rates.append(8 * len(file.data) / result.pixels)
        smallest.append(8 * file.smallest / result.pixels)
        qualities.append(measure(decode_file(file.data), image, measures))
        models.append(result.qualities[index])
    return BaselineResult(
        codec=baseline.name,
        stages=stages,
        images=len(models),
        fitting=fitting,
        bits_per_pixel=float(np.mean(rates)),
        smallest_bits_per_pixel=float(np.mean(smallest)),
        quality=mean_quality(qualities),
        model=mean_quality(models),
    )


def _relative(path: Path, folders: Sequence[Path]) -> str:
    folder = next((f for f in folders if path.is_relative_to(f)), path.parent)
    return path.relative_to(folder).as_posix()
