"""What goes into a bundle besides the model."""

import json

import pytest

from training.data.dataset import DataError
from training.onnx_export.provenance import read_metrics


def test_metrics_of_an_evaluation(tmp_path):
    """`--metrics NAME=FILE` records the main figures of an evaluation, and refuses what is none."""
    values = {
        "runtime": "ONNX Runtime fp32",
        "images": 24,
        "bits_per_pixel": 0.1875,
        "bits_per_pixel_own_histogram": 0.169,
        "quality": {"psnr": 26.25, "lpips": None},
        "usage": {"used": 0.99, "perplexity": 1814.0},
        "variants": [
            {
                "name": "photo-f8",
                "decoder": "default",
                "stages": 1,
                "synthetic": {"flat_error_median": 15.0, "pure": {"green": [92, 247, 75]}},
            },
            {
                "name": "texture",
                "decoder": "texture",
                "stages": 1,
                "bits_per_pixel": 0.1875,
                "quality": {"psnr": 25.0, "lpips": 0.29, "ssimulacra2": None},
            },
        ],
        "baselines": [
            {"codec": "JPEG", "stages": 1, "quality": {"psnr": 25.38}},
            {"codec": "JPEG", "stages": 2, "quality": {"psnr": 27.0}},
        ],
        "judgements": [
            {
                "judge": "EfficientNet-Lite2",
                "used_in_training": False,
                "classes": 10,
                "rows": [
                    {"source": "photo-f8", "top1": 0.13, "top1_of_classes": 0.72},
                    {"source": "JPEG", "top1": 0.07, "top1_of_classes": 0.34},
                ],
            }
        ],
        "probe": [{"linear": 0.6, "nearest": 0.48}],
    }
    file = tmp_path / "metrics.json"
    file.write_text(json.dumps(values))
    name, figures = read_metrics(f"kodak={file}")
    assert name == "kodak"
    assert figures["psnr"] == 26.25
    assert figures["jpeg_psnr_at_equal_bytes"] == 25.38
    assert figures["recognition_5_nearest"] == 0.48
    assert figures["bits_per_pixel_of_own_histogram"] == 0.169
    assert figures["texture_1_lpips"] == 0.29
    assert figures["photo-f8 recognised by EfficientNet-Lite2"] == 0.13
    assert figures["flat_error_median"] == 15.0
    assert "lpips" not in figures
    assert not any("JPEG recognised" in key for key in figures)
    file.write_text("{}")
    for argument in (f"kodak={file}", "kodak", "kodak=nowhere.json"):
        with pytest.raises(DataError, match="NAME=FILE"):
            read_metrics(argument)
