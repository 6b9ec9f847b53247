"""The convolutions of AlexNet and VGG16, as LPIPS looks through them.

AlexNet in the form of Krizhevsky 2014 (arXiv:1404.5997), VGG16 of Simonyan & Zisserman 2014
(arXiv:1409.1556); without their classifiers. Images go in as float `[n, 3, h, w]`, shifted and
scaled by the caller; five feature maps come out, each after a ReLU.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.perceptual.weights import convolution


class AlexNetTrunk(nn.Module):
    """Five convolutions, with pooling after the first two.

    Args:
        arrays: `Conv_0` … `Conv_4`, each with `kernel` and `bias` in Flax's order.
    """

    widths = (64, 192, 384, 256, 256)
    # Below this side, pixels, nothing is left after the second pooling.
    smallest_side = 31

    def __init__(self, arrays: Mapping[str, Any]) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            [
                nn.Conv2d(3, 64, 11, stride=4, padding=2),
                nn.Conv2d(64, 192, 5, padding=2),
                nn.Conv2d(192, 384, 3, padding=1),
                nn.Conv2d(384, 256, 3, padding=1),
                nn.Conv2d(256, 256, 3, padding=1),
            ]
        )
        _load(self.convolutions, arrays)

    def forward(self, x: Tensor) -> list[Tensor]:
        """`[n, 3, h, w]` → relu1 … relu5 at strides 4, 8, 16, 16, 16."""
        found = []
        for index, layer in enumerate(self.convolutions):
            x = F.relu(layer(x if index in (0, 3, 4) else F.max_pool2d(x, 3, stride=2)))
            found.append(x)
        return found


class VGG16Trunk(nn.Module):
    """Thirteen convolutions in five groups, with pooling between the groups.

    Args:
        arrays: `Conv_0` … `Conv_12`, each with `kernel` and `bias` in Flax's order.
    """

    widths = (64, 128, 256, 512, 512)
    # Below this side, pixels, nothing is left after the fourth pooling.
    smallest_side = 16

    _GROUPS = (2, 2, 3, 3, 3)

    def __init__(self, arrays: Mapping[str, Any]) -> None:
        super().__init__()
        layers: list[nn.Conv2d] = []
        inputs = 3
        for outputs, depth in zip(self.widths, self._GROUPS, strict=True):
            for _ in range(depth):
                layers.append(nn.Conv2d(inputs, outputs, 3, padding=1))
                inputs = outputs
        self.convolutions = nn.ModuleList(layers)
        _load(self.convolutions, arrays)

    def forward(self, x: Tensor) -> list[Tensor]:
        """`[n, 3, h, w]` → relu1_2, relu2_2, relu3_3, relu4_3, relu5_3 at strides 1 … 16."""
        found: list[Tensor] = []
        layers = iter(self.convolutions)
        for depth in self._GROUPS:
            if found:
                x = F.max_pool2d(x, 2)
            for _ in range(depth):
                x = F.relu(next(layers)(x))
            found.append(x)
        return found


@torch.no_grad()
def _load(layers: nn.ModuleList, arrays: Mapping[str, Any]) -> None:
    for index, layer in enumerate(layers):
        assert isinstance(layer, nn.Conv2d)  # noqa: S101 - for the type checker
        weight, bias = convolution(arrays[f"Conv_{index}"])
        layer.weight.copy_(weight)
        if layer.bias is not None and bias is not None:
            layer.bias.copy_(bias)
