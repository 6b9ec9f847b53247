"""Facts about the moving average of weights."""

import torch
from torch import nn

from training.tokenizer.averaging import early_decay, move_average


def test_weights_and_statistics_are_averaged_and_counters_copied():
    """By a decay of 0.75, three quarters of the old value and a quarter of the new."""
    averaged, network = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    with torch.no_grad():
        network.weight.fill_(5.0)
        network.running_mean.fill_(8.0)
        network.num_batches_tracked.fill_(9)
    move_average(averaged, network, 0.75)
    assert torch.allclose(averaged.weight, torch.full((3,), 2.0))
    assert torch.allclose(averaged.running_mean, torch.full((3,), 2.0))
    assert averaged.num_batches_tracked == 9
    assert (network.weight == 5).all()


def test_the_average_forgets_its_start():
    """The decay grows from a tenth to what was asked for."""
    assert early_decay(0, 0.999) == 0.1
    assert early_decay(8, 0.999) == 0.5
    assert early_decay(10**6, 0.999) == 0.999
