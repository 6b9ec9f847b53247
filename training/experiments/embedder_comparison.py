"""Candidate embedders held against each other: recognition, and finding edited copies.

`python -m training.compare_embedders` is the command; docs/log.md has what it found.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bundle import open_bundle
from training.data.augmentation import EDITS
from training.data.dataset import DataError, Pixels
from training.embedding.embedder import (
    apply_to_grids,
)
from training.embedding.retrieval_benchmark import (
    RetrievalBenchmark,
    prepare_benchmark,
)
from training.evaluation.linear_probe import Labelled, ProbeResult, probe
from training.onnx_export.any_size import encode_first_stage
from training.onnx_export.codec import CheckpointCodec, Codes
from training.onnx_export.graphs import run, session_of
from training.tokenizer.model import Tokenizer, code_space_of


@dataclass(frozen=True)
class Material:
    """Everything candidates are judged on, encoded once.

    Attributes:
        model: the tokenizer.
        benchmark: photographs, and edited copies of those that nothing is fitted to.
        labelled: images with classes.
        train, test: codes of them.
    """

    model: Tokenizer
    benchmark: RetrievalBenchmark
    labelled: Labelled
    train: list[Codes]
    test: list[Codes]


@dataclass(frozen=True)
class Comparison:
    """A candidate's figures.

    Attributes:
        probe: recognition accuracies.
        recall: for each edit, how often the nearest photograph is the one that was edited.
        seconds: to fit it, without encoding the photographs.
    """

    probe: ProbeResult
    recall: dict[str, float]
    seconds: float


def prepare(
    model: Tokenizer,
    photographs: Sequence[Pixels],
    originals: NDArray[np.int64],
    labelled: Labelled,
) -> Material:
    """Encodes everything.

    Args:
        model: the tokenizer.
        photographs: uint8 `[h, w, 3]`, to fit to and to search among.
        originals: indices of those that are edited and looked for.
        labelled: images with classes, for the probe.
    """
    codec = CheckpointCodec(model)
    return Material(
        model,
        prepare_benchmark(codec, photographs, originals),
        labelled,
        encode_first_stage(codec, labelled.train),
        encode_first_stage(codec, labelled.test),
    )


def compare(
    name: str, fit: Callable[[], Callable[[Tensor], Tensor]], material: Material
) -> Comparison:
    """Fits a candidate and measures it."""
    started = time.monotonic()
    embedder = fit()
    seconds = time.monotonic() - started
    result = probe(
        name,
        apply_to_grids(embedder, material.train).numpy(),
        material.labelled.train_labels,
        apply_to_grids(embedder, material.test).numpy(),
        material.labelled.test_labels,
    )
    return Comparison(result, material.benchmark.recall(embedder), seconds)


def embedder_of_bundle(path: Path, model: Tokenizer) -> Callable[[Tensor], Tensor]:
    """A bundle's embedder, run by ONNX Runtime.

    Raises:
        BundleError: not a sound bundle.
        DataError: its codes mean something else than the model's.
    """
    bundle = open_bundle(path)
    if bundle.manifest.code_space != code_space_of(model):
        raise DataError(f"{path} is of another code space than the checkpoint")
    session = session_of(
        bundle.read_graph("embedder", "fp32"), weights=bundle.read_weights("embedder")
    )
    return lambda codes: torch.from_numpy(run(session, codes.numpy()))


def table_head() -> str:
    """The first two lines of the Markdown table."""
    names = ["embedder", "numbers", "linear", "5-NN", *EDITS, "fit, s"]
    return f"| {' | '.join(names)} |\n|{'---|' * len(names)}"


def table_row(row: Comparison) -> str:
    """A candidate's line of the Markdown table."""
    p = row.probe
    cells = [p.representation, str(p.size), f"{p.linear:.3f}", f"{p.nearest:.3f}"]
    cells += [f"{share:.3f}" for share in row.recall.values()]
    return f"| {' | '.join([*cells, f'{row.seconds:.0f}'])} |"


def table(
    fits: Mapping[str, Callable[[], Callable[[Tensor], Tensor]]], material: Material
) -> Iterator[str]:
    """Lines of the Markdown table, each as soon as its candidate is judged."""
    yield table_head()
    for name, fit in fits.items():
        yield table_row(compare(name, fit, material))
