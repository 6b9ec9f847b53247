"""From codes and labels to a recognizer in a bundle: trained, calibrated, proven, written."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from bundle import Bundle, BundleError, Manifest
from bundle import Recognizer as Entry
from bundle import Tensor as TensorSpec
from training.data.dataset import DataError
from training.embedding.cooccurrence import cooccurrence_vectors
from training.onnx_export.codec import Codes
from training.onnx_export.graphs import GraphSignature, export_graph, session_of
from training.onnx_export.parity import check, prove_recognizer
from training.onnx_export.replace_graph import replace_graph
from training.onnx_export.weight_only_int8 import store_as_int8
from training.recognition.augmented_views import Views
from training.recognition.calibration import (
    Labels,
    Logits,
    fit_temperature,
    negative_log_likelihood,
)
from training.recognition.dataset import CodeSource
from training.recognition.network import Layout, Recognizer, initial_vectors, prepare_for_export
from training.recognition.trainer import Epoch, Recipe, Trained, same_shapes, score, train
from training.tokenizer.progress import bar

# Width of the co-occurrence vectors, and the views of an image that they are learnt from.
_COOCCURRENCE = 64
_COOCCURRENCE_VIEWS = 8


class NameTaken(BundleError):
    """The bundle has a recognizer of that name, and it wasn't asked to be replaced."""


@dataclasses.dataclass(frozen=True)
class TrainedRecognizer:
    """A recognizer ready to be written, and how its training went.

    Attributes:
        network: as exported: calibrated, weights rounded.
        graph: its ONNX file.
        trained: the network before export, and its training.
        temperature: divides its logits.
        calibrated_loss: of the held-out images after that.
        fitted, held_out: images learnt from, and images that decided when to stop.
        seconds: of the training, without encoding.
    """

    network: Recognizer
    graph: bytes
    trained: Trained
    temperature: float
    calibrated_loss: float
    fitted: int
    held_out: int
    seconds: float


