"""What an evaluation found, as plain frozen values that go into `metrics.json`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from training.data.metrics import CodeUsage
from training.evaluation.linear_probe import ProbeResult
from training.evaluation.quality import Quality
from training.evaluation.recognisability import Judgement
from training.evaluation.synthetic_fidelity import SyntheticFidelity


@dataclass(frozen=True)
class ImageResult:
    """One image through the default decoder with all stages.

    Attributes:
        path: of the file, relative to the folder given.
        width, height: pixels.
        bytes: its codes take, packed at ⌈log2 K⌉ bits each, without any header.
        quality: of the reconstruction.
    """

    path: str
    width: int
    height: int
    bytes: int
    quality: Quality


@dataclass(frozen=True)
class VariantResult:
    """A decoder with a number of stages, over all images.

    Attributes:
        name: for people to read.
        decoder: its name.
        stages: how many it was given.
        bits_per_pixel: as stored, over true pixels, both summed over all images.
        quality: means.
        synthetic: what becomes of flat colours, text and gradients; None where that was left out.
    """

    name: str
    decoder: str
    stages: int
    bits_per_pixel: float
    quality: Quality
    synthetic: SyntheticFidelity | None


@dataclass(frozen=True)
class BaselineResult:
    """A classical codec given as many bytes an image as the model takes.

    Attributes:
        codec: its name.
        stages: of the codes whose bytes it was given.
        images: it was tried on.
        fitting: of these, how many files could be made as small as the model's codes;
            the others count with the codec's smallest file.
        bits_per_pixel: mean over the images.
        smallest_bits_per_pixel: the mean size of its smallest files.
        quality: means.
        model: means of the default decoder on the same images.
    """

    codec: str
    stages: int
    images: int
    fitting: int
    bits_per_pixel: float
    smallest_bits_per_pixel: float
    quality: Quality
    model: Quality


@dataclass(frozen=True)
class CurvePoint:
    """A point of a rate–distortion curve, means over the images.

    Attributes:
        codec: a classical codec, or a decoder of the model.
        setting: its quality setting, or the number of stages.
        bits_per_pixel: as stored.
        quality: without SSIMULACRA2, which is too slow for whole curves.
    """

    codec: str
    setting: int
    bits_per_pixel: float
    quality: Quality


@dataclass(frozen=True)
class RateDifference:
    """How many percent more bits a decoder of the model takes than a codec of equal quality.

    Attributes:
        decoder: of the model.
        codec: that it is compared with.
        measure: of quality: `psnr`, `ms_ssim` or `lpips`.
        points: of the decoder. From two on it is the Bjøntegaard delta, over all qualities that
            both curves reach; of a single one it is the difference at its quality.
        percent: negative where the model takes fewer bits; None where the qualities don't meet.
    """

    decoder: str
    codec: str
    measure: str
    points: int
    percent: float | None


@dataclass(frozen=True)
class Evaluation:
    """Everything measured of a model on folders of images.

    Attributes:
        model: its name.
        runtime: what computed it, with the precision.
        stride, codebook_size: of the model.
        images: how many were measured.
        broken: files that look like images and can't be read, with the reason.
        absent: what was not measured, each with the reason.
        lpips_network: what LPIPS looked through.
        without_ms_ssim: images too small for MS-SSIM, left out of its mean.
        bits_per_pixel: as stored, over true pixels, both summed over all images.
        bits_per_pixel_own_histogram: the same if each code took the entropy of the histogram of
            these very codes. No reader has that histogram: it bounds what a table of frequencies
            could save, and is no size of any file.
        quality: means over the images, default decoder, all stages.
        usage: of the first stage's codebook over the whole set.
        variants: each decoder with each number of stages; the first is the default with all.
        baselines: classical codecs at equal bytes.
        curve: rate and quality of the classical codecs and of the model, on the same images.
        rate_differences: of the model's decoders against the classical codecs' curves.
        probe: recognition accuracies, the model's embedding first; empty without labelled images.
        judgements: recognisability; empty without labelled images.
        results: image by image.
    """

    model: str
    runtime: str
    stride: int
    codebook_size: int
    images: int
    broken: tuple[str, ...]
    absent: tuple[str, ...]
    lpips_network: str
    without_ms_ssim: int
    bits_per_pixel: float
    bits_per_pixel_own_histogram: float
    quality: Quality
    usage: CodeUsage
    variants: tuple[VariantResult, ...]
    baselines: tuple[BaselineResult, ...]
    curve: tuple[CurvePoint, ...]
    rate_differences: tuple[RateDifference, ...]
    probe: tuple[ProbeResult, ...]
    judgements: tuple[Judgement, ...]
    results: tuple[ImageResult, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, keys as the attributes."""
        return dataclasses.asdict(self)
