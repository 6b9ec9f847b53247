"""Encoder and decoder: plain convolutions, no normalisation, no attention.

Fully convolutional, so one set of weights takes images of any size whose sides
are multiples of the stride. Almost all arithmetic happens at a quarter of the
resolution or below: on a CPU, time follows multiply–adds, whatever the layers
are called (docs/training.md has the measurements).

Feature maps are `[n, c, h, w]` float.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.tokenizer.config import ConvolutionalConfig


class ResidualBlock(nn.Module):
    """`relu(x + conv3(relu(conv3(x))))`, the same shape in and out.

    The second convolution starts at zero, so that a deep stack starts as the
    identity and trains without normalisation (Fixup, Zhang et al. 2019,
    arXiv:1901.09321). The last ReLU leaves activations unsigned, which 8-bit
    quantization wants.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        nn.init.kaiming_normal_(self.conv1.weight, nonlinearity="relu")
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """`[n, width, h, w]` → the same."""
        return F.relu(x + self.conv2(F.relu(self.conv1(x))))


def encoder_reach(config: ConvolutionalConfig) -> int:
    """Radius of the encoder's receptive field beyond a code's own patch, in patches.

    Each 3×3 convolution adds one cell of the resolution it works at; strided convolutions and
    1×1 ones see their own patch only.
    """
    cell, pixels = config.stem_stride, 0
    for depth in config.encoder_depths:
        pixels += 2 * depth * cell
        cell *= 2
    return -(-pixels // config.stride)


def decoder_reach(config: ConvolutionalConfig) -> int:
    """How many cells of the code grid around its own decide what a patch looks like."""
    cell = config.stride
    pixels = cell  # the convolution that widens
    for depth in config.decoder_depths[::-1]:
        pixels += 2 * depth * cell
        cell //= 2
    # Those before the last pixel-shuffles, at a quarter and at half of the resolution.
    pixels += (4 if config.stem_stride == 4 else 0) + 2
    return -(-pixels // config.stride)


class Encoder(nn.Module):
    """Pixels in [−1, 1] `[n, c, h, w]` → latents `[n, d, h/s, w/s]`.

    A strided convolution instead of pixel-unshuffle: it says the same in one
    ONNX node, and some exporter versions wrote the other with a wrong channel
    order.

    Attributes:
        reach: `encoder_reach` of its configuration.
    """

    def __init__(self, config: ConvolutionalConfig, latent_width: int, channels: int = 3) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        self.reach = encoder_reach(config)
        stride = config.stem_stride
        for width, depth in zip(config.widths, config.encoder_depths, strict=True):
            stages += [nn.Conv2d(channels, width, stride, stride), nn.ReLU()]
            stages += [ResidualBlock(width) for _ in range(depth)]
            channels, stride = width, 2
        self.stages = nn.Sequential(*stages)
        self.to_latents = nn.Conv2d(channels, latent_width, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        """`[n, c, h, w]` in [−1, 1] → `[n, d, h/s, w/s]`."""
        latents: Tensor = self.to_latents(self.stages(pixels))
        return latents


class Decoder(nn.Module):
    """Code vectors `[n, d, h/s, w/s]` → pixels `[n, c, h, w]`, about [−1, 1], not clipped.

    Resolution grows by pixel-shuffles of 2 with a 3×3 convolution between them:
    one shuffle of 4 leaves visible 4×4 marks. Convolutions before a shuffle
    start with equal weights for the pixels of a cell (ICNR, Aitken et al. 2017,
    arXiv:1707.02937), so that training starts without a checkerboard.

    Attributes:
        reach: `decoder_reach` of its configuration.
    """

    def __init__(self, config: ConvolutionalConfig, latent_width: int, channels: int = 3) -> None:
        super().__init__()
        self.reach = decoder_reach(config)
        widths = config.decoder_channels[::-1]
        stages: list[nn.Module] = [nn.Conv2d(latent_width, widths[0], 3, padding=1), nn.ReLU()]
        for i, (width, depth) in enumerate(zip(widths, config.decoder_depths[::-1], strict=True)):
            stages += [ResidualBlock(width) for _ in range(depth)]
            if i + 1 < len(widths):
                stages += [_upsample(width, widths[i + 1], kernel=1), nn.ReLU()]
        width = widths[-1]
        if config.stem_stride == 4:
            stages += [_upsample(width, width // 2, kernel=3), nn.ReLU()]
            width //= 2
        self.stages = nn.Sequential(*stages)
        self.to_pixels = _upsample(width, channels, kernel=3)

    def forward(self, vectors: Tensor) -> Tensor:
        """`[n, d, h/s, w/s]` → `[n, c, h, w]`."""
        pixels: Tensor = self.to_pixels(self.stages(vectors))
        return pixels


def _upsample(width_in: int, width_out: int, kernel: int) -> nn.Sequential:
    """Convolution and pixel-shuffle: `[n, width_in, h, w]` → `[n, width_out, 2h, 2w]`."""
    conv = nn.Conv2d(width_in, 4 * width_out, kernel, padding=kernel // 2)
    with torch.no_grad():
        conv.weight.copy_(conv.weight[::4].repeat_interleave(4, dim=0))
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return nn.Sequential(conv, nn.PixelShuffle(2))
