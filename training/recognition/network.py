"""The recognizer: a small convolutional network over a grid of codes.

Each code is looked up in a learnt table, residual blocks (He et al. 2016) look at
neighbourhoods, first at the grid's own resolution, then at half of it, and a linear
layer gives each position a score for each class. The logits are the means of the
scores over the grid: what is shown and *where* come from one network (class
activation maps; Zhou et al. 2016, "Learning deep features for discriminative
localization"). Any grid size from 1×1 on.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.onnx_export.weight_only_int8 import rounded


@dataclass(frozen=True)
class Layout:
    """How large a recognizer is.

    Attributes:
        table: width of the learnt vector that stands for a code.
        widths: channels of each stage; every stage but the first halves the resolution.
        depths: residual blocks of each stage.
        block_drop: share of the training steps in which the last block is skipped; earlier
            ones are skipped less often (stochastic depth; Huang et al. 2016).
        feature_drop: share of the features that are set to zero in training (dropout).
    """

    table: int = 96
    widths: tuple[int, ...] = (64, 160)
    depths: tuple[int, ...] = (1, 2)
    block_drop: float = 0.1
    feature_drop: float = 0.1


class Block(nn.Module):
    """A residual block of two 3×3 convolutions, the identity at initialization."""

    def __init__(self, width: int, drop: float) -> None:
        super().__init__()
        self.first = _convolution(width, width)
        self.second = _convolution(width, width)
        nn.init.zeros_(cast("Tensor", self.second[1].weight))
        self.drop = drop

    def forward(self, values: Tensor) -> Tensor:
        """`[n, width, h, w]` → the same."""
        made = self.second(F.relu(self.first(values)))
        if self.training and self.drop:
            kept = torch.rand(len(values), 1, 1, 1, device=values.device) >= self.drop
            made = made * kept / (1 - self.drop)
        return F.relu(values + made)


class Trunk(nn.Module):
    """A stem that sees one position at a time, then the stages of a layout.

    Args:
        width: numbers in a vector that comes in.
        layout: of the stages.
    """

    def __init__(self, width: int, layout: Layout) -> None:
        super().__init__()
        inputs = layout.widths[0]
        self.stem: nn.Module = nn.Sequential(_convolution(width, inputs, size=1), nn.ReLU())
        layers: list[nn.Module] = []
        last, done = max(1, sum(layout.depths) - 1), 0
        for index, (wide, depth) in enumerate(zip(layout.widths, layout.depths, strict=True)):
            if index:
                layers += [_convolution(inputs, wide, stride=2), nn.ReLU()]
            for _ in range(depth):
                layers.append(Block(wide, layout.block_drop * done / last))
                done += 1
            inputs = wide
        self.layers = nn.Sequential(*layers)
        self.drop = layout.feature_drop

    def forward(self, values: Tensor) -> Tensor:
        """`[n, width, h, w]` → features `[n, widths[-1], h', w']`."""
        values = self.stem(values.contiguous(memory_format=torch.channels_last))
        return F.dropout2d(self.layers(values), self.drop, self.training)


class Network(nn.Module):
    """A trunk with class scores for each position, over vectors looked up for the input.

    Args:
        width: numbers in a looked-up vector.
        classes: how many.
        layout: sizes.
    """

    hidden_vector: Tensor

    def __init__(self, width: int, classes: int, layout: Layout) -> None:
        super().__init__()
        self.classes = classes
        self.trunk = Trunk(width, layout)
        self.head = nn.Conv2d(layout.widths[-1], classes, 1)
        nn.init.zeros_(cast("Tensor", self.head.bias))
        # The vector of masked positions, used in training alone.
        self.register_buffer("hidden_vector", torch.zeros(width), persistent=False)

    def look_up(self, inputs: Tensor) -> Tensor:
        """Input → float32 `[n, width, rows, columns]`."""
        raise NotImplementedError

    def score(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """`[n, width, rows, columns]` → `(logits [n, classes], map [n, classes, rows, columns])`.

        The map is without the head's bias, which has no position: a positive value is evidence
        for a class, a negative one against it.
        """
        rows, columns = vectors.shape[2:]
        coarse = F.conv2d(self.trunk(vectors), self.head.weight)
        activation = F.interpolate(
            coarse.float(), size=(rows, columns), mode="bilinear", align_corners=False
        )
        return activation.mean(dim=(2, 3)) + cast("Tensor", self.head.bias), activation

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Input → logits and map, as `score`."""
        return self.score(self.look_up(inputs))


class Recognizer(Network):
    """Codes int64 `[n, rows, columns]` → logits and class activation map.

    Args:
        vectors: float32 `[K, v]`, the first columns of the table at initialization; the
            rest begin at random.
        classes: how many.
        layout: sizes.

    Raises:
        ValueError: the vectors are wider than the table.
    """

    def __init__(self, vectors: Tensor, classes: int, layout: Layout) -> None:
        super().__init__(layout.table, classes, layout)
        codes, known = vectors.shape
        if known > layout.table:
            raise ValueError(f"vectors of {known} numbers don't fit a table of {layout.table}")
        rest = 0.5 * torch.randn(codes, layout.table - known)
        rows = torch.cat([vectors, rest], dim=1)
        self.table = nn.Embedding(codes, layout.table, _weight=rows)

    def look_up(self, inputs: Tensor) -> Tensor:
        """int64 `[n, rows, columns]` → float32 `[n, table, rows, columns]`."""
        return F.embedding(inputs, self.table.weight).permute(0, 3, 1, 2)


def prepare_for_export(network: Recognizer, temperature: float) -> Recognizer:
    """A copy for export: without normalisation layers, calibrated, its weights rounded.

    Batch normalisation is folded into the convolution before it, and the stem, which
    sees one code at a time, into the table. Logits and map are divided by the
    temperature. Weights are rounded to what the file stores
    (`training.onnx_export.weight_only_int8`).

    Args:
        network: trained.
        temperature: that its logits are to be divided by (`training.recognition.calibration`).
    """
    done = copy.deepcopy(network).float().eval()
    for module in list(done.modules()):
        if isinstance(module, nn.Sequential) and len(module) == 2:
            convolution, norm = module
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                module[0] = nn.utils.fusion.fuse_conv_bn_eval(convolution, norm)
                module[1] = nn.Identity()
    with torch.no_grad():
        rows = done.trunk.stem(done.table.weight[:, :, None, None])[:, :, 0, 0].contiguous()
        done.table = nn.Embedding(len(rows), rows.shape[1], _weight=rows)
        done.trunk.stem = nn.Identity()
        done.head.weight /= temperature
        cast("Tensor", done.head.bias).div_(temperature)
        for weight in done.parameters():
            weight.copy_(rounded(weight))
    return done.requires_grad_(requires_grad=False)


def initial_vectors(codebook: Tensor, cooccurrence: Tensor | None) -> Tensor:
    """What the table begins with: code vectors and co-occurrence vectors.

    Args:
        codebook: float32 `[K, d]`.
        cooccurrence: float32 `[K, m]` of `training.embedding.cooccurrence`.

    Returns:
        float32 `[K, d + m]`, both parts of unit variance.
    """
    parts: Sequence[Tensor] = [codebook] if cooccurrence is None else [codebook, cooccurrence]
    return torch.cat([part / part.std().clamp_min(1e-6) for part in parts], dim=1)


def _convolution(inputs: int, outputs: int, *, size: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2, bias=False),
        nn.BatchNorm2d(outputs),
    )
