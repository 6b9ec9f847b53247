"""EfficientNet-Lite (Tan & Le 2019, arXiv:1905.11946; the variants without attention and swish).

Inference alone: batch normalisation is folded into the convolutions when the weights are read,
so that there is nothing to update and less to compute.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.perceptual.weights import state_dict

LiteName = Literal["lite0", "lite2"]

# Batch normalisation's epsilon in every EfficientNet-Lite.
_EPSILON = 1e-3
# The networks were trained on (pixel - 127) / 128 of pixels 0…255.
_MEAN, _DEVIATION = 127.0, 128.0
# Repeats, kernel, stride, expansion, channels of the seven stages of Lite0.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_STEM, _HEAD, _CLASSES = 32, 1280, 1000


@dataclass(frozen=True)
class _Size:
    """How a variant differs from Lite0.

    Attributes:
        width, depth: factors of channels and repeats.
        side: pixels of the square images that it was trained on.
    """

    width: float
    depth: float
    side: int


_SIZES: Mapping[LiteName, _Size] = {
    "lite0": _Size(1.0, 1.0, 224),
    "lite2": _Size(1.1, 1.2, 260),
}


class SameConvolution(nn.Conv2d):
    """A convolution padded as TensorFlow's `SAME`: the odd pixel of padding below and right."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, groups: int = 1
    ) -> None:
        # Padding of stride 1 is symmetric, and PyTorch does it without a copy.
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(inputs, outputs, kernel, stride, padding, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """`[n, inputs, h, w]` → `[n, outputs, ⌈h/stride⌉, ⌈w/stride⌉]`."""
        if self.stride[0] > 1:
            height, width = (self._missing(side) for side in x.shape[-2:])
            x = F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
        return super().forward(x)

    def _missing(self, side: int) -> int:
        """Pixels of padding along a side."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        return max((math.ceil(side / stride) - 1) * stride + kernel - side, 0)


class InvertedResidual(nn.Module):
    """Pointwise expansion, depthwise convolution, linear projection (MobileNetV2)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.expand = SameConvolution(inputs, inner, 1, 1) if expansion > 1 else None
        self.depthwise = SameConvolution(inner, inner, kernel, stride, groups=inner)
        self.project = SameConvolution(inner, outputs, 1, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """`[n, inputs, h, w]` → `[n, outputs, ⌈h/stride⌉, ⌈w/stride⌉]`."""
        y = x if self.expand is None else F.relu6(self.expand(x), inplace=True)
        y = F.relu6(self.depthwise(y), inplace=True)
        z: Tensor = self.project(y)
        return x + z if self.residual else z


class EfficientNetLite(nn.Module):
    """The network with its published ImageNet weights, frozen and in evaluation mode.

    Args:
        name: of the variant.

    Attributes:
        side: pixels of the square images that it was trained on.
        widths: channels after each block.

    Raises:
        WeightsMissing: the package with the weights is not installed.
        WeightsError: the file is not the pinned one.
    """

    def __init__(self, name: LiteName) -> None:
        super().__init__()
        size = _SIZES[name]
        self.side = size.side
        self.stem = SameConvolution(3, _STEM, 3, 2)
        blocks: list[InvertedResidual] = []
        inputs = _STEM
        for number, (repeats, kernel, stride, expansion, channels) in enumerate(_STAGES):
            outputs = _rounded(channels * size.width)
            # Stem, head, and the repeats of the first and the last stage are never scaled.
            if 0 < number < len(_STAGES) - 1:
                repeats = math.ceil(repeats * size.depth)
            for repeat in range(repeats):
                step = stride if repeat == 0 else 1
                blocks.append(InvertedResidual(inputs, outputs, kernel, step, expansion))
                inputs = outputs
        self.blocks = nn.ModuleList(blocks)
        self.widths = tuple(block.project.out_channels for block in blocks)
        self.head = SameConvolution(inputs, _HEAD, 1, 1)
        self.classify = nn.Linear(_HEAD, _CLASSES)
        self.load_state_dict(_folded(state_dict(name), len(blocks)))
        self.eval().requires_grad_(requires_grad=False)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def features(self, images: Tensor, after: Sequence[int]) -> list[Tensor]:
        """Feature maps after some of the blocks.

        Args:
            images: float `[n, 3, h, w]` in [−1, 1].
            after: indices of blocks, ascending; those behind the last are not computed.

        Returns:
            `[n, widths[i], h/s, w/s]` for each index i, s being the stride there.
        """
        found = []
        x = F.relu6(self.stem(_normalised(images)), inplace=True)
        for index, block in enumerate(self.blocks[: after[-1] + 1]):
            x = block(x)
            if index in after:
                found.append(x)
        return found

    def forward(self, images: Tensor) -> Tensor:
        """Scores of the 1,000 ImageNet classes.

        Args:
            images: float `[n, 3, h, w]` in [−1, 1]; best with sides of `side` pixels.

        Returns:
            float `[n, 1000]`, before the softmax.
        """
        (x,) = self.features(images, (len(self.blocks) - 1,))
        x = F.relu6(self.head(x), inplace=True)
        logits: Tensor = self.classify(x.mean(dim=(2, 3)))
        return logits


def _normalised(images: Tensor) -> Tensor:
    """[−1, 1] → the numbers that the networks were trained on."""
    scale = 255 / 2 / _DEVIATION
    return images * scale + (255 / 2 - _MEAN) / _DEVIATION


def _rounded(channels: float) -> int:
    """The nearest multiple of 8, but never more than a tenth below."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _folded(published: Mapping[str, Tensor], blocks: int) -> dict[str, Tensor]:
    """The published tensors under our names, batch normalisation folded into convolutions."""
    state = {"classify.weight": published["_fc.weight"], "classify.bias": published["_fc.bias"]}

    def fold(ours: str, weight: str, norm: str) -> None:
        scale = published[f"{norm}.weight"] / (published[f"{norm}.running_var"] + _EPSILON).sqrt()
        state[f"{ours}.weight"] = published[f"{weight}.weight"] * scale.view(-1, 1, 1, 1)
        state[f"{ours}.bias"] = (
            published[f"{norm}.bias"] - published[f"{norm}.running_mean"] * scale
        )

    fold("stem", "_conv_stem", "_bn0")
    fold("head", "_conv_head", "_bn1")
    for index in range(blocks):
        theirs = f"_blocks.{index}"
        if f"{theirs}._expand_conv.weight" in published:
            fold(f"blocks.{index}.expand", f"{theirs}._expand_conv", f"{theirs}._bn0")
        fold(f"blocks.{index}.depthwise", f"{theirs}._depthwise_conv", f"{theirs}._bn1")
        fold(f"blocks.{index}.project", f"{theirs}._project_conv", f"{theirs}._bn2")
    return state
