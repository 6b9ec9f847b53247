"""The recognition probe: how much of what a picture shows can be read off a vector.

Two readers without any freedom to be clever: a linear classifier on standardised
vectors, and the vote of the five nearest vectors by cosine. Each is given the
embeddings of a folder of labelled images and, beside them, what could be had
without training a tokenizer: pixels, their PCA, colour histograms, HOG, and the
pooled embedder of export over the codes of an untrained encoder.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from training.data.dataset import DataError, Pixels, find_images, read_image
from training.embedding.embedder import fit_embedder
from training.evaluation.baselines import CLASSICAL, raw_pixels
from training.onnx_export.any_size import embed_codes, encode_images
from training.onnx_export.codec import CheckpointCodec, Codec
from training.tokenizer.config import Config
from training.tokenizer.model import Tokenizer, to_float

# Strengths of the logistic regression's regulariser (sklearn's C), chosen between for each
# representation on a quarter of the training images: a fixed one favours some sizes of vector.
_STRENGTHS = (0.001, 0.01, 0.1)
_NEIGHBOURS = 5
# Features of pixels are taken at this side; embeddings at the images' own size.
_FEATURE_SIDE = 128


@dataclass(frozen=True)
class Labelled:
    """Images with their classes, in a training and a test part.

    Attributes:
        classes: names, sorted.
        train, test: images, uint8 `[h, w, 3]` of any sizes.
        train_labels, test_labels: int64 index into `classes` of each.
    """

    classes: tuple[str, ...]
    train: Sequence[Pixels]
    train_labels: NDArray[np.int64]
    test: Sequence[Pixels]
    test_labels: NDArray[np.int64]


@dataclass(frozen=True)
class ProbeResult:
    """Accuracies on the test part, 0…1.

    Attributes:
        representation: what the vectors are.
        size: numbers in a vector.
        linear: of standardised vectors and logistic regression.
        nearest: of the vote of the 5 nearest by cosine.
    """

    representation: str
    size: int
    linear: float
    nearest: float


def read_labelled(folder: Path) -> Labelled:
    """Reads `train/CLASS/*` and `test/CLASS/*`.

    Raises:
        DataError: a part is missing or has no readable image, or there are fewer than two classes.
    """
    images: dict[str, list[Pixels]] = {}
    names: dict[str, list[str]] = {}
    for part in ("train", "test"):
        if not (folder / part).is_dir():
            raise DataError(f"{folder} has no folder {part}/ with one folder for each class")
        images[part], names[part] = [], []
        found = find_images([folder / part])
        for broken in found.broken:
            raise DataError(f"{broken.path} can't be read: {broken.reason}")
        for path in found.paths:
            try:
                images[part].append(read_image(path))
            except OSError as error:
                raise DataError(f"{path} can't be read: {error}") from error
            names[part].append(path.relative_to(folder / part).parts[0])
    classes = tuple(sorted(set(names["train"])))
    if len(classes) < 2 or set(names["test"]) - set(classes):
        raise DataError(f"{folder}: train/ and test/ must hold the same two or more classes")
    labels = {
        part: np.array([classes.index(n) for n in names[part]], dtype=np.int64) for part in names
    }
    return Labelled(classes, images["train"], labels["train"], images["test"], labels["test"])


def probe(
    representation: str,
    train: NDArray[np.float32],
    train_labels: NDArray[np.int64],
    test: NDArray[np.float32],
    test_labels: NDArray[np.int64],
) -> ProbeResult:
    """Both accuracies of a representation.

    Args:
        representation: its name.
        train: float32 `[m, e]`.
        train_labels: int64 `[m]`.
        test: float32 `[n, e]`.
        test_labels: int64 `[n]`.
    """
    with warnings.catch_warnings():
        # Where it has not quite converged, the accuracy no longer changes.
        warnings.simplefilter("ignore", ConvergenceWarning)
        strength = _best_strength(train, train_labels)
        linear = _linear(strength).fit(train, train_labels).score(test, test_labels)
    neighbours = KNeighborsClassifier(min(_NEIGHBOURS, len(train)), metric="cosine")
    nearest = neighbours.fit(train, train_labels).score(test, test_labels)
    return ProbeResult(representation, train.shape[1], float(linear), float(nearest))


def probe_codec(codec: Codec, labelled: Labelled) -> ProbeResult | None:
    """The probe of a codec's embeddings; None: it has no embedder."""
    train = embed_codes(codec, encode_images(codec, labelled.train))
    test = embed_codes(codec, encode_images(codec, labelled.test))
    if train is None or test is None:
        return None
    return probe("embedding", train, labelled.train_labels, test, labelled.test_labels)


def probe_baselines(labelled: Labelled, config: Config | None) -> list[ProbeResult]:
    """The same of what needs no trained tokenizer.

    Args:
        labelled: images.
        config: of the tokenizer to have an untrained twin of; None leaves that row out.
    """
    train, test = _resized(labelled.train), _resized(labelled.test)
    rows: list[tuple[str, NDArray[np.float32], NDArray[np.float32]]] = [
        (name, np.stack([function(i) for i in train]), np.stack([function(i) for i in test]))
        for name, function in CLASSICAL.items()
    ]
    pixels = [np.stack([raw_pixels(i, 32) for i in part]) for part in (train, test)]
    pca = PCA(min(256, len(train) - 1), random_state=0).fit(pixels[0])
    components = [pca.transform(part).astype(np.float32) for part in pixels]
    rows.insert(1, (f"PCA-{components[0].shape[1]} of pixels", components[0], components[1]))
    if config is not None:
        codec = untrained(config, labelled.train)
        made = [
            embed_codes(codec, encode_images(codec, p)) for p in (labelled.train, labelled.test)
        ]
        if made[0] is not None and made[1] is not None:
            rows.append(("untrained encoder, pooled embedder", made[0], made[1]))
    return [probe(name, a, labelled.train_labels, b, labelled.test_labels) for name, a, b in rows]


def untrained(config: Config, images: Sequence[Pixels]) -> CheckpointCodec:
    """A tokenizer of random weights, its codebook the k-means of its own latents.

    Without the k-means a handful of codes would be used, and the comparison would
    be with a worse model than one gets for nothing.

    Args:
        config: of the tokenizer; its seed gives the weights.
        images: to initialise the codebook and to fit the embedder on.
    """
    torch.manual_seed(config.run.seed)
    model = Tokenizer(config)
    side = config.network.stride * 8
    crops = [image[:side, :side] for image in _resized(images[:: max(1, len(images) // 128)])]
    with torch.no_grad():
        latents = model.encoder(to_float(torch.from_numpy(np.stack(crops))))
    with torch.enable_grad():
        model.quantizer.train()(latents)
    model.eval().requires_grad_(requires_grad=False)
    return CheckpointCodec(model, fit_embedder(model, images))


def _best_strength(vectors: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """The strength whose classifier does best on a held-out quarter; never sees the test part."""
    out = np.random.default_rng(0).random(len(vectors)) < 0.25
    if not out.any() or len(np.unique(labels[~out])) < 2:
        return _STRENGTHS[1]
    scores = [
        _linear(strength).fit(vectors[~out], labels[~out]).score(vectors[out], labels[out])
        for strength in _STRENGTHS
    ]
    return _STRENGTHS[int(np.argmax(scores))]


def _linear(strength: float) -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=300, tol=1e-3))


def _resized(images: Sequence[Pixels]) -> list[Pixels]:
    side = _FEATURE_SIDE
    return [
        image
        if image.shape[:2] == (side, side)
        else np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.LANCZOS))
        for image in images
    ]
