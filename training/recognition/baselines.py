"""Baselines for a recognizer: the same images from pixels, reconstructions and features.

The network that sees pixels is the recognizer's, with a stem of stride 8 instead of the table,
trained by the same recipe on the first of the same views: what it does better is what the
codes lose, or what their recognizer doesn't find.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.data.dataset import Pixels
from training.evaluation.baselines import CLASSICAL, baseline_codecs, decode_file
from training.evaluation.linear_probe import Labelled, probe
from training.onnx_export.any_size import decode_grids, embed_codes, encode_first_stage
from training.onnx_export.codec import Codec, pad_to_stride
from training.recognition.augmented_views import Views, view_of
from training.recognition.calibration import Labels
from training.recognition.dataset import Source, middle
from training.recognition.network import Layout, Network
from training.recognition.report import Baseline
from training.recognition.trainer import Recipe, score, train
from training.tokenizer.model import to_float

# Views that are kept as pixels, which take 100 times the memory of codes.
_VIEWS = 16


class PixelNetwork(Network):
    """Pixels uint8 `[n, h, w, 3]` → logits and map, the stem in the place of the table.

    Args:
        classes: how many.
        layout: sizes; the stem gives as many numbers a place as the table would.
        stride: pixels along one side of a place, a power of two.
    """

    def __init__(self, classes: int, layout: Layout, stride: int) -> None:
        super().__init__(layout.table, classes, layout)
        layers: list[nn.Module] = []
        inputs, halvings = 3, stride.bit_length() - 1
        for index in range(halvings):
            width = max(8, layout.table >> (halvings - 1 - index))
            layers += [
                nn.Conv2d(inputs, width, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
            inputs = width
        self.stem = nn.Sequential(*layers)

    def look_up(self, inputs: Tensor) -> Tensor:
        """uint8 `[n, h, w, 3]` → `[n, table, h/stride, w/stride]`."""
        vectors: Tensor = self.stem(to_float(inputs))
        return vectors.float()


class PixelSource(Source):
    """Views of images as pixels.

    Args:
        views: of each, the images' views uint8 `[h, w, 3]`, sides multiples of the stride.
        labels: int64 `[images]`.
        stride: what is cut is cut to multiples of it.
    """

    def __init__(self, views: Sequence[Sequence[Pixels]], labels: Labels, stride: int) -> None:
        self.views, self.labels = len(views), labels
        self._views, self._stride = views, stride

    def shape(self, image: int, view: int) -> tuple[int, int]:
        """`(rows, columns)` of the stem's output."""
        height, width = self._views[view][image].shape[:2]
        return height // self._stride, width // self._stride

    def batch(self, images: Sequence[int], views: Sequence[int]) -> Tensor:
        """uint8 `[len(images), h, w, 3]`."""
        made = [self._views[v][i] for i, v in zip(images, views, strict=True)]
        height, width = (
            min(pixels.shape[axis] for pixels in made) // self._stride * self._stride
            for axis in (0, 1)
        )
        return torch.from_numpy(np.stack([middle(pixels, height, width) for pixels in made]))


@dataclass(frozen=True)
class Setting:
    """What the recognizer was trained with, and its baselines are trained with.

    Attributes:
        fit: indices of the training images to learn from, and …
        held_out: … of those that decide which epoch is kept.
        layout: of the network.
        recipe: of the training.
        seed: of the views.
        device: to train on.
    """

    fit: NDArray[np.int64]
    held_out: NDArray[np.int64]
    layout: Layout
    recipe: Recipe
    seed: int
    device: torch.device


def from_features(labelled: Labelled, codec: Codec) -> list[Baseline]:
    """A linear classifier on the bundle's embedding and, of images of one size, on features."""
    parts = (labelled.train, labelled.test)
    rows = []
    embedded = [embed_codes(codec, encode_first_stage(codec, part)) for part in parts]
    if embedded[0] is not None and embedded[1] is not None:
        rows.append(("embedding, linear", embedded[0], embedded[1]))
    if len({image.shape for part in parts for image in part}) == 1:
        for name, describe in CLASSICAL.items():
            described = [np.stack([describe(image) for image in part]) for part in parts]
            rows.append((f"{name}, linear", described[0], described[1]))
    labels = labelled.train_labels, labelled.test_labels
    return [Baseline(name, probe(name, a, labels[0], b, labels[1]).linear) for name, a, b in rows]


def from_reconstructions(
    labelled: Labelled, codec: Codec, views: Views, setting: Setting
) -> list[Baseline]:
    """The same network on what the codes decode to.

    Args:
        labelled: images, of the size at which they were encoded.
        codec: of the bundle.
        views: codes of the training images' views.
        setting: of the recognizer.
    """
    count, images = min(views.count, _VIEWS), len(labelled.train)
    grids = [[views.grid(i, v) for i in range(images)] for v in range(count)]
    decoded = [decode_grids(codec, part) for part in grids]
    network = _trained(decoded, labelled, codec.stride, setting)
    test = decode_grids(codec, encode_first_stage(codec, labelled.test))
    return [
        Baseline("reconstructions, the same network", _accuracy(network, test, labelled, codec))
    ]


def from_pixels(labelled: Labelled, codec: Codec, views: int, setting: Setting) -> list[Baseline]:
    """The same network on pixels: of the images themselves, and of files of few bytes.

    Args:
        labelled: images, of the size at which they were encoded.
        codec: of the bundle.
        views: of each training image.
        setting: of the recognizer.
    """
    stride = codec.stride
    made = [
        [
            pad_to_stride(view_of(image, view, (setting.seed, index)), stride)
            for index, image in enumerate(labelled.train)
        ]
        for view in range(min(views, _VIEWS))
    ]
    network = _trained(made, labelled, stride, setting)
    test = [pad_to_stride(image, stride) for image in labelled.test]
    baselines = [Baseline("pixels, the same network", _accuracy(network, test, labelled, codec))]
    for baseline in baseline_codecs():
        for quality in baseline.curve:
            files = [baseline.encode(image, quality) for image in labelled.test]
            pictures = [pad_to_stride(decode_file(file), stride) for file in files]
            size = float(np.mean([len(file) for file in files]))
            name = f"{baseline.name} of quality {quality}, the network on pixels"
            baselines.append(Baseline(name, _accuracy(network, pictures, labelled, codec), size))
    return baselines


def compare(labelled: Labelled, codec: Codec, views: Views, setting: Setting) -> list[Baseline]:
    """All of them; see above."""
    pixels = from_pixels(labelled, codec, views.count, setting)
    reconstructions = from_reconstructions(labelled, codec, views, setting)
    return [pixels[0], *reconstructions, *from_features(labelled, codec), *pixels[1:]]


def _trained(
    views: Sequence[Sequence[Pixels]], labelled: Labelled, stride: int, setting: Setting
) -> Network:
    source = PixelSource(views, labelled.train_labels, stride)
    torch.manual_seed(setting.recipe.seed)
    network = PixelNetwork(len(labelled.classes), setting.layout, stride)
    return train(
        network, source, setting.fit, setting.held_out, setting.recipe, device=setting.device
    ).network


def _accuracy(
    network: Network, pictures: Sequence[Pixels], labelled: Labelled, codec: Codec
) -> float:
    source = PixelSource([pictures], labelled.test_labels, codec.stride)
    logits = score(network, source, np.arange(len(pictures)))
    return float((logits.argmax(axis=1) == labelled.test_labels).mean())
