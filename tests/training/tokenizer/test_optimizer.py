"""Facts about the optimizers."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from training.tokenizer.checkpoint import CheckpointError, load_checkpoint
from training.tokenizer.config import ConfigError, OptimizerConfig
from training.tokenizer.config_file import override
from training.tokenizer.distributed import DistributedContext
from training.tokenizer.optimizer import MuonAdamW, make_optimizer
from training.tokenizer.run import TrainingInterrupted, train

CPU = DistributedContext(torch.device("cpu"))
MUON = OptimizerConfig(kind="muon", learning_rate=0.1, weight_decay=0.0, momentum=0.0)


@pytest.fixture
def layer():
    """A convolution with gradients, as the networks hold it."""
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 4, 3).to(memory_format=torch.channels_last)
    layer(torch.randn(2, 6, 5, 5)).square().sum().backward()
    return layer


def test_a_kernels_step_is_orthogonal(layer):
    """A first step of Muon has nearly equal singular values, and AdamW's root mean square."""
    before = layer.weight.detach().clone()
    make_optimizer(layer.parameters(), MUON).step()
    step = (layer.weight.detach() - before).permute(0, 2, 3, 1).reshape(4, -1).numpy()
    singular = np.linalg.svd(step / -0.1, compute_uv=False)
    # Five iterations bring them to between 0.7 and 1.2 of the scale.
    scale = 0.2 * np.sqrt(54)
    assert (0.6 * scale < singular).all()
    assert (singular < 1.3 * scale).all()
    assert np.sqrt(np.mean((step / 0.1) ** 2)) == pytest.approx(0.2, rel=0.3)


def test_a_kernels_step_goes_down_its_gradient(layer):
    """Rows and columns are those of the gradient: the step has the sign of a descent."""
    before, gradient = layer.weight.detach().clone(), layer.weight.grad.clone()
    make_optimizer(layer.parameters(), MUON).step()
    step = layer.weight.detach() - before
    assert torch.sum(step * gradient) < -0.5 * step.norm() * gradient.norm() / 2


def test_biases_are_adamws(layer):
    """Whichever the optimizer of the kernels is, a bias takes the same step."""
    plain = nn.Conv2d(6, 4, 3)
    plain.load_state_dict(layer.state_dict())
    plain.weight.grad, plain.bias.grad = layer.weight.grad.clone(), layer.bias.grad.clone()
    make_optimizer(layer.parameters(), MUON).step()
    make_optimizer(plain.parameters(), dataclasses.replace(MUON, kind="adamw")).step()
    assert torch.equal(layer.bias, plain.bias)
    assert not torch.equal(layer.weight, plain.weight)


def test_gradients_of_any_memory_format(layer):
    """A gradient that is laid out otherwise than its kernel makes the same step."""
    other = nn.Conv2d(6, 4, 3).to(memory_format=torch.channels_last)
    other.load_state_dict(layer.state_dict())
    other.weight.grad = layer.weight.grad.contiguous()
    assert other.weight.grad.stride() != layer.weight.stride()
    other.bias.grad = layer.bias.grad.clone()
    for each in (layer, other):
        make_optimizer(each.parameters(), MUON).step()
    assert torch.equal(layer.weight, other.weight)


def test_a_kernel_without_gradient_stays(layer):
    """What took no part in a step is left as it is."""
    optimizer = make_optimizer(layer.parameters(), MUON)
    assert isinstance(optimizer, MuonAdamW)
    optimizer.zero_grad()
    before = layer.weight.detach().clone()
    optimizer.step()
    assert torch.equal(layer.weight, before)


@pytest.fixture
def with_muon(tiny):
    """The tiny configuration, trained with Muon."""
    return override(tiny, ["optimizer.kind=muon"])


def test_resuming_is_exact(with_muon, photos, tmp_path):
    """Stopped in the middle, a run with Muon ends with the weights of an unbroken one."""
    whole = load_checkpoint(train(with_muon, [photos], tmp_path / "whole", CPU))
    with pytest.raises(TrainingInterrupted):
        train(with_muon, [photos], tmp_path / "parts", CPU, minutes=0)
    resumed = load_checkpoint(train(with_muon, [photos], tmp_path / "parts", CPU))
    assert all(torch.equal(value, resumed.model[name]) for name, value in whole.model.items())


def test_another_optimizer_needs_another_phase(with_muon, tiny, photos, tmp_path):
    """The state of one optimizer means nothing to the other: refused on resuming."""
    with pytest.raises(TrainingInterrupted):
        train(with_muon, [photos], tmp_path, CPU, minutes=0)
    with pytest.raises(CheckpointError, match="other settings"):
        train(tiny, [photos], tmp_path, CPU)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("optimizer.kind=sgd", "adamw, muon"),
        ("optimizer.momentum=1", r"momentum must be in \[0, 1\)"),
    ],
)
def test_impossible_settings(tiny, setting, words):
    """Each is refused with what is possible."""
    with pytest.raises(ConfigError, match=words):
        override(tiny, [setting])
