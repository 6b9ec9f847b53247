"""Facts about configurations."""

import json

import pytest
import torch

from training.tokenizer.config import (
    Config,
    ConfigError,
    DataConfig,
    FSQConfig,
    LossConfig,
    NearestConfig,
)
from training.tokenizer.config_file import PRESETS, from_dict, load_config, override
from training.tokenizer.losses import Losses
from training.tokenizer.model import Output, Tokenizer
from training.tokenizer.quantizers import Quantized


@pytest.mark.parametrize("name", [path.stem for path in PRESETS.glob("*.toml")])
def test_presets_load(name):
    """Every preset is a valid configuration that is named after its file."""
    assert load_config(name).name == name


@pytest.mark.parametrize(
    ("name", "stride"), [("photo-f8", 8), ("photo-f16", 16), ("small-f4", 4), ("tiny", 8)]
)
def test_strides(name, stride):
    """The presets downsample by what their names say."""
    assert load_config(name).network.stride == stride


def test_default_model_is_as_small_as_promised():
    """photo-f8 has 6 to 8 million parameters; its encoder takes at most 4.5 GMAC for 256×256."""
    model = Tokenizer(load_config("photo-f8"))
    parameters = sum(p.numel() for p in model.parameters())
    assert 6e6 < parameters < 8e6
    macs, side = 0, 256
    for module in model.encoder.modules():
        if type(module).__name__ == "Conv2d":
            side //= module.stride[0]
            macs += module.weight.numel() * side * side
    assert macs <= 4.5e9


def test_round_trip():
    """A configuration survives JSON, as it has to in checkpoints and manifests."""
    config = load_config("photo-f8")
    assert from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "name"),
        ({"name": "My Model"}, r"\[a-z0-9\].* and 'My Model' doesn't"),
        ({"name": "x" * 65}, "name must match"),
        ({"name": "x", "nmae": 1}, "unknown setting nmae"),
        ({"name": "x", "data": {"corp": 8}}, "unknown setting data.corp"),
        ({"name": "x", "data": 3}, "table"),
        ({"name": "x", "data": {"crop": "96"}}, "data.crop"),
        ({"name": "x", "data": {"crop": True}}, "data.crop"),
        ({"name": "x", "data": {"crop": 100}}, "multiple of the stride"),
        ({"name": "x", "data": {"seed": -1}}, "data.seed"),
        ({"name": "x", "run": {"seed": 2**32}}, "run.seed"),
        ({"name": "x", "network": {"widths": [96]}}, "equally long"),
        ({"name": "x", "network": {"widths": ["a", "b"]}}, r"widths\[0\]"),
        ({"name": "x", "network": {"stem_stride": 3}}, "stem_stride"),
        (
            {"name": "x", "quantizer": {"kind": "magic"}},
            "one of ema, gradient, simvq, fsq, lfq, bsq",
        ),
        ({"name": "x", "network": {"kind": "magic"}}, "one of convolutional, vqgan"),
        ({"name": "x", "network": {"kind": "vqgan", "widths": [12, 16]}}, "groups"),
        ({"name": "x", "quantizer": {"kind": "fsq", "size": 8}}, "unknown setting .*size"),
        ({"name": "x", "quantizer": {"kind": "fsq", "levels": [8, 2]}}, "at least 3"),
        ({"name": "x", "quantizer": {"kind": "bsq", "bits": 19}}, "524288 codes"),
        ({"name": "x", "quantizer": {"kind": "product", "width": 7}}, "multiple of the number"),
        ({"name": "x", "quantizer": 3}, "quantizer must be a table"),
        ({"name": "x", "quantizer": {"decay": 1.5}}, "decay"),
        ({"name": "x", "quantizer": {"size": 1}}, "size"),
        ({"name": "x", "loss": {"mse": 0}}, "at least one"),
        ({"name": "x", "data": {"crop": 40}, "loss": {"ms_ssim": 0.1}}, "ms_ssim.* 44 pixels"),
        ({"name": "x", "optimizer": {"betas": [0.9]}}, "2 values"),
        ({"name": "x", "optimizer": {"betas": [2.0, 0.9]}}, "betas"),
        ({"name": "x", "optimizer": {"weight_decay": -1.0}}, "weight_decay"),
        ({"name": "x", "optimizer": {"final_learning_rate": 1.5}}, "final_learning_rate"),
        ({"name": "x", "optimizer": {"learning_rate": float("nan")}}, "finite"),
        ({"name": "x", "optimizer": {"steps": 0}}, "steps"),
    ],
)
def test_impossible_values(values, words):
    """An unknown key or an impossible value is refused in one line that names it."""
    with pytest.raises(ConfigError, match=words) as caught:
        from_dict(values)
    assert "\n" not in str(caught.value)


