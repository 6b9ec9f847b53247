"""Every preset, from pictures of its own crop's size to a service that gives its codes."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from bundle import open_bundle
from training.data.dataset import find_images, read_image, reduced
from training.export import main as export
from training.tokenizer.config_file import PRESETS, load_config
from training.train import main as train

# Networks as small as their strides allow: the presets' own would train for minutes.
SMALLER = {
    "photo-f8": ["network.widths=[16, 16]", "network.encoder_depths=[0, 0]",
                 "network.decoder_depths=[0, 0]"],
    "photo-f16": ["network.widths=[16, 16, 16]", "network.encoder_depths=[0, 0, 0]",
                  "network.decoder_depths=[0, 0, 0]", "quantizer.size=1024"],
    "small-f4": ["network.widths=[16]", "network.encoder_depths=[0]",
                 "network.decoder_depths=[0]"],
    "tiny": [],
}  # fmt: skip


def test_there_is_a_case_for_every_preset():
    """A new preset needs one too; recipes of several phases begin from a bundle."""
    presets = {path.stem for path in PRESETS.glob("*.toml")}
    assert set(SMALLER) == {name for name in presets if not load_config(name).phases}


@pytest.mark.parametrize("preset", SMALLER)
def test_pictures_of_the_crops_size_are_enough(preset, photos, tmp_path, run_app):
    """Trained for two steps, exported with an int8 calibration, served, there and back."""
    crop = load_config(preset).data.crop
    (tmp_path / "data").mkdir()
    for path in find_images([photos]).paths:
        picture = reduced(read_image(path), crop)[:crop, :crop]
        Image.fromarray(picture).save(tmp_path / "data" / f"{path.stem}.png")
    settings = ["optimizer.steps=2", "optimizer.batch=2", "run.bf16=false", *SMALLER[preset]]
    arguments = [argument for setting in settings for argument in ("--set", setting)]
    data = ["--data", str(tmp_path / "data")]
    assert train([preset, *data, "--out", str(tmp_path / "run"), *arguments]) == 0
    out = tmp_path / "models" / preset
    checkpoint = str(tmp_path / "run" / "last.pt")
    assert export([checkpoint, *data, "--out", str(out), "--precisions", "fp32,int8"]) == 0
    manifest = open_bundle(out).manifest
    assert "int8" in manifest.parity["encoder"]
    with run_app(models_dir=out.parent) as client:
        answer = client.post("/v1/encode", files={"images": ("x.png", _png(crop))}).json()
        grid = answer["data"][0]["grid"]
        assert grid == [crop // manifest.stride, crop // manifest.stride]
        decoded = client.post("/v1/decode", json=answer, headers={"Accept": "image/png"})
        with Image.open(io.BytesIO(decoded.content)) as picture:
            assert picture.size == (crop, crop)


def _png(side):
    buffer = io.BytesIO()
    noise = torch.randint(0, 256, (side, side, 3), dtype=torch.uint8)
    Image.fromarray(np.asarray(noise)).save(buffer, "PNG")
    return buffer.getvalue()
