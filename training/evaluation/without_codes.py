"""A plain autoencoder measured: what its networks could do if nothing were quantized."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from training.data.dataset import DataError, Pixels, decoded, find_images
from training.evaluation.quality import Measures, Quality, mean_quality, measure
from training.onnx_export.codec import pad_to_stride
from training.tokenizer.checkpoint import Checkpoint, CheckpointError
from training.tokenizer.model import Tokenizer, to_float, to_samples

_TITLES = {
    "psnr": "PSNR, dB",
    "ssim": "SSIM",
    "ms_ssim": "MS-SSIM",
    "lpips": "LPIPS",
    "ssimulacra2": "SSIMULACRA2",
}


def model_of(checkpoint: Checkpoint) -> Tokenizer:
    """A checkpoint's model with its averaged weights, with or without a quantizer.

    Raises:
        CheckpointError: the weights don't fit its configuration.
    """
    model = Tokenizer(checkpoint.config)
    try:
        model.load_state_dict(checkpoint.averaged)
    except RuntimeError as error:
        raise CheckpointError("the checkpoint's weights don't fit its configuration") from error
    return model.eval().requires_grad_(requires_grad=False)


@torch.no_grad()
def there_and_back(model: Tokenizer, image: Pixels) -> tuple[NDArray[np.int64], Pixels]:
    """Codes and reconstruction of one image, also of a model without a quantizer.

    Args:
        model: in evaluation mode.
        image: samples `[h, w, channels]` of any size.

    Returns:
        int64 `[(stages,) ⌈h/s⌉, ⌈w/s⌉]`, which mean nothing without a quantizer; samples of
        the image's shape and type.
    """
    height, width = image.shape[:2]
    padded = pad_to_stride(image, model.config.network.stride)
    maximum = model.config.data.sample_maximum
    output = model(to_float(torch.from_numpy(padded)[None], maximum))
    made = to_samples(output.reconstruction, maximum)[0, :height, :width]
    codes: NDArray[np.int64] = output.quantized.codes[0].numpy()
    return codes, np.ascontiguousarray(made.numpy())


def quality_without_codes(
    checkpoint: Checkpoint, folders: Sequence[Path], measures: Measures
) -> tuple[Quality, int]:
    """Mean quality of the reconstructions of all images under some folders, and their number.

    Raises:
        CheckpointError: the weights don't fit its configuration.
        DataError: not one image could be decoded.
    """
    model = model_of(checkpoint)
    qualities = []
    for _, image in decoded(find_images(list(folders)).paths, []):
        _, made = there_and_back(model, image)
        qualities.append(measure(made, image, measures))
    if not qualities:
        raise DataError("not one image could be decoded")
    return mean_quality(qualities), len(qualities)


def write_without_codes(name: str, quality: Quality, images: int, out: Path) -> str:
    """Writes `metrics.json` and `metrics.md` into a folder.

    Returns:
        The text of `metrics.md`.
    """
    values = {k: v for k, v in dataclasses.asdict(quality).items() if v is not None}
    facts = {"model": name, "images": images, "quality": values}
    (out / "metrics.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    rows = [f"| {_TITLES[name]} | {value:.4f} |" for name, value in values.items()]
    text = "\n".join(
        [
            f"# {name}",
            "",
            f"A plain autoencoder, which has no codes; means over {images} images.",
            "",
            "| measure | |",
            "|---|---|",
            *rows,
            "",
        ]
    )
    (out / "metrics.md").write_text(text, encoding="utf-8")
    return text
