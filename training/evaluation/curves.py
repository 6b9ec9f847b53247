"""Rate–distortion curves: of the model, of classical codecs, and how far they are apart."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.data.dataset import Pixels, Read, read_image
from training.evaluation.baselines import BaselineCodec, baseline_codecs, decode_file
from training.evaluation.bd_rate import Curve, bd_rate, rate_difference
from training.evaluation.quality import Measures, Quality, mean_quality, measure
from training.evaluation.results import CurvePoint, RateDifference
from training.evaluation.variants import Variant


@dataclass(frozen=True)
class Measured:
    """One image through every variant of the model.

    Attributes:
        path: of the file.
        width, height: pixels.
        sizes: bytes as stored, variant by variant.
        qualities: of the reconstructions, variant by variant.
    """

    path: Path
    width: int
    height: int
    sizes: list[int]
    qualities: list[Quality]

    @property
    def pixels(self) -> int:
        """How many it has."""
        return self.width * self.height


def own_curve(variants: Sequence[Variant], drawn: Sequence[Measured]) -> list[CurvePoint]:
    """The model's own points: one for each decoder and number of stages."""
    return [
        CurvePoint(
            codec=variant.decoder,
            setting=variant.stages,
            bits_per_pixel=float(np.mean([8 * m.sizes[index] / m.pixels for m in drawn])),
            quality=mean_quality([m.qualities[index] for m in drawn]),
        )
        for index, variant in enumerate(variants)
    ]


def baseline_curve(
    baseline: BaselineCodec, drawn: Iterable[Measured], measures: Measures, read: Read = read_image
) -> list[CurvePoint]:
    """A classical codec's points: one for each of its settings."""
    measures = dataclasses.replace(measures, ssimulacra2=None)
    rates: dict[int, list[float]] = {setting: [] for setting in baseline.curve}
    levels: dict[int, list[Quality]] = {setting: [] for setting in baseline.curve}
    for result in drawn:
        image: Pixels = read(result.path)
        for setting in baseline.curve:
            data = baseline.encode(image, setting)
            rates[setting].append(8 * len(data) / result.pixels)
            levels[setting].append(measure(decode_file(data), image, measures))
    return [
        CurvePoint(
            baseline.name, setting, float(np.mean(rates[setting])), mean_quality(levels[setting])
        )
        for setting in baseline.curve
    ]


def rate_differences(curve: Sequence[CurvePoint]) -> list[RateDifference]:
    """Every decoder of the model against every classical codec, by every measure there is."""
    baselines = {baseline.name for baseline in baseline_codecs()}
    series: dict[str, list[CurvePoint]] = {}
    for point in curve:
        series.setdefault(point.codec, []).append(point)
    differences = []
    for decoder, own in series.items():
        if decoder in baselines:
            continue
        for codec in (name for name in series if name in baselines):
            for name in ("psnr", "ms_ssim", "lpips"):
                mine, theirs = (_rising(points, name) for points in (own, series[codec]))
                if not mine or not theirs:
                    continue
                percent = (
                    bd_rate(theirs, mine) if len(mine) > 1 else rate_difference(theirs, *mine[0])
                )
                differences.append(RateDifference(decoder, codec, name, len(mine), percent))
    return differences


def _rising(points: Sequence[CurvePoint], name: str) -> Curve:
    """Rate and quality, more being better; empty where not every point has that measure.

    MS-SSIM in dB, as is usual for such curves: near 1 its differences would vanish.
    """
    values = [getattr(point.quality, name) for point in points]
    if any(value is None for value in values):
        return []
    if name == "lpips":
        values = [-value for value in values]
    elif name == "ms_ssim":
        values = [-10 * math.log10(max(1e-9, 1 - value)) for value in values]
    return [(p.bits_per_pixel, float(v)) for p, v in zip(points, values, strict=True)]
