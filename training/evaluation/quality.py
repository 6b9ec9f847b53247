"""How near a picture comes to its original, by every measure that is installed."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from training.data.dataset import Pixels
from training.data.metrics import ms_ssim, psnr, ssim
from training.perceptual.lpips import LPIPS
from training.perceptual.weights import WeightsMissing

try:
    from ssimulacra2 import compute_ssimulacra2
except ImportError:  # an optional package; without it the measure is reported as absent
    compute_ssimulacra2 = None

# Five scales of an 11-pixel window: below this MS-SSIM isn't defined.
_MS_SSIM_SIDE = 176
_SSIM_SIDE = 11
# Six scales, the coarsest of 8 pixels. With fewer, the published weights fall on other features.
_SSIMULACRA2_SIDE = 256


@dataclass(frozen=True)
class Quality:
    """How near a picture, or the mean of several, comes to the original.

    Attributes:
        psnr: dB.
        ssim: 0…1; None where every image has a side below 11 pixels.
        ms_ssim: 0…1; None where every image has a side below 176 pixels.
        lpips: 0…1, less is better; None where there is no network.
        ssimulacra2: 100 is no visible difference, 50 a medium one, below 0 a strong one; None
            where its package is absent or every image has a side below 256 pixels.
    """

    psnr: float
    ssim: float | None = None
    ms_ssim: float | None = None
    lpips: float | None = None
    ssimulacra2: float | None = None


@dataclass(frozen=True)
class Measures:
    """The measures that need more than this project.

    Attributes:
        lpips: maps two float batches `[n, 3, h, w]` in [−1, 1] to distances.
        lpips_network: what it looks through.
        ssimulacra2: maps original and made, both PNG files, to a score.
        absent: for each measure that is not there, its name and why.
    """

    lpips: nn.Module | None = None
    lpips_network: str = ""
    ssimulacra2: Callable[[io.BytesIO, io.BytesIO], float] | None = None
    absent: tuple[str, ...] = field(default=())


def available_measures(
    lpips: nn.Module | None = None, *, without: Sequence[str] = (), lpips_network: str = "a file"
) -> Measures:
    """The measures that are installed here.

    Args:
        lpips: a network to take instead of AlexNet.
        without: `lpips` or `ssimulacra2`, to leave that measure out.
        lpips_network: name of the network given.

    Raises:
        WeightsError: AlexNet's weights are not the pinned ones.
    """
    absent = []
    if "lpips" in without:
        lpips = None
        absent.append("LPIPS: left out")
    elif lpips is None:
        try:
            lpips, lpips_network = LPIPS("alexnet"), "AlexNet"
        except WeightsMissing as error:
            absent.append(f"LPIPS: {error}")
    score = None if "ssimulacra2" in without else compute_ssimulacra2
    if score is None:
        why = "its package is not installed: pip install ssimulacra2==0.3.0"
        absent.append(f"SSIMULACRA2: {'left out' if 'ssimulacra2' in without else why}")
    return Measures(lpips, lpips_network if lpips is not None else "", score, tuple(absent))


def measure(
    made: Pixels, wanted: Pixels, measures: Measures | None = None, maximum: int = 255
) -> Quality:
    """Quality of one picture.

    Args:
        made: uint8 `[h, w, 3]`, or samples of another format.
        wanted: the original, the same.
        measures: the optional ones, which are for RGB of 8 bits.
        maximum: the sample that is white.

    Raises:
        ValueError: they differ in size.
    """
    if made.shape != wanted.shape:
        raise ValueError(f"pictures of shapes {made.shape} and {wanted.shape} can't be compared")
    measures = measures or Measures()
    a, b = _unit(made, maximum), _unit(wanted, maximum)
    side = min(wanted.shape[:2])
    lpips, score = measures.lpips, measures.ssimulacra2
    with torch.inference_mode():
        return Quality(
            psnr=float(psnr(a, b)),
            ssim=float(ssim(a, b)) if side >= _SSIM_SIDE else None,
            ms_ssim=float(ms_ssim(a, b)) if side >= _MS_SSIM_SIDE else None,
            lpips=float(lpips(2 * a - 1, 2 * b - 1).mean())
            if lpips is not None and side >= getattr(lpips, "smallest_side", 0)
            else None,
            ssimulacra2=float(score(_png(wanted), _png(made)))
            if score is not None and side >= _SSIMULACRA2_SIDE
            else None,
        )


def mean_quality(qualities: Sequence[Quality]) -> Quality:
    """Means of each figure over the images that have it; None where none has."""

    def mean(name: str) -> float | None:
        present = [v for v in (getattr(q, name) for q in qualities) if v is not None]
        return float(np.mean(present)) if present else None

    return Quality(**{f.name: mean(f.name) for f in fields(Quality)})  # type: ignore[arg-type]


def _unit(pixels: Pixels, maximum: int) -> Tensor:
    """Samples `[h, w, c]` → float32 `[1, c, h, w]` in [0, 1]."""
    return torch.tensor(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].float() / maximum


def _png(pixels: Pixels) -> io.BytesIO:
    """An uncompressed file: SSIMULACRA2's package reads files alone."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=0)
    buffer.seek(0)
    return buffer
