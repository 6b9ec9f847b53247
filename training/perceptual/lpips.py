"""LPIPS: how different two pictures look, by features of a frozen network.

Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric",
arXiv:1801.03924, version 0.1 of the published linear heads.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from training.perceptual.trunks import AlexNetTrunk, VGG16Trunk
from training.perceptual.weights import array_tree, convolution

# Shift and scale of images in [−1, 1], from the published implementation.
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)


class LPIPS(nn.Module):
    """The distance, with the published weights, frozen and in evaluation mode.

    Args:
        network: `alexnet`, by which pictures are judged in the field, or `vgg16`, which is the
            better training loss.

    Attributes:
        widths: channels of the five feature maps.
        smallest_side: pixels; smaller images can't be compared.

    Raises:
        WeightsMissing: the package with the weights is not installed.
        WeightsError: the file is not the pinned one.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, network: Literal["alexnet", "vgg16"]) -> None:
        super().__init__()
        tree = array_tree(network)
        self.trunk: AlexNetTrunk | VGG16Trunk
        if network == "alexnet":
            self.trunk = AlexNetTrunk(tree["AlexNet_0"])
        else:
            self.trunk = VGG16Trunk(tree["VGG16_0"])
        self.widths, self.smallest_side = self.trunk.widths, self.trunk.smallest_side
        self.heads = nn.ParameterList(
            [
                convolution(tree[f"NetLinLayer_{index}"]["Conv_0"])[0].flatten()
                for index in range(len(self.widths))
            ]
        )
        self.register_buffer("shift", torch.tensor(_SHIFT).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(_SCALE).view(1, 3, 1, 1), persistent=False)
        self.eval().requires_grad_(requires_grad=False)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def features(self, images: Tensor) -> list[Tensor]:
        """Feature maps of unit length in every place, the heads' weights not yet applied.

        Args:
            images: float `[n, 3, h, w]` in [−1, 1].

        Returns:
            float32 `[n, widths[i], h/s, w/s]` for each of the five.
        """
        return [unit_length(x) for x in self.trunk((images - self.shift) / self.scale)]

    def compare(self, made: list[Tensor], wanted: list[Tensor]) -> Tensor:
        """Distances `[n]` of two batches by what `features` gave for them."""
        total = made[0].new_zeros(len(made[0]))
        for a, b, weights in zip(made, wanted, self.heads, strict=True):
            squares = (a - b).square() * weights.view(1, -1, 1, 1)
            total = total + squares.sum(dim=1).mean(dim=(1, 2))
        return total

    def forward(self, made: Tensor, wanted: Tensor) -> Tensor:
        """Distances of pairs of images, 0 for equal ones.

        Args:
            made: float `[n, 3, h, w]` in [−1, 1].
            wanted: the same.

        Returns:
            float32 `[n]`.

        Raises:
            ValueError: a side is below `smallest_side`.
        """
        if min(made.shape[-2:]) < self.smallest_side:
            height, width = made.shape[-2:]
            raise ValueError(
                f"LPIPS by this network needs images of at least {self.smallest_side} pixels "
                f"a side, not {width}×{height}"
            )
        return self.compare(self.features(made), self.features(wanted))


def unit_length(features: Tensor) -> Tensor:
    """Features scaled to unit length over their channels, float32; zeros stay zeros.

    Inside the root, the small number keeps the gradient finite where all channels are zero.
    """
    features = features.float()
    return features * torch.rsqrt(features.square().sum(dim=1, keepdim=True) + 1e-10)
