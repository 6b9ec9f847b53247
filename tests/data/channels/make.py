"""Makes the bundles beside this file: grey of 16 bits, and seven channels of 8.

    python tests/data/channels/make.py

Bundles of format version 3, trained on the photographs of tests/data/photos, reduced to grey or
stacked as channels, and exported in fp32. For tests, and for nothing else.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2]))

import numpy as np  # noqa: E402
import torch  # noqa: E402

from training.data.dataset import find_images, read_image  # noqa: E402
from training.notebook import TrainableTokenizer  # noqa: E402
from training.onnx_export.provenance import read_data_description  # noqa: E402

PHOTOS = HERE.parent / "photos"
SETTINGS = {
    "data.crop": 32,
    "network.widths": [8, 16],
    "optimizer.steps": 300,
    "optimizer.batch": 8,
    "quantizer.size": 64,
    "run.bf16": False,
}


def main() -> None:
    """Train and write the bundles."""
    torch.set_num_threads(1)
    photos = [read_image(path) for path in find_images([PHOTOS]).paths]
    grey = [photo.astype(np.float64).mean(axis=2) for photo in photos]
    # Beyond 8 bits there is something to see: the mean of three samples has thirds.
    deep = [(257 * image).round().astype(np.uint16)[..., None] for image in grey]
    seven = [np.dstack([photo, 255 - photo, photo[..., :1] // 2]) for photo in photos]
    _make("grey16", deep, {"data.channels": 1, "data.sample_maximum": 65535})
    _make("seven", seven, {"data.channels": 7})


def _make(name: str, images: list[Any], samples: dict[str, int]) -> None:
    tokenizer = TrainableTokenizer("tiny", {**SETTINGS, **samples, "name": name}, device="cpu")
    tokenizer.fit(images)
    print(name, tokenizer.evaluate(images))
    data = read_data_description(PHOTOS / "data.toml")
    tokenizer.export(HERE / name, replace=True, version="1", precisions=["fp32"], data=data)


if __name__ == "__main__":
    main()
