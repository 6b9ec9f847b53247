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
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor

from bundle import BundleError
from training.data.dataset import DataError
from training.embedding.retrieval_benchmark import (
    held_out,
    read_photographs,
)
from training.evaluation.linear_probe import read_labelled
from training.experiments.embedder_candidates import candidates
from training.experiments.embedder_comparison import embedder_of_bundle, prepare, table
from training.onnx_export.codec import tokenizer_of
from training.options import add_data, add_threads
from training.tokenizer.checkpoint import CheckpointError, load_checkpoint


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line; see `--help`."""
    parser = argparse.ArgumentParser(
        prog="python -m training.compare_embedders",
        description="Fits every candidate embedder to photographs and judges it by the "
        "recognition probe and by finding edited copies; prints a Markdown table.",
    )
    parser.add_argument(
        "checkpoint", type=Path, help="the checkpoint of a training run, such as runs/NAME/last.pt"
    )
    add_data(parser, "training photographs")
    parser.add_argument(
        "--labelled", type=Path, required=True, metavar="DIR",
        help="a folder with train/CLASS/ and test/CLASS/, for the recognition probe",
    )  # fmt: skip
    parser.add_argument(
        "--bundle", type=Path, action="append", default=[], metavar="DIR",
        help="also judge the embedder of this bundle of the same code space; "
        "training.learn_embedder holds out the same photographs; may be given several times",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="also write the table to this file"
    )
    add_threads(parser)
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
