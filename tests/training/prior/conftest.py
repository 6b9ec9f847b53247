"""A small network of a prior with weights that rounding has something to do with."""

import numpy as np
import pytest
import torch

from training.prior.context import causal_neighbours, earlier_neighbours, group_codes
from training.prior.network import Layout, StageNetwork


def network_of(count: int, hidden: int = 24, stage: int = 0) -> StageNetwork:
    torch.manual_seed(count)
    vectors = np.random.default_rng(count).normal(size=(count, 4)).astype(np.float32)
    neighbours = causal_neighbours(2, [(-1, 1)], stage)
    if stage:
        neighbours = [*earlier_neighbours(0), *neighbours]
    network = StageNetwork(
        [70, count][: stage + 1] if stage else [count],
        neighbours,
        group_codes(vectors),
        Layout.of_width(hidden),
    )
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(3).add_(0.1 * torch.randn_like(weight))
    network.quantized = True
    return network


@pytest.fixture
def make_network():
    """Makes a network for so many codes."""
    return network_of
