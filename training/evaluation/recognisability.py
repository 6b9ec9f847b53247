"""Recognisability: what a frozen ImageNet network still names in reconstructed pictures.

The network was never tuned on reconstructions. It sees the labelled test images at their own
size, enlarged as it wants them; beside them the same images after the model, and as JPEG, WebP
and AVIF of as many bytes, or of the fewest that the format can do.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from bundle import open_bundle
from training.data.dataset import Pixels, evenly
from training.evaluation.baselines import baseline_codecs, decode_file, encode_within
from training.evaluation.linear_probe import Labelled
from training.evaluation.variants import Variant
from training.onnx_export.codec import Codec
from training.perceptual.efficientnet_lite import EfficientNetLite, LiteName
from training.perceptual.weights import WEIGHT_FILES, WeightsMissing
from training.tokenizer.checkpoint import load_checkpoint

# Folder names of imagenette's ten classes → index of the class among ImageNet's thousand.
IMAGENET_INDEX = {
    "tench": 0,
    "english_springer": 217,
    "cassette_player": 482,
    "chain_saw": 491,
    "church": 497,
    "french_horn": 566,
    "garbage_truck": 569,
    "gas_pump": 571,
    "golf_ball": 574,
    "parachute": 701,
}
_JUDGES: tuple[LiteName, ...] = ("lite0", "lite2")
_BATCH = 16


@dataclass(frozen=True)
class Recognised:
    """What a judge names in one kind of pictures.

    Attributes:
        source: `originals`, a variant of the model, or a classical codec.
        stages: of the codes, by whose bytes a classical codec is limited; 0 for the originals.
        bytes: mean of an image as stored; None for the originals.
        top1: share for which the judge's best of 1,000 classes is the label.
        top1_of_classes: the same if only the classes of the labelled images may be named.
    """

    source: str
    stages: int
    bytes: float | None
    top1: float
    top1_of_classes: float


@dataclass(frozen=True)
class Judgement:
    """All that one judge was shown.

    Attributes:
        judge: the network.
        used_in_training: the model was trained with this network: its word counts for little.
        side: pixels, to which it has pictures enlarged.
        images: how many.
        classes: of the labelled images.
        rows: originals first, then the variants, then the classical codecs.
    """

    judge: str
    used_in_training: bool
    side: int
    images: int
    classes: int
    rows: tuple[Recognised, ...]


def recognisability(
    codec: Codec,
    variants: Sequence[Variant],
    labelled: Labelled,
    *,
    used_in_training: Collection[str] = (),
    images: int = 400,
) -> tuple[list[Judgement], list[str]]:
    """Has every installed judge look at the test part of labelled images.

    Args:
        codec: the model.
        variants: of it.
        labelled: images; only the test part is shown.
        used_in_training: names of the frozen networks that the model was trained with.
        images: at most so many, evenly chosen.

    Returns:
        The judgements, and what is absent, each with the reason.
    """
    unknown = sorted(set(labelled.classes) - set(IMAGENET_INDEX))
    if unknown:
        known = ", ".join(IMAGENET_INDEX)
        return [], [f"recognisability: no ImageNet class for {', '.join(unknown)}; known: {known}"]
    judges: list[tuple[LiteName, EfficientNetLite]] = []
    absent = []
    for name in _JUDGES:
        try:
            judges.append((name, EfficientNetLite(name)))
        except WeightsMissing as error:
            absent.append(f"recognisability by {WEIGHT_FILES[name].title}: {error}")
    if not judges:
        return [], absent
    chosen = evenly(len(labelled.test), images)
    shown = [labelled.test[i] for i in chosen]
    labels = labelled.test_labels[chosen]
    columns = np.array([IMAGENET_INDEX[name] for name in labelled.classes])
    rows: list[list[Recognised]] = [[] for _ in judges]
    for source, stages, size, pictures in _shown(codec, variants, shown):
        for (_, network), found in zip(judges, rows, strict=True):
            logits = _logits(network, pictures)
            best = logits.argmax(axis=1) == columns[labels]
            best_of_classes = logits[:, columns].argmax(axis=1) == labels
            found.append(
                Recognised(source, stages, size, float(best.mean()), float(best_of_classes.mean()))
            )
    judgements = [
        Judgement(
            judge=WEIGHT_FILES[name].title,
            used_in_training=name in used_in_training,
            side=network.side,
            images=len(shown),
            classes=len(labelled.classes),
            rows=tuple(found),
        )
        for (name, network), found in zip(judges, rows, strict=True)
    ]
    return judgements, absent


def networks_of_training(path: Path) -> frozenset[str]:
    """Names of the frozen networks that a bundle or checkpoint says it was trained with.

    They are recorded by the trainer under `networks`, each with its `name`.

    Raises:
        BundleError: the folder is not a sound bundle.
        CheckpointError: the file is not a checkpoint of this version.
    """
    facts = open_bundle(path).manifest.training if path.is_dir() else load_checkpoint(path).facts
    stated = facts.get("networks", ())
    return frozenset(entry["name"] for entry in stated if isinstance(entry, dict))


def _shown(
    codec: Codec, variants: Sequence[Variant], images: Sequence[Pixels]
) -> Iterator[tuple[str, int, float | None, Sequence[Pixels]]]:
    """Each kind of pictures: its name, the stages, mean bytes, and the pictures themselves."""
    yield "originals", 0, None, images
    limits: dict[int, list[int]] = {}
    for variant in variants:
        made = [variant.reconstruct(codec, image) for image in images]
        sizes = [size for _, size in made]
        limits.setdefault(variant.stages, sizes)
        yield variant.name, variant.stages, float(np.mean(sizes)), [picture for picture, _ in made]
    for stages, sizes in limits.items():
        for baseline in baseline_codecs():
            files = [
                encode_within(baseline, image, size).data
                for image, size in zip(images, sizes, strict=True)
            ]
            mean = float(np.mean([len(file) for file in files]))
            yield baseline.name, stages, mean, [decode_file(file) for file in files]


@torch.inference_mode()
def _logits(network: EfficientNetLite, images: Sequence[Pixels]) -> NDArray[np.float32]:
    """Scores float32 `[n, 1000]` of images of any sizes, each enlarged to the network's own."""
    side = (network.side, network.side)
    found = []
    for first in range(0, len(images), _BATCH):
        batch = np.stack(
            [
                np.asarray(Image.fromarray(image).resize(side, Image.Resampling.BICUBIC))
                for image in images[first : first + _BATCH]
            ]
        )
        found.append(network(torch.from_numpy(batch).permute(0, 3, 1, 2).float() / 127.5 - 1))
    logits: NDArray[np.float32] = torch.cat(found).numpy()
    return logits
