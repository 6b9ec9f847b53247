"""The network that predicts a code from its neighbours, trained so that whole numbers will do.

Everything that will be a whole number in the file is rounded while training already, once
`quantized` is set (Jacob et al. 2018, "Quantization and training of neural networks for efficient
integer-arithmetic-only inference"; Ballé et al. 2019, "Integer networks for data compression with
latent-variable models"): activations are multiples of 1/32 from 0 to 255/32, weights of each row
multiples of a power of two, at most 63 of them. `training.prior.integers` then reads the whole
numbers off.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from training.prior.context import Neighbour

# Activations, embeddings and logits are counted in units of 1 / UNIT.
UNIT = 32
MOST_ACTIVATION = 255
# Of a weight. 2 · 255 · 63 fits into 16 bits, where processors without VNNI instructions add two
# products up: with more, their results would differ from others'.
MOST_WEIGHT = 63
MOST_SHIFT = 20


@dataclass(frozen=True)
class Layout:
    """Sizes of a prior's network.

    Attributes:
        embedding: numbers of a code's vector.
        hidden: width of the two layers that look at the context, and of the one that goes on
            once the group is known.
        narrow: numbers that a member's likeliness is the product with.
    """

    embedding: int = 48
    hidden: int = 384
    narrow: int = 96

    @classmethod
    def of_width(cls, hidden: int) -> Layout:
        """A layout of a width, the rest in proportion to the default's."""
        return cls(max(1, hidden // 8), hidden, max(1, hidden // 4))


class _Rounded(torch.autograd.Function):
    """Rounds, and passes the gradient through (Bengio et al. 2013, straight-through)."""

    @staticmethod
    def forward(ctx: object, value: Tensor) -> Tensor:  # noqa: ARG004
        return torch.floor(value + 0.5)

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor:  # noqa: ARG004
        return gradients[0]


def rounded(value: Tensor) -> Tensor:
    """The nearest whole numbers, halves up; the gradient is that of the value itself."""
    result: Tensor = _Rounded.apply(value)  # type: ignore[no-untyped-call]
    return result


def weight_shift(weight: Tensor, *, by_row: bool) -> Tensor:
    """How many bits a weight is shifted to become whole numbers of at most `MOST_WEIGHT`.

    Args:
        weight: `[rows, …]`.
        by_row: one for each row and not one for all.

    Returns:
        float32 `[rows, 1, …]`, or `[1, 1, …]`, of whole numbers 0 … `MOST_SHIFT`.
    """
    axes = tuple(range(0 if not by_row else 1, weight.ndim))
    largest = weight.detach().abs().amax(dim=axes, keepdim=True).clamp_min(1e-9)
    return torch.floor(torch.log2(MOST_WEIGHT / largest)).clamp(0, MOST_SHIFT)


class StageNetwork(nn.Module):
    """Predicts the codes of one stage.

    Args:
        sizes: number of codes of each stage up to this one.
        neighbours: C places that it looks at.
        codes: int32 `[G, M]`, the stage's codes in their groups, as `group_codes` gives them.
        layout: of the network.

    Attributes:
        quantized: whether everything is rounded as it will be in the file.
    """

    rank: Tensor
    absent: Tensor

    def __init__(
        self,
        sizes: Sequence[int],
        neighbours: Sequence[Neighbour],
        codes: NDArray[np.int32],
        layout: Layout,
    ) -> None:
        super().__init__()
        self.neighbours, self.codes, self.layout = list(neighbours), codes, layout
        groups, members = codes.shape
        e, h, d = layout.embedding, layout.hidden, layout.narrow
        stages = sorted({stage for stage, _, _ in neighbours})
        self.stages = stages
        self.embeddings = nn.ModuleList(nn.Embedding(sizes[stage] + 1, e) for stage in stages)
        self.context = nn.Linear(len(neighbours) * e, h)
        self.hidden = nn.Linear(h, h)
        self.groups = nn.Linear(h, groups)
        self.inside = nn.Linear(h, h)
        self.inside_of_group = nn.Parameter(torch.zeros(groups, h))
        self.narrow = nn.Linear(h, d)
        self.members = nn.Parameter(torch.randn(groups, members, d) * d**-0.5)
        self.member_bias = nn.Parameter(torch.zeros(groups, members))
        for table in self.embeddings:
            nn.init.normal_(table.weight, std=0.5)  # type: ignore[arg-type]
        rank = np.zeros(codes.max() + 1, dtype=np.int64)
        rank[codes[codes >= 0]] = np.flatnonzero(codes.ravel() >= 0)
        self.register_buffer("rank", torch.from_numpy(rank), persistent=False)
        self.register_buffer("absent", torch.from_numpy(codes < 0), persistent=False)
        self.quantized = False

    def bits(self, neighbours: Tensor, codes: Tensor) -> Tensor:
        """What each code costs.

        Args:
            neighbours: int64 `[m, C]`.
            codes: int64 `[m]`.

        Returns:
            float32 `[m]`, bits.
        """
        members = self.codes.shape[1]
        rank = self.rank[codes]
        group, member = rank // members, rank % members
        state = self._activation(self._linear(self.hidden, self._context(neighbours)))
        cost = F.cross_entropy(self._linear(self.groups, state), group, reduction="none")
        if members > 1:
            inside = self._linear(self.inside, state) + self.inside_of_group[group]
            narrow = self._activation(self._linear(self.narrow, self._activation(inside)))
            logits = self._member_products(narrow, group) + self.member_bias[group]
            logits = logits.masked_fill(self.absent[group], -1e9)
            cost = cost + F.cross_entropy(logits, member, reduction="none")
        in_bits: Tensor = cost / math.log(2)
        return in_bits

    def _member_products(self, narrow: Tensor, group: Tensor) -> Tensor:
        """Products of each `[d]` with its group's members: `[m, d]` → `[m, M]`.

        Group by group, since looking up a table for each place would move fifty times the memory.
        """
        table = self._weight(self.members, by_row=False)
        order = torch.argsort(group)
        counts = torch.bincount(group, minlength=len(table)).tolist()
        parts = [
            part @ members.T
            for part, members in zip(
                torch.split(narrow[order], counts), table.unbind(), strict=True
            )
        ]
        return torch.cat(parts)[torch.argsort(order)]

    def _context(self, neighbours: Tensor) -> Tensor:
        seen = []
        for column, (stage, _, _) in enumerate(self.neighbours):
            seen.append(self._embedding(self.stages.index(stage))[neighbours[:, column]])
        return self._activation(self._linear(self.context, torch.cat(seen, dim=1)))

    def _embedding(self, index: int) -> Tensor:
        table: Tensor = self.embeddings[index].weight  # type: ignore[assignment]
        if not self.quantized:
            return table
        return rounded(table * UNIT).clamp(-128, 127) / UNIT

    def _weight(self, weight: Tensor, *, by_row: bool = True) -> Tensor:
        if not self.quantized:
            return weight
        scale = 2.0 ** weight_shift(weight, by_row=by_row)
        return rounded(weight * scale) / scale

    def _linear(self, layer: nn.Linear, value: Tensor) -> Tensor:
        return F.linear(value, self._weight(layer.weight), layer.bias)

    def _activation(self, value: Tensor) -> Tensor:
        most = MOST_ACTIVATION / UNIT
        if not self.quantized:
            return value.clamp(0, most)
        return rounded(value * UNIT).clamp(0, MOST_ACTIVATION) / UNIT