def split_by_class(
    labels: Labels, share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices to learn from and indices held out: `share` of each class, at least one of each.

    Raises:
        DataError: a class has fewer than two images.
    """
    random = np.random.default_rng(seed)
    held_out = []
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        if len(members) < 2:
            raise DataError("every class needs two images in train/ at least: one is held out")
        held_out.append(members[: min(len(members) - 1, max(1, round(share * len(members))))])
    chosen = np.sort(np.concatenate(held_out))
    return np.setdiff1d(np.arange(len(labels)), chosen), chosen


def learn(
    codebook: NDArray[np.float32],
    views: Views,
    labels: Labels,
    classes: int,
    stride: int,
    *,
    layout: Layout = Layout(),  # noqa: B008  (immutable)
    recipe: Recipe = Recipe(),  # noqa: B008
    held_out_share: float = 0.15,
    console: Console | None = None,
    device: torch.device = torch.device("cpu"),  # noqa: B008
) -> TrainedRecognizer:
    """Trains, calibrates and exports.

    Args:
        codebook: float32 `[K, d]`.
        views: codes of the training images.
        labels: int64 `[images]`.
        classes: how many there are.
        stride: of the tokenizer.
        layout: of the network.
        recipe: of the training.
        held_out_share: of each class, to stop by and to calibrate with.
        console: to show progress on.
        device: to train on.
    """
    console = console or Console(quiet=True)
    fit, held_out = split_by_class(labels, held_out_share, recipe.seed)
    source = CodeSource(views, labels)
    grids = [
        views.grid(int(i), v) for v in range(min(_COOCCURRENCE_VIEWS, views.count)) for i in fit
    ]
    cooccurrence = cooccurrence_vectors(grids, len(codebook), _COOCCURRENCE)
    torch.manual_seed(recipe.seed)
    network = Recognizer(initial_vectors(torch.from_numpy(codebook), cooccurrence), classes, layout)
    started = time.monotonic()
    with bar(console, "training", recipe.epochs) as progress:

        def on_epoch(epoch: Epoch) -> None:
            progress(epoch.number)
            if epoch.number % 5 == 0 or epoch.number == recipe.epochs:
                console.print(
                    f"epoch {epoch.number}  loss {epoch.training_loss:.3f}  held out: "
                    f"likelihood {epoch.loss:.3f}  top-1 {epoch.accuracy:.3f}",
                    highlight=False,
                )

        trained = train(network, source, fit, held_out, recipe, on_epoch, device)
    seconds = time.monotonic() - started
    best = trained.network
    if not isinstance(best, Recognizer):
        raise TypeError("train returns the kind of network that it was given")
    logits = score(best, source, held_out)
    temperature = fit_temperature(logits, labels[held_out])
    done = prepare_for_export(best, temperature)
    signature = recognizer_signature(classes, stride)
    return TrainedRecognizer(
        network=done,
        graph=store_as_int8(export_graph(done, signature, stride)),
        trained=trained,
        temperature=temperature,
        calibrated_loss=negative_log_likelihood(logits, labels[held_out], temperature),
        fitted=len(fit),
        held_out=len(held_out),
        seconds=seconds,
    )


def recognizer_signature(classes: int, stride: int) -> GraphSignature:
    """Inputs and outputs of a recognizer's graph (`bundle/FORMAT.md`)."""
    rows, columns = f"h/{stride}", f"w/{stride}"
    return GraphSignature(
        TensorSpec("codes", "int64", ("n", rows, columns)),
        TensorSpec("logits", "float32", ("n", classes)),
        TensorSpec("map", "float32", ("n", classes, rows, columns)),
    )


def run_graph(graph: bytes, grids: list[Codes]) -> tuple[Logits, list[NDArray[np.float32]]]:
    """Logits `[len(grids), classes]`, and each grid's map `[classes, rows, columns]`."""
    session = session_of(graph)
    rows: dict[int, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}
    for part in same_shapes([grid.shape for grid in grids]):
        codes = np.stack([grids[i] for i in part])
        logits, maps = session.run(["logits", "map"], {"codes": codes})
        rows.update(zip(part, zip(logits, maps, strict=True), strict=True))
    ordered = [rows[i] for i in range(len(grids))]
    return np.stack([logits for logits, _ in ordered]), [activation for _, activation in ordered]


def write(
    path: Path,
    name: str,
    learnt: TrainedRecognizer,
    grids: list[Codes],
    classes: tuple[str, ...],
    licence: str,
    metrics: dict[str, float | int | str],
    stride: int,
    *,
    replace: bool,
) -> Bundle:
    """Proves the graph on grids and writes it into a bundle; nothing else in it changes.

    Raises:
        NameTaken: it has a recognizer of that name, and `replace` is False.
        ParityError: the graph is not what was trained.
        BundleError: the folder is not a sound bundle.
    """
    graph = f"recognizer-{name}"
    parity = prove_recognizer(learnt.network, session_of(learnt.graph), grids)
    check({graph: {"fp32": parity}})
    entry = Entry(graph, classes, licence, metrics)

    def add(manifest: Manifest) -> Manifest:
        refuse_taken(manifest, name, replace=replace)
        return dataclasses.replace(manifest, recognizers={**manifest.recognizers, name: entry})

    entry_of_graph = recognizer_signature(len(classes), stride).manifest({})
    content, proof = {"fp32": learnt.graph}, {"fp32": parity.to_dict()}
    return replace_graph(path, graph, entry_of_graph, content, proof, add)


def refuse_taken(manifest: Manifest, name: str, *, replace: bool) -> None:
    """Raises `NameTaken` where a recognizer would be replaced without having been asked to."""
    if name in manifest.recognizers and not replace:
        raise NameTaken(
            f"{manifest.name} has a recognizer {name!r}; choose another --name, or give --replace"
        )
