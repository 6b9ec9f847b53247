"""`python -m training.compare_embedders CHECKPOINT --data DIR --labelled DIR`: which embedder?

Every candidate is fitted to the same photographs without labels and judged by the
recognition probe and by finding edited copies among all photographs, of photographs
that nothing was fitted to. Prints one Markdown table (docs/log.md). A candidate that takes
training, of `python -m training.learn_embedder`, is judged in its bundle.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from bundle import BundleError, open_bundle
from training.data.augmentation import EDITS
from training.data.dataset import DataError, Pixels
from training.embedding.cooccurrence import context_vectors, context_words
from training.embedding.embedder import (
    Embedder,
    Whitening,
    apply_to_grids,
    embedder_of_grids,
    fit_projection,
)
from training.embedding.grid_features import (
    BagOfCodes,
    Concatenated,
    DecoderFeatures,
    NeighbourCovariances,
    PooledVectors,
    patch_words,
)
from training.embedding.retrieval_benchmark import (
    Search,
    held_out,
    prepare_search,
    read_photographs,
)
from training.evaluation.linear_probe import Labelled, ProbeResult, probe, read_labelled
from training.onnx_export.codec import CheckpointCodec, Codes, encode_images, tokenizer_of
from training.onnx_export.graphs import run, session_of
from training.tokenizer.checkpoint import CheckpointError, load_checkpoint
from training.tokenizer.model import Tokenizer, code_space_of


@dataclass(frozen=True)
class Material:
    """Everything candidates are judged on, encoded once.

    Attributes:
        model: the tokenizer.
        search: photographs, and edited copies of those that nothing is fitted to.
        labelled: images with classes.
        train, test: codes of them.
    """

    model: Tokenizer
    search: Search
    labelled: Labelled
    train: list[Codes]
    test: list[Codes]


@dataclass(frozen=True)
class Comparison:
    """A candidate's figures.

    Attributes:
        probe: recognition accuracies.
        copies: for each edit, how often the nearest photograph is the one that was edited.
        seconds: to fit it, encoding aside.
    """

    probe: ProbeResult
    copies: dict[str, float]
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
        prepare_search(codec, photographs, originals),
        labelled,
        encode_images(codec, labelled.train),
        encode_images(codec, labelled.test),
    )


def candidates(material: Material) -> dict[str, Callable[[], Embedder]]:
    """Every candidate's name, and how it is fitted."""
    model, grids = material.model, material.search.others
    codebook = model.quantizer.normalized_codebook().detach()
    size = len(codebook)
    contexts = context_vectors(grids, size, width=64)
    words = context_words(contexts, 128)
    partly, plain, fully = Whitening(256), Whitening(256, 0.0), Whitening(256, 1.0)

    def rarity() -> torch.Tensor:
        found = sum(torch.bincount(torch.from_numpy(np.unique(g)), minlength=size) for g in grids)
        return (len(grids) / (1 + torch.as_tensor(found))).log().clamp_min(0)

    def mirrored_words() -> PooledVectors:
        return PooledVectors(words, mirrored=True, root=True)

    def fitted(
        make: Callable[[], torch.nn.Module], whitening: Whitening = partly
    ) -> Callable[[], Embedder]:
        return lambda: fit_projection(make(), grids, whitening)

    return {
        "bag of codes, idf": fitted(lambda: BagOfCodes(rarity())),
        "code vectors, mean + deviation": fitted(lambda: PooledVectors(codebook, (1,), (1,))),
        "code vectors, mean + deviation, 4×4; PCA": fitted(
            lambda: PooledVectors(codebook, (4,), (4,)), plain
        ),
        "code vectors, mean + deviation, 4×4": fitted(lambda: PooledVectors(codebook, (4,), (4,))),
        "neighbour covariances": fitted(lambda: NeighbourCovariances(codebook)),
        "decoder, first 2 blocks, 1 + 2×2": fitted(lambda: DecoderFeatures(model, 4)),
        "words of 3×3 codes, 1 + 2×2": fitted(lambda: patch_words(codebook, grids, 512)),
        "context vectors, 1 + 2×2 + 4×4": fitted(lambda: PooledVectors(contexts)),
        "context vectors, mirrored": fitted(lambda: PooledVectors(contexts, mirrored=True)),
        "context words, 1 + 2×2 + 4×4": fitted(lambda: PooledVectors(words, root=True)),
        "context words, mirrored (of export)": lambda: embedder_of_grids(model, grids),
        "context words, mirrored; PCA": fitted(mirrored_words, plain),
        "context words, mirrored; whitened": fitted(mirrored_words, fully),
        "context words, mirrored; 512 wide": fitted(mirrored_words, Whitening(512)),
        "context words and code vectors, mirrored": fitted(
            lambda: Concatenated(
                mirrored_words(), PooledVectors(codebook, (4,), (4,), mirrored=True)
            )
        ),
    }


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
    return Comparison(result, material.search.found(embedder), seconds)


