"""A tiny model of random weights, measured."""

import pytest
import torch

from training.evaluation.quality import Measures
from training.evaluation.rate_distortion import evaluate
from training.onnx_export.codec import (
    CheckpointCodec,
)
from training.tokenizer.model import Tokenizer


@pytest.fixture(scope="session")
def codec(tiny):
    torch.manual_seed(0)
    return CheckpointCodec(Tokenizer(tiny).requires_grad_(requires_grad=False))


@pytest.fixture(scope="session")
def evaluation(codec, photos):
    return evaluate(
        codec, [photos], baseline_images=3, curve_images=1, measures=Measures(), synthetic=False
    )
