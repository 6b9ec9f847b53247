"""Training from Python: arrays or a folder to a bundle, with networks of one's own or without."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from bundle import BundleError
from training.data.dataset import DataError
from training.notebook import TrainableTokenizer
from training.onnx_export.codec import BundleCodec
from training.tokenizer.config import ConfigError
from training.tokenizer.quantizers import NearestQuantizer

# Each exports graphs, which takes half a minute where other programs want the processors too.
pytestmark = pytest.mark.timeout(600)


class OwnEncoder(nn.Module):
    """Not the built-in one, of the same shape."""

    def __init__(self, stride=8, width=4):
        super().__init__()
        self.patches = nn.Conv2d(3, 8, stride, stride)
        self.out = nn.Conv2d(8, width, 1)

    def forward(self, pixels):
        return self.out(nn.functional.gelu(self.patches(pixels)))


class OwnDecoder(nn.Module):
    """The same for a decoder."""

    def __init__(self):
        super().__init__()
        self.out = nn.ConvTranspose2d(4, 3, 8, 8)

    def forward(self, vectors):
        return self.out(vectors)


@pytest.fixture(scope="module")
def arrays(images):
    return np.stack([image[:64, :64] for image in images] * 2)


@pytest.fixture(scope="module")
def trained(tiny, arrays):
    return TrainableTokenizer(tiny, {"name": "mine"}).fit(arrays)


def test_arrays_become_a_bundle_that_does_what_was_trained(trained, arrays, tmp_path, capsys):
    """Figures, pictures, and the exported graphs' codes are the network's."""
    figures = trained.evaluate(arrays)
    assert figures["images"] == len(arrays)
    assert figures["bits_per_pixel"] == pytest.approx(0.125)
    assert 0 < figures["codes_used"] <= 1
    made = trained.reconstruct(arrays[:2])
    assert [picture.shape for picture in made] == [(64, 64, 3)] * 2
    bundle = trained.export(tmp_path / "mine", precisions=["fp32"])
    assert bundle.manifest.name == "mine"
    assert bundle.manifest.training["images_seen"] == 12 * 8
    codec = BundleCodec(bundle)
    shown = codec.decode(codec.encode(arrays[:2]))
    assert np.abs(shown.astype(int) - np.stack(made)).mean() < 1
    with pytest.raises(BundleError, match="replace"):
        trained.export(tmp_path / "mine")
    assert "tessera.load" in capsys.readouterr().out


def test_a_folder_and_arrays_of_its_images_train_the_same(tiny, photos, images):
    """The crops differ, since paths do; what is counted doesn't."""
    one = TrainableTokenizer(tiny).fit(str(photos))
    other = TrainableTokenizer(tiny).fit(images)
    assert one.evaluate(images)["images"] == other.evaluate(str(photos))["images"] == len(images)


def test_networks_of_ones_own_are_trained_exported_and_named(tiny, arrays, tmp_path):
    """All three replaced; their weights move, and the graphs are proven."""
    encoder, decoder = OwnEncoder(), OwnDecoder()
    before = encoder.out.weight.detach().clone()
    tokenizer = TrainableTokenizer(
        tiny, encoder=encoder, decoder=decoder, quantizer=NearestQuantizer(tiny.quantizer)
    )
    tokenizer.fit(arrays)
    assert not torch.equal(before, encoder.out.weight)
    manifest = tokenizer.export(tmp_path / "own", precisions=["fp32"]).manifest
    assert manifest.training["own_modules"] == ["encoder", "quantizer", "decoder"]
    assert manifest.graphs["encoder"].reach is None


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"encoder": OwnEncoder(stride=4)}, "the encoder makes [1, 4, 4, 6]"),
        ({"encoder": OwnEncoder(width=3)}, "not [1, 4, 2, 3]"),
        ({"decoder": OwnEncoder()}, "the decoder fails on [1, 4, 2, 3]"),
    ],
)
def test_a_network_of_another_shape_is_refused_before_training(tiny, parts, says):
    """In a line that says which and how."""
    with pytest.raises(ConfigError) as refused:
        TrainableTokenizer(tiny, **parts)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_unknown_setting_is_a_line(tiny):
    """As on the command line."""
    with pytest.raises(ConfigError, match=r"unknown setting optimizer\.stepz"):
        TrainableTokenizer(tiny, {"optimizer.stepz": 1})


def test_what_is_not_trained_says_so(tiny, arrays, tmp_path):
    """Rather than showing noise."""
    tokenizer = TrainableTokenizer(tiny)
    with pytest.raises(DataError, match="call fit first"):
        tokenizer.evaluate(arrays)
    with pytest.raises(DataError, match="call fit first"):
        tokenizer.export(tmp_path / "none")


def test_early_figures_come_and_an_interrupted_run_goes_on(tiny, arrays, capsys):
    """Stopped by the time, then called again."""
    tokenizer = TrainableTokenizer(tiny, {"optimizer.steps": 40})
    assert tokenizer.config.run.log_every == 2
    tokenizer.fit(arrays, minutes=0)
    assert "stopped after step 1 of 40; fit, called again, resumes" in capsys.readouterr().out
    tokenizer.fit(arrays)
    said = capsys.readouterr().out
    assert "at step 1 of 40" in said
    assert "step 40  psnr" in said