def embedder_of_bundle(path: Path, model: Tokenizer) -> Callable[[Tensor], Tensor]:
    """A bundle's embedder, run by ONNX Runtime.

    Raises:
        BundleError: not a sound bundle.
        DataError: its codes mean something else than the model's.
    """
    bundle = open_bundle(path)
    if bundle.manifest.code_space != code_space_of(model):
        raise DataError(f"{path} is of another code space than the checkpoint")
    session = session_of(bundle.read_graph("embedder", "fp32"))
    return lambda codes: torch.from_numpy(run(session, codes.numpy()))


def table_head() -> str:
    """The first two lines of the Markdown table."""
    names = ["embedder", "numbers", "linear", "5-NN", *EDITS, "fit, s"]
    return f"| {' | '.join(names)} |\n|{'---|' * len(names)}"


def table_row(row: Comparison) -> str:
    """A candidate's line of the Markdown table."""
    p = row.probe
    cells = [p.representation, str(p.size), f"{p.linear:.3f}", f"{p.nearest:.3f}"]
    cells += [f"{share:.3f}" for share in row.copies.values()]
    return f"| {' | '.join([*cells, f'{row.seconds:.0f}'])} |"


def table(
    fits: Mapping[str, Callable[[], Callable[[Tensor], Tensor]]], material: Material
) -> Iterator[str]:
    """Lines of the Markdown table, each as soon as its candidate is judged."""
    yield table_head()
    for name, fit in fits.items():
        yield table_row(compare(name, fit, material))


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line; see `--help`."""
    parser = argparse.ArgumentParser(
        prog="python -m training.compare_embedders",
        description="Fits every candidate embedder to photographs and judges it by the "
        "recognition probe and by finding edited copies; prints a Markdown table.",
    )
    parser.add_argument("checkpoint", type=Path, help="such as runs/NAME/last.pt")
    parser.add_argument(
        "--data", type=Path, action="append", required=True, metavar="DIR",
        help="training photographs; may be given repeatedly",
    )  # fmt: skip
    parser.add_argument(
        "--labelled", type=Path, required=True, metavar="DIR",
        help="a folder with train/CLASS/ and test/CLASS/",
    )  # fmt: skip
    parser.add_argument(
        "--bundle", type=Path, action="append", default=[], metavar="DIR",
        help="judges the embedder of a bundle of the same code space too, as it is; python -m "
        "training.learn_embedder holds out the same photographs; may be given repeatedly",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the table here too")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="processor threads")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Parses the command line and compares; 0 if that went well, 2 if it can't be."""
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    if options.threads > 0:
        torch.set_num_threads(options.threads)
    console = Console(stderr=True)
    try:
        model = tokenizer_of(load_checkpoint(options.checkpoint))
        paths, photographs = read_photographs(options.data)
        labelled = read_labelled(options.labelled)
        bundles = {path: embedder_of_bundle(path, model) for path in options.bundle}
        console.print(f"encoding {len(photographs)} photographs and the labelled images")
        material = prepare(model, photographs, held_out(paths), labelled)
        fits: dict[str, Callable[[], Callable[[Tensor], Tensor]]] = {**candidates(material)}
        for path, embedder in bundles.items():
            fits[f"of {path}"] = partial(lambda made: made, embedder)
        # Opened before the long part: its table should have a place to go.
        file = options.out.open("w", encoding="utf-8") if options.out else None
        with file or contextlib.nullcontext():
            for line in table(fits, material):
                print(line, flush=True)
                if file is not None:
                    print(line, file=file, flush=True)
    except (BundleError, CheckpointError, DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
