"""`python -m training.embedding_sizes BUNDLE --data DIR --labelled DIR`: short vectors, judged.

A bundle's vectors are projections on principal components, the strongest first, so that their first
numbers, scaled to length 1, are shorter vectors (`dimensions` of the service's `/v1/embeddings`).
Judges each size by the recognition probe, and by finding edited copies of held-out photographs
among all of them. Prints one Markdown table.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor

from bundle import BundleError, open_bundle
from training.data.augmentation import EDITS
from training.data.dataset import DataError
from training.embedding.embedder import apply_to_grids
from training.embedding.retrieval_benchmark import held_out, prepare_benchmark, read_photographs
from training.evaluation.linear_probe import probe, read_labelled
from training.onnx_export.any_size import encode_first_stage
from training.onnx_export.codec import BundleCodec
from training.onnx_export.graphs import run, session_of
from training.options import add_data, add_threads

# Besides the whole vector.
_SIZES = (32, 64, 128)


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line; see `--help`."""
    parser = argparse.ArgumentParser(
        prog="python -m training.embedding_sizes",
        description="Judges a bundle's vectors, and their first 32, 64 and 128 numbers, by the "
        "recognition probe and by finding edited copies; prints a Markdown table.",
    )
    parser.add_argument("bundle", type=Path, help="the bundle's folder, such as models/NAME")
    add_data(parser, "photographs; a tenth of them is edited and looked for")
    parser.add_argument(
        "--labelled", type=Path, required=True, metavar="DIR",
        help="a folder with train/CLASS/ and test/CLASS/, for the recognition probe",
    )  # fmt: skip
    parser.add_argument(
        "--precision", default="fp32", metavar="NAME",
        help="precision of the encoder, as the bundle has it: int8 is faster (default: fp32)",
    )  # fmt: skip
    add_threads(parser)
    return parser.parse_args(arguments)


def shortened(vectors: Tensor, size: int) -> Tensor:
    """The first numbers of some vectors, scaled to length 1: float32 `[n, e]` → `[n, size]`."""
    return F.normalize(vectors[:, :size], dim=1)


def main(arguments: list[str] | None = None) -> int:
    """Parses the command line and measures; 0 if that went well, 2 if it can't be."""
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    if options.threads > 0:
        torch.set_num_threads(options.threads)
    console = Console(stderr=True)
    try:
        bundle = open_bundle(options.bundle)
        session = session_of(
            bundle.read_graph("embedder", "fp32"), weights=bundle.read_weights("embedder")
        )
        paths, photographs = read_photographs(options.data)
        labelled = read_labelled(options.labelled)
        console.print(f"encoding {len(photographs)} photographs and the labelled images")
        codec = BundleCodec(bundle, options.precision)
        benchmark = prepare_benchmark(codec, photographs, held_out(paths))
        train, test = (encode_first_stage(codec, part) for part in (labelled.train, labelled.test))
    except (BundleError, DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    whole = bundle.manifest.embedding_size
    columns = ["numbers", "linear", "5-NN", *EDITS]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for size in [*(size for size in _SIZES if size < whole), whole]:

        def embed(codes: Tensor, size: int = size) -> Tensor:
            return shortened(torch.from_numpy(run(session, codes.numpy())), size)

        result = probe(
            "embedding",
            apply_to_grids(embed, train).numpy(),
            labelled.train_labels,
            apply_to_grids(embed, test).numpy(),
            labelled.test_labels,
        )
        shares = [result.linear, result.nearest, *benchmark.recall(embed).values()]
        print(f"| {size} | {' | '.join(f'{share:.3f}' for share in shares)} |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
