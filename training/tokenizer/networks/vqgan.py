"""Encoder and decoder of VQGAN: residual blocks with group normalisation, attention when coarse.

Esser et al. 2021, "Taming Transformers for High-Resolution Image Synthesis" (arXiv:2012.09841,
appendix A, table 7), as most tokenizers since have it. Half of the arithmetic happens at the
images' full resolution, so that on a CPU it takes many times as long as the plain convolutions of
`convolutional` with as many weights. Normalisation and attention see the whole image: what a
patch becomes depends on all others, and an image can't be run in tiles.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from training.tokenizer.config import VQGANConfig


class NormalizedBlock(nn.Module):
    """`x + conv3(silu(norm(conv3(silu(norm(x))))))`; x through a 1×1 convolution if it widens."""

    def __init__(self, width_in: int, width_out: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, width_in, eps=1e-6)
        self.conv1 = nn.Conv2d(width_in, width_out, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, width_out, eps=1e-6)
        self.conv2 = nn.Conv2d(width_out, width_out, 3, padding=1)
        self.shortcut = (
            nn.Identity() if width_in == width_out else nn.Conv2d(width_in, width_out, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """`[n, width_in, h, w]` → `[n, width_out, h, w]`."""
        y = self.conv1(F.silu(self.norm1(x)))
        y = self.conv2(F.silu(self.norm2(y)))
        made: Tensor = self.shortcut(x) + y
        return made


class Attention(nn.Module):
    """Each cell looks at all cells, with one head (Wang et al. 2018, arXiv:1711.07971)."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, width, eps=1e-6)
        self.to_queries_keys_values = nn.Conv2d(width, 3 * width, 1)
        self.project = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """`[n, width, h, w]` → the same."""
        cells = self.to_queries_keys_values(self.norm(x)).flatten(2).transpose(1, 2)
        # With an axis for the one head: the exporter takes four axes alone.
        queries, keys, values = cells[:, None].chunk(3, dim=3)
        seen = F.scaled_dot_product_attention(queries, keys, values)[:, 0]
        change: Tensor = self.project(seen.transpose(1, 2).reshape(x.shape))
        return x + change


class VQGANEncoder(nn.Module):
    """Pixels in [−1, 1] `[n, c, h, w]` → latents `[n, d, h/s, w/s]`."""

    def __init__(self, config: VQGANConfig, latent_width: int, channels: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels, config.widths[0], 3, padding=1)]
        channels = config.widths[0]
        for index, width in enumerate(config.widths):
            if index > 0:
                layers.append(nn.Conv2d(channels, channels, 3, stride=2, padding=1))
            for _ in range(config.depth):
                layers.append(NormalizedBlock(channels, width, config.groups))
                channels = width
        layers += _middle(channels, config)
        self.stages = nn.Sequential(*layers)
        self.norm = nn.GroupNorm(config.groups, channels, eps=1e-6)
        self.to_latents = nn.Conv2d(channels, latent_width, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        """`[n, c, h, w]` in [−1, 1] → `[n, d, h/s, w/s]`."""
        latents: Tensor = self.to_latents(F.silu(self.norm(self.stages(pixels))))
        return latents


class VQGANDecoder(nn.Module):
    """Code vectors `[n, d, h/s, w/s]` → pixels `[n, c, h, w]`, about [−1, 1], not clipped."""

    def __init__(self, config: VQGANConfig, latent_width: int, channels: int = 3) -> None:
        super().__init__()
        current = config.widths[-1]
        layers: list[nn.Module] = [nn.Conv2d(latent_width, current, 3, padding=1)]
        layers += _middle(current, config)
        for index, width in enumerate(config.widths[::-1]):
            if index > 0:
                layers.append(_Doubled(current))
            for _ in range(config.depth + 1):
                layers.append(NormalizedBlock(current, width, config.groups))
                current = width
        self.stages = nn.Sequential(*layers)
        self.norm = nn.GroupNorm(config.groups, current, eps=1e-6)
        self.to_pixels = nn.Conv2d(current, channels, 3, padding=1)

    def forward(self, vectors: Tensor) -> Tensor:
        """`[n, d, h/s, w/s]` → `[n, c, h, w]`."""
        pixels: Tensor = self.to_pixels(F.silu(self.norm(self.stages(vectors))))
        return pixels


class _Doubled(nn.Module):
    """Each pixel repeated in a square of four, then a 3×3 convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        doubled: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return doubled


def _middle(width: int, config: VQGANConfig) -> list[nn.Module]:
    """What comes at the coarsest scale, in encoder and decoder alike."""
    blocks: list[nn.Module] = [NormalizedBlock(width, width, config.groups)]
    if config.attention:
        blocks.append(Attention(width, config.groups))
    return [*blocks, NormalizedBlock(width, width, config.groups)]
