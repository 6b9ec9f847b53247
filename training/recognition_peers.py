"""Other ways to recognize the same images: from pixels, from reconstructions, from features.

The network that sees pixels is the recognizer's, with a stem of stride 8 in the
place of the table, trained by the same recipe on the same views: what it does better
is what the codes lose, or what their recognizer doesn't find.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.baselines import CLASSICAL, PeerCodec, decode_file, peer_codecs
from training.calibration import Labels
from training.codec import Codec, embed_codes, encode_images, pad_to_stride
from training.data import Pixels
from training.model import to_float
from training.probe import Labelled, probe
from training.recognition import Recipe, Source, score, train
from training.recognition_report import Peer
from training.recognizer import Layout, Network
from training.views import Views, view_of


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
    """Views of images as pixels, made when they are needed.

    Args:
        images: uint8 `[h, w, 3]`, sides multiples of the stride.
        labels: int64 `[images]`.
        views: how many of each image.
        stride: smaller sides are cut to multiples of it.
        make: image, number of the view → its pixels; by default the image itself.
    """

    def __init__(
        self,
        images: Sequence[Pixels],
        labels: Labels,
        views: int,
        stride: int,
        make: Callable[[int, int], Pixels] | None = None,
    ) -> None:
        self.views, self.labels = views, labels
        self._images, self._stride = images, stride
        self._make = make or (lambda image, _: images[image])

    def item(self, image: int, view: int) -> Pixels:
        """uint8 `[h, w, 3]`; of a view, its size is all that is asked here."""
        return self._images[image] if view == 0 else self._make(image, view)

    def batch(self, images: Sequence[int], views: Sequence[int]) -> Tensor:
        """uint8 `[len(images), h, w, 3]`."""
        with ThreadPoolExecutor(2) as pool:
            made = list(pool.map(self._make, images, views))
        height, width = (
            min(pixels.shape[axis] for pixels in made) // self._stride * self._stride
            for axis in (0, 1)
        )
        return torch.from_numpy(np.stack([_middle(pixels, height, width) for pixels in made]))


def compare(
    labelled: Labelled,
    codec: Codec,
    views: Views,
    fit: NDArray[np.int64],
    held_out: NDArray[np.int64],
    layout: Layout,
    recipe: Recipe,
    *,
    seed: int,
    device: torch.device,
    tell: Callable[[str], None] = print,
) -> list[Peer]:
    """Accuracies of everything else on the test images.

    Args:
        labelled: images, of the size at which they were encoded.
        codec: of the bundle.
        views: codes of the training images' views.
        fit: indices of the training images to learn from, and …
        held_out: … of those that decide which epoch is kept.
        layout: of the recognizer's network.
        recipe: of its training.
        seed: of the views.
        device: to train on.
        tell: what is being done.
    """
    train_labels, test_labels = labelled.train_labels, labelled.test_labels
    stride, classes = codec.stride, len(labelled.classes)
    rows = []
    tell("features: embedding, histograms")
    embedded = [
        embed_codes(codec, encode_images(codec, p)) for p in (labelled.train, labelled.test)
    ]
    if embedded[0] is not None and embedded[1] is not None:
        rows.append(("embedding, linear", embedded[0], embedded[1]))
    if _one_size([*labelled.train, *labelled.test]):
        for name, describe in CLASSICAL.items():
            described = [
                np.stack([describe(i) for i in part]) for part in (labelled.train, labelled.test)
            ]
            rows.append((f"{name}, linear", described[0], described[1]))
    peers = [Peer(n, probe(n, a, train_labels, b, test_labels).linear) for n, a, b in rows]

    padded = [pad_to_stride(i, stride) for i in labelled.train]
    test = [pad_to_stride(i, stride) for i in labelled.test]

    def shown(image: int, view: int) -> Pixels:
        return pad_to_stride(view_of(labelled.train[image], view, (seed, image)), stride)

    def decoded(image: int, view: int) -> Pixels:
        pixels: Pixels = codec.decode(views.grid(image, view)[None])[0]
        return pixels

    def accuracy(network: Network, pictures: Sequence[Pixels]) -> float:
        source = PixelSource(pictures, test_labels, 1, stride)
        logits = score(network, source, np.arange(len(pictures)), device=device)
        return float((logits.argmax(axis=1) == test_labels).mean())

    tell("the same network on reconstructions")
    source = PixelSource(padded, train_labels, views.count, stride, decoded)
    torch.manual_seed(recipe.seed)
    network = train(
        PixelNetwork(classes, layout, stride), source, fit, held_out, recipe, device=device
    ).network
    again = [codec.decode(grid[None])[0] for grid in encode_images(codec, labelled.test)]
    peers.insert(0, Peer("reconstructions, the same network", accuracy(network, again)))

    tell("the same network on pixels")
    source = PixelSource(padded, train_labels, views.count, stride, shown)
    torch.manual_seed(recipe.seed)
    network = train(
        PixelNetwork(classes, layout, stride), source, fit, held_out, recipe, device=device
    ).network
    peers.insert(0, Peer("pixels, the same network", accuracy(network, test)))
    for peer in peer_codecs():
        for quality in peer.curve:
            files = [peer.encode(i, quality) for i in labelled.test]
            pictures = [pad_to_stride(decode_file(f), stride) for f in files]
            peers.append(
                Peer(
                    _name(peer, quality),
                    accuracy(network, pictures),
                    float(np.mean([len(f) for f in files])),
                )
            )
    return peers


def _name(peer: PeerCodec, quality: int) -> str:
    return f"{peer.name} of quality {quality}, the network on pixels"


def _one_size(images: Sequence[Pixels]) -> bool:
    return len({image.shape for image in images}) == 1


def _middle(pixels: Pixels, height: int, width: int) -> Pixels:
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return pixels[top : top + height, left : left + width]
