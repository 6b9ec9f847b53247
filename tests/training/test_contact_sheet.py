"""The contact sheet: models side by side with WebP and AVIF at equal bytes."""

import io

import numpy as np
import pytest
from PIL import Image

from training.contact_sheet import contact_sheet, main
from training.evaluation.quality import Measures
from training.onnx_export.codec import open_codec


def test_every_model_has_a_column(tiny_bundle, photos):
    """Original, two models, WebP and AVIF; two rows a picture; the columns differ."""
    codec = open_codec(tiny_bundle)
    paths = [photos / "lake.webp", photos / "street.webp"]
    data = contact_sheet([("one", codec), ("two", codec)], paths, Measures())
    with Image.open(io.BytesIO(data)) as sheet:
        assert sheet.format == "WEBP"
        pixels = np.asarray(sheet.convert("RGB")).astype(int)
        assert sheet.width == 8 + 5 * (336 + 8)
        assert sheet.height == 26 + 4 * (252 + 26 + 8)
    original, one, two, webp = (pixels[30:200, 8 + i * 344 : 300 + i * 344] for i in range(4))
    assert np.abs(one - two).mean() < 2
    assert np.abs(original - one).mean() > 3
    assert np.abs(webp - one).mean() > 3


def test_the_command_writes_the_picked_images(tiny_bundle, photos, tmp_path, capsys):
    """`--pick` chooses by name, and the figures of LPIPS are found without further options."""
    out = tmp_path / "sheet.webp"
    arguments = ["--model", f"tiny={tiny_bundle}", "--data", str(photos), "--out", str(out)]
    assert main([*arguments, "--pick", "lake"]) == 0
    assert "1 pictures" in capsys.readouterr().out
    with Image.open(out) as sheet:
        assert sheet.height == 26 + 2 * (252 + 26 + 8)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (("--pick", "nothing"), "no image is called nothing"),
        (("--model", "nameless"), "--model takes NAME=PATH, not 'nameless'"),
        (("--model", "a=/no/such/folder"), "/no/such/folder"),
    ],
)
def test_what_cannot_be_is_one_clear_line(tiny_bundle, photos, tmp_path, capsys, changed, message):
    """Exit code 2 and a line that names what is wrong."""
    out = tmp_path / "sheet.webp"
    arguments = ["--model", f"tiny={tiny_bundle}", "--data", str(photos), "--out", str(out)]
    assert main([*arguments, *changed]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert not out.exists()