def test_unknown_preset():
    """A preset that doesn't exist is refused with the names of those that do."""
    with pytest.raises(ConfigError, match="photo-f8"):
        load_config("photo-f9")


def test_broken_toml(tmp_path):
    """A file that is no TOML is refused by name."""
    file = tmp_path / "mine.toml"
    file.write_text("name = ")
    with pytest.raises(ConfigError, match=r"mine\.toml"):
        load_config(str(file))


def test_override(tiny: Config):
    """`--set` replaces one setting and refuses what isn't one."""
    assert override(tiny, ["optimizer.steps=77", "quantizer.kind=none"]).optimizer.steps == 77
    for wrong in ("optimizer.stepz=1", "steps", "nothing.at.all=1", "optimizer.steps=many"):
        with pytest.raises(ConfigError):
            override(tiny, [wrong])


def test_another_kind_keeps_the_settings_that_both_have(tiny):
    """`--set quantizer.kind` takes the new kind's defaults for all others, and order decides."""
    made = override(tiny, ["quantizer.kind=product", "quantizer.sizes=[8, 16]"]).quantizer
    assert (made.sizes, made.width, made.decay) == ((8, 16), 4, 0.95)
    assert override(tiny, ["quantizer.kind=fsq"]).quantizer == FSQConfig()
    with pytest.raises(ConfigError, match=r"unknown setting quantizer\.size"):
        override(tiny, ["quantizer.kind=fsq", "quantizer.size=8"])


def test_every_kind_comes_back_from_a_checkpoint(tiny):
    """`to_dict` and `from_dict` keep the kind of quantizer and network."""
    for kind in ("gradient", "simvq", "fsq", "lfq", "bsq", "product", "none"):
        config = override(tiny, [f"quantizer.kind={kind}", "network.kind=vqgan"])
        assert from_dict(config.to_dict()) == config


def test_the_smallest_crop_for_ms_ssim_is_large_enough():
    """Three scales of its 11-pixel window fit into the 44 pixels that a configuration must have."""
    loss = LossConfig(ms_ssim=0.1)
    Config(name="x", data=DataConfig(crop=48), loss=loss)
    pixels = torch.zeros(1, 3, 44, 44)
    output = Output(pixels, Quantized(pixels, pixels, {"commitment": pixels.mean()}))
    total, _ = Losses(loss, NearestConfig())(output, pixels)
    assert torch.isfinite(total)


def test_whole_numbers_may_be_written_as_powers_of_ten():
    """`1e4` is 10,000 steps; 1.5 steps are refused."""
    assert override(load_config("tiny"), ["optimizer.steps=1e4"]).optimizer.steps == 10_000
    with pytest.raises(ConfigError, match=r"optimizer\.steps must be of type int"):
        override(load_config("tiny"), ["optimizer.steps=1.5"])


def test_a_decoder_of_its_own_widths():
    """Its channels are the encoder's unless they are given; as many as there are stages."""
    assert load_config("photo-f8").network.decoder_channels == (96, 192)
    assert load_config("photo-f8-v3").network.decoder_channels == (128, 192)
    with pytest.raises(ConfigError, match=r"network\.decoder_widths must be as long"):
        from_dict({"name": "x", "network": {"decoder_widths": [96]}})


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["data.channels=17"], "data.channels"),
        (["data.channels=0"], "data.channels"),
        (["data.sample_maximum=70000"], "data.sample_maximum"),
        (["data.channels=1", "data.synthetic=0.1"], "three channels of 8 bits"),
        (["data.channels=1", "loss.perceptual=1.0"], "data.channels must be 3"),
    ],
)
def test_samples_that_cannot_be_are_a_line(settings, says):
    """And so is what is for pictures in colour alone."""
    with pytest.raises(ConfigError, match=says):
        override(load_config("tiny"), settings)
