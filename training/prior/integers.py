"""A trained prior as whole numbers, and what they compute: the arithmetic of `bundle/FORMAT.md`.

Sums stay below 2²⁴ in magnitude, so that every order of summation, and floats of 24 bits too, give
the same; divisions are by powers of two; a table stands in for the exponential.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bundle import prior_digest
from training.prior.context import Neighbour
from training.prior.network import (
    MOST_ACTIVATION,
    MOST_SHIFT,
    UNIT,
    StageNetwork,
    weight_shift,
)

Integers = NDArray[np.integer]

# What e^0 is in whole numbers: a frequency is at least 1, so that one code is at most about 2¹⁶
# times as likely as another. 64 of them together stay below 2²⁴, whatever they are.
MOST_FREQUENCY = 1 << 16
_LARGEST_SUM = 1 << 24
# What a member that isn't there has for a sum: below what any other can reach.
_ABSENT = -(1 << 25)


class TooLarge(ValueError):
    """A sum could leave the numbers that are exact everywhere."""


@dataclass(frozen=True)
class Layer:
    """Products with whole numbers, and a shift: `(bias + x · weight) >> shift`, floored.

    Attributes:
        weight: int8 `[inputs, outputs]`, or `[groups, inputs, outputs]`.
        bias: int32 `[outputs]`, or `[groups, outputs]`; half a unit for rounding is in it.
        shift: int32 `[outputs]` or `[1]`, bits.
    """

    weight: Integers
    bias: Integers
    shift: Integers


@dataclass(frozen=True)
class IntegerStage:
    """The prior of one stage.

    Attributes:
        neighbours: C places that it looks at.
        codes: int32 `[G, M]`, the stage's codes in their groups, -1 where there is none.
        embeddings: uint8 `[K + 1, e]` for each stage that is looked at, 128 being zero; the last
            row stands for what is outside the grid.
        context: `[C · e, h]`, gives activations.
        hidden: `[h, h]`, gives activations, the state.
        groups: `[h, G]`, gives logits.
        inside: `[h, h]`, gives activations; its bias is `[G, h]`, of each group.
        narrow: `[h, d]`, gives activations.
        members: `[G, d, M]`, gives logits.
        frequencies: int32 `[distances]`: the frequency of a symbol whose logit is so many units
            below the largest; the last for all that are further.
    """

    neighbours: Sequence[Neighbour]
    codes: Integers
    embeddings: Sequence[Integers]
    context: Layer
    hidden: Layer
    groups: Layer
    inside: Layer
    narrow: Layer
    members: Layer
    frequencies: Integers

    def tensors(self) -> dict[str, Integers]:
        """Every number in it, by the name that it has in the graphs and in `bundle/FORMAT.md`."""
        named: dict[str, Integers] = {
            "neighbours": np.array(self.neighbours, dtype=np.int32),
            "members_of_groups": self.codes,
            "frequency_table": self.frequencies,
        }
        named |= {f"embedding.{i}": table for i, table in enumerate(self.embeddings)}
        for name in ("context", "hidden", "groups", "inside", "narrow", "members"):
            layer = getattr(self, name)
            named[f"{name}.weight"], named[f"{name}.bias"] = layer.weight, layer.bias
            named[f"{name}.divisor"] = 1 << layer.shift.astype(np.int64)
        return named

    def bits(self, neighbours: Integers, codes: Integers) -> NDArray[np.float64]:
        """What codes cost at these frequencies, in bits: `[m, C]` and `[m]` → `[m]`."""
        rank = np.zeros(self.codes.max() + 1, dtype=np.int64)
        rank[self.codes[self.codes >= 0]] = np.flatnonzero(self.codes.ravel() >= 0)
        groups, members = np.divmod(rank[codes], self.codes.shape[1])
        of_groups, state = self.group_frequencies(neighbours)
        return _cost(of_groups, groups) + _cost(self.member_frequencies(state, groups), members)

    def group_frequencies(self, neighbours: Integers) -> tuple[Integers, Integers]:
        """Frequencies of the groups int32 `[m, G]`, and the state uint8 `[m, h]`.

        Args:
            neighbours: integers `[m, C]`.
        """
        stages = sorted({stage for stage, _, _ in self.neighbours})
        seen = [
            self.embeddings[stages.index(stage)][neighbours[:, column]]
            for column, (stage, _, _) in enumerate(self.neighbours)
        ]
        state = _activations(self.hidden, _activations(self.context, np.concatenate(seen, axis=1)))
        return self._frequencies(_shifted(self.groups, state)), state

    def member_frequencies(self, state: Integers, groups: Integers) -> Integers:
        """Frequencies of the members of a group: int32 `[m, M]`, 0 where there is none.

        Args:
            state: uint8 `[m, h]`.
            groups: integers `[m]`.
        """
        inside = Layer(self.inside.weight, self.inside.bias[groups], self.inside.shift)
        narrow = _activations(self.narrow, _activations(inside, state))
        sums = np.einsum("md,mdk->mk", narrow.astype(np.int64), self.members.weight[groups])
        logits = sums + self.members.bias[groups] >> self.members.shift
        return np.where(self.codes[groups] < 0, 0, self._frequencies(logits))

    def _frequencies(self, logits: Integers) -> Integers:
        distances = logits.max(axis=1, keepdims=True).astype(np.int64) - logits
        return np.asarray(self.frequencies[np.minimum(distances, len(self.frequencies) - 1)])


def _cost(frequencies: Integers, symbols: Integers) -> NDArray[np.float64]:
    own = frequencies[np.arange(len(symbols)), symbols]
    return np.asarray(np.log2(frequencies.sum(axis=1) / own))


def digest(stages: Sequence[IntegerStage]) -> str:
    """What names a prior (`bundle.prior_digest`)."""
    return prior_digest(
        (f"{index}.{name}", values.shape, np.ascontiguousarray(values, dtype="<i4").tobytes())
        for index, stage in enumerate(stages)
        for name, values in stage.tensors().items()
    )


def integers_of(network: StageNetwork) -> IntegerStage:
    """Reads the whole numbers off a network that was trained with rounding.

    Raises:
        TooLarge: a sum could leave the numbers that are exact everywhere.
    """
    with torch.no_grad():
        tables = [
            (torch.floor(table * UNIT + 0.5).clamp(-128, 127) + 128).numpy()
            for table in network.embeddings.parameters()
        ]
        context, hidden, groups, inside, narrow = (
            _layer(layer)
            for layer in (
                network.context,
                network.hidden,
                network.groups,
                network.inside,
                network.narrow,
            )
        )
        # Embeddings are stored with 128 added, which the bias takes off again.
        zero = 128 * context.weight.sum(axis=0, dtype=np.int64)
        context = Layer(context.weight, (context.bias - zero).astype(np.int32), context.shift)
        extra = _scaled(network.inside_of_group, inside.shift[None])
        inside = Layer(inside.weight, (inside.bias + extra).astype(np.int32), inside.shift)
        members = _members(network)
    stage = IntegerStage(
        neighbours=network.neighbours,
        codes=network.codes,
        embeddings=[table.astype(np.uint8) for table in tables],
        context=context,
        hidden=hidden,
        groups=groups,
        inside=inside,
        narrow=narrow,
        members=members,
        frequencies=_frequency_table(),
    )
    for name in ("context", "hidden", "groups", "inside", "narrow", "members"):
        _check_sums(name, getattr(stage, name))
    there = network.codes >= 0
    masked = Layer(
        np.where(there[:, None], members.weight, 0).astype(np.int8),
        np.where(there, members.bias, _ABSENT).astype(np.int32),
        members.shift,
    )
    return dataclasses.replace(stage, members=masked)


def _layer(layer: nn.Linear) -> Layer:
    shift = weight_shift(layer.weight, by_row=True)
    weight = torch.floor(layer.weight * 2.0**shift + 0.5)
    bits = shift[:, 0].numpy().astype(np.int32)
    bias = _scaled(layer.bias, bits) + _half(bits)
    return Layer(weight.T.contiguous().numpy().astype(np.int8), bias.astype(np.int32), bits)


def _members(network: StageNetwork) -> Layer:
    shift = weight_shift(network.members, by_row=False)
    weight = torch.floor(network.members * 2.0**shift + 0.5)
    bits = shift.reshape(1).numpy().astype(np.int32)
    bias = _scaled(network.member_bias, bits) + _half(bits)
    return Layer(
        weight.transpose(1, 2).contiguous().numpy().astype(np.int8), bias.astype(np.int32), bits
    )


def _scaled(bias: Tensor, shift: Integers) -> NDArray[np.int64]:
    """A bias in units of the sums: activations' units times the weights'."""
    scaled = np.rint(bias.detach().numpy() * (UNIT * 2.0**shift))
    return np.asarray(scaled, dtype=np.int64)


def _half(shift: Integers) -> NDArray[np.int64]:
    return np.asarray((1 << shift.astype(np.int64)) >> 1)


def _frequency_table() -> NDArray[np.int32]:
    """e^(−distance / UNIT) in whole numbers, down to 1."""
    longest = int(np.ceil(UNIT * np.log(MOST_FREQUENCY))) + 1
    table = np.rint(MOST_FREQUENCY * np.exp(-np.arange(longest) / UNIT))
    return np.asarray(np.maximum(1, table), dtype=np.int32)


def _check_sums(name: str, layer: Layer) -> None:
    products = MOST_ACTIVATION * np.abs(layer.weight.astype(np.int64)).sum(axis=-2)
    largest = int((products + np.abs(layer.bias.astype(np.int64))).max())
    if largest >= _LARGEST_SUM or layer.shift.max() > MOST_SHIFT:
        raise TooLarge(
            f"layer {name!r} can reach {largest}, and {_LARGEST_SUM} is the limit: "
            "train a narrower network"
        )


def _shifted(layer: Layer, value: Integers) -> Integers:
    # float64 is exact up to 2⁵³, and much faster than NumPy's products of integers.
    sums = (value.astype(np.float64) @ layer.weight.astype(np.float64)).astype(np.int64)
    return np.asarray(sums + layer.bias >> layer.shift)


def _activations(layer: Layer, value: Integers) -> Integers:
    return np.clip(_shifted(layer, value), 0, MOST_ACTIVATION).astype(np.uint8)
