"""Facts about configurations."""

import json

import pytest

from training.config import Config, ConfigError
from training.configfile import PRESETS, from_dict, load_config, override
from training.model import Tokenizer


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
        ({"name": "x", "nmae": 1}, "unknown setting nmae"),
        ({"name": "x", "data": {"corp": 8}}, "unknown setting data.corp"),
        ({"name": "x", "data": 3}, "table"),
        ({"name": "x", "data": {"crop": "96"}}, "data.crop"),
        ({"name": "x", "data": {"crop": True}}, "data.crop"),
        ({"name": "x", "data": {"crop": 100}}, "multiple of the stride"),
        ({"name": "x", "network": {"widths": [96]}}, "equally long"),
        ({"name": "x", "network": {"widths": ["a", "b"]}}, r"widths\[0\]"),
        ({"name": "x", "network": {"stem_stride": 3}}, "stem_stride"),
        ({"name": "x", "quantizer": {"kind": "magic"}}, "one of ema, gradient, none"),
        ({"name": "x", "quantizer": {"decay": 1.5}}, "decay"),
        ({"name": "x", "quantizer": {"size": 1}}, "size"),
        ({"name": "x", "loss": {"mse": 0}}, "at least one"),
        ({"name": "x", "loss": {"lpips": 1.0}}, "lpips_weights"),
        ({"name": "x", "optimizer": {"betas": [0.9]}}, "2 values"),
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
