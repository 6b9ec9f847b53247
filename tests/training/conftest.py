"""A tiny model for the tests of training: small enough to train in seconds."""

import dataclasses
import io
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from training.data.dataset import find_images, read_image
from training.tokenizer.config import Config
from training.tokenizer.config_file import load_config


@pytest.fixture(scope="session")
def tiny() -> Config:
    """The `tiny` preset, shortened, in float32 so that results don't depend on the processor."""
    config = load_config("tiny")
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, crop=32, validation_fraction=0.2),
        optimizer=dataclasses.replace(config.optimizer, steps=12, batch=8, warmup_steps=2),
        run=dataclasses.replace(
            config.run, bf16=False, log_every=4, validate_every=6, checkpoint_every=4
        ),
    )


@pytest.fixture(scope="session")
def images(photos):
    """The committed photographs, uint8 `[h, w, 3]`."""
    return [read_image(path) for path in find_images([photos]).paths]


@pytest.fixture(scope="session")
def repeated_photos(photos, tmp_path_factory):
    """Three copies of each photograph under names of which one is held out."""
    folder = tmp_path_factory.mktemp("photographs")
    for path in photos.glob("*.webp"):
        for number in (1, 2, 3):
            shutil.copy(path, folder / f"{path.stem}_{number}.webp")
    return folder


@pytest.fixture(scope="session")
def cut_jpeg() -> bytes:
    """Half of a JPEG: its header can be read, and its pixels can't."""
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(noise).save(buffer, "JPEG")
    return buffer.getvalue()[: len(buffer.getvalue()) // 2]


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """One thread for torch: these networks are too small for two, and waiting for it costs more."""
    torch.set_num_threads(1)


@pytest.fixture
def few(photos, tmp_path):
    """A folder of two photographs, one of them in a folder below."""
    folder = tmp_path / "few"
    (folder / "below").mkdir(parents=True)
    shutil.copy(photos / "street.webp", folder)
    shutil.copy(photos / "lake.webp", folder / "below")
    return folder
