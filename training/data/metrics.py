"""Figures of merit for pictures and for the use of a codebook.

Pictures are float `[n, 3, h, w]` in [0, 1]; each function gives one value an image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# Wang, Simoncelli & Bovik 2003, table I: the exponents of the five scales.
_MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_C1, _C2 = 0.01**2, 0.03**2


def psnr(made: Tensor, wanted: Tensor) -> Tensor:
    """Peak signal-to-noise ratio, dB `[n]`: 10·log10(1 / MSE), over all three channels."""
    mse = (made.double() - wanted.double()).square().flatten(1).mean(dim=1)
    return -10 * torch.log10(mse.clamp_min(1e-12))


def ssim(made: Tensor, wanted: Tensor) -> Tensor:
    """Structural similarity `[n]` (Wang et al. 2004): 11×11 Gaussian window, σ 1.5, valid area.

    Raises:
        ValueError: a side is shorter than the window's 11 pixels.
    """
    similarity, _ = _ssim_and_contrast(made, wanted)
    return similarity


def ms_ssim(made: Tensor, wanted: Tensor, scales: int = 5) -> Tensor:
    """Multi-scale structural similarity `[n]` (Wang, Simoncelli & Bovik 2003).

    With fewer than five scales, the exponents of the finest are scaled to sum to 1.

    Raises:
        ValueError: the image is smaller than 11 pixels at the coarsest scale.
    """
    weights = torch.tensor(_MS_SSIM_WEIGHTS[:scales], dtype=torch.float32)
    exponents = [float(v) for v in weights / weights.sum()]
    value = torch.ones(len(made), device=made.device)
    for scale, exponent in enumerate(exponents):
        similarity, contrast = _ssim_and_contrast(made, wanted)
        last = scale + 1 == scales
        # Structure can be anticorrelated; a negative base has no real power.
        value = value * (similarity if last else contrast).clamp_min(1e-6) ** exponent
        if not last:
            made, wanted = F.avg_pool2d(made, 2), F.avg_pool2d(wanted, 2)
    return value


def _ssim_and_contrast(made: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    if min(made.shape[-2:]) < 11:
        height, width = made.shape[-2:]
        raise ValueError(
            f"SSIM's window is 11×11 pixels; at this scale the image is {width}×{height}"
        )
    offsets = torch.arange(11, dtype=torch.float32, device=made.device) - 5
    window = torch.exp(-offsets.square() / (2 * 1.5**2))
    window = window / window.sum()

    def blur(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        x = x.reshape(n * c, 1, h, w)
        x = F.conv2d(F.conv2d(x, window.view(1, 1, 11, 1)), window.view(1, 1, 1, 11))
        return x.reshape(n, c, h - 10, w - 10)

    made, wanted = made.float(), wanted.float()
    mean_a, mean_b = blur(made), blur(wanted)
    variance_a = blur(made * made) - mean_a * mean_a
    variance_b = blur(wanted * wanted) - mean_b * mean_b
    covariance = blur(made * wanted) - mean_a * mean_b
    contrast = (2 * covariance + _C2) / (variance_a + variance_b + _C2)
    luminance = (2 * mean_a * mean_b + _C1) / (mean_a.square() + mean_b.square() + _C1)
    return (luminance * contrast).flatten(1).mean(dim=1), contrast.flatten(1).mean(dim=1)


@dataclass(frozen=True)
class CodeUsage:
    """How a whole set of images uses the codebook.

    Attributes:
        used: share of the K codes that occur at all, 0…1.
        entropy: of the codes' distribution, bits a code.
        perplexity: 2^entropy, the number of equally used codes with that entropy.
    """

    used: float
    entropy: float
    perplexity: float


class CodeCounter:
    """Counts codes over a whole set: perplexity over a batch misleads.

    Args:
        size: number of codes K.
    """

    def __init__(self, size: int) -> None:
        self.counts = torch.zeros(size, dtype=torch.int64)

    def add(self, codes: Tensor) -> None:
        """Counts int64 codes of any shape."""
        self.counts += torch.bincount(codes.flatten().cpu(), minlength=len(self.counts))

    def usage(self) -> CodeUsage:
        """Usage of everything counted so far; all zero if that is nothing."""
        total = int(self.counts.sum())
        if total == 0:
            return CodeUsage(0.0, 0.0, 0.0)
        shares = self.counts[self.counts > 0].double() / total
        entropy = float(-(shares * shares.log2()).sum())
        return CodeUsage(len(shares) / len(self.counts), entropy, math.pow(2, entropy))
