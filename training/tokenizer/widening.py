"""A larger decoder that begins as an exact copy of a smaller one.

Chen et al. 2016, "Net2Net" (arXiv:1511.05641), there by copying channels; here channels and
blocks are added that change nothing at first: what the old channels see of the new ones has
weight zero, and a new block is the identity until it learns, as every new block is.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.tokenizer.networks.convolutional import Decoder, ResidualBlock


@torch.no_grad()
def widen_into(new: Decoder, old: Decoder) -> bool:
    """Gives a new decoder the function of an old one that is nowhere wider or deeper.

    Args:
        new: newly initialised; keeps the random weights of what the old one doesn't have.
        old: with its weights.

    Returns:
        Whether it could be done; if not, the new decoder is as it was.
    """
    pairs = _pairs(new, old)
    if pairs is None:
        return False
    for block in new.modules():
        if isinstance(block, ResidualBlock):  # the identity to the last bit; those taken follow
            nn.init.zeros_(block.conv2.bias)  # type: ignore[arg-type]
    for wide, narrow in pairs:
        _copy(wide.weight, narrow.weight)
        if wide.bias is not None and narrow.bias is not None:
            wide.bias[: len(narrow.bias)] = narrow.bias
    return True


def _pairs(new: Decoder, old: Decoder) -> list[tuple[nn.Conv2d, nn.Conv2d]] | None:
    """Convolutions that have the same place in both; None where the old one doesn't fit in."""
    pairs = []
    stages, olds = _stages(new), _stages(old)
    if len(stages) != len(olds):
        return None
    for stage, other in zip(stages, olds, strict=True):
        if len(stage) < len(other):
            return None
        # What comes after the blocks of a stage is its last convolution in both.
        pairs += list(zip(stage[: len(other) - 1], other[:-1], strict=True))
        pairs.append((stage[-1], other[-1]))
    fits = all(
        all(a >= b for a, b in zip(wide.weight.shape, narrow.weight.shape, strict=True))
        and wide.weight.shape[2:] == narrow.weight.shape[2:]
        for wide, narrow in pairs
    )
    return pairs if fits else None


def _stages(decoder: Decoder) -> list[list[nn.Conv2d]]:
    """The convolutions in their order, a list for each that is no residual block's at its end."""
    stages: list[list[nn.Conv2d]] = [[]]
    for module in [*decoder.stages, decoder.to_pixels]:
        found = [part for part in module.modules() if isinstance(part, nn.Conv2d)]
        stages[-1] += found
        if found and not isinstance(module, ResidualBlock):
            stages.append([])
    return stages[:-1]


def _copy(wide: Tensor, narrow: Tensor) -> None:
    """The old weights; zero where an old output would see a new input; the rest as it is."""
    outputs, inputs = narrow.shape[:2]
    wide[:outputs] = 0
    wide[:outputs, :inputs] = narrow
