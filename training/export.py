"""`python -m training.export CHECKPOINT --data DIR --out models/NAME`: a checkpoint as a bundle.

Makes the four graphs in every precision, proves on real photographs that they
do what the trained network does, and only then writes the bundle.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bundle import Bundle, BundleError, Graph, Manifest, write_bundle
from bundle.manifest import CODEBOOK_FILE
from training.data.dataset import (
    DataError,
    Folder,
    Pixels,
    decoded,
    find_images,
    reduced,
    tell_broken,
)
from training.embedding.embedder import FIT_SIDE, fit_embedder
from training.onnx_export.codec import tokenizer_of
from training.onnx_export.exporter import make_graphs
from training.onnx_export.graphs import (
    graph_signatures,
)
from training.onnx_export.model_card import model_card
from training.onnx_export.parity import ParityError
from training.onnx_export.provenance import (
    git_commit,
    read_data_description,
    read_metrics,
    stated_version,
)
from training.onnx_export.replace_graph import MODEL_CARD_FILE, graph_file
from training.tokenizer.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from training.tokenizer.model import code_space_of

_EMBEDDER_IMAGES = 2000
# Read as they are; the others are for the embedder's statistics, which need them no larger.
_WHOLE_IMAGES = 64


def export(
    checkpoint: Checkpoint,
    images: list[Pixels],
    out: Path,
    *,
    version: str = "1",
    data: tuple[Mapping[str, Any], ...] = (),
    metrics: Mapping[str, Any] | None = None,
) -> Bundle:
    """Writes the bundle of a checkpoint's averaged weights.

    Args:
        checkpoint: of a run with a quantizer.
        images: uint8 `[h, w, 3]`: for calibration, the proof and the embedder's statistics.
        out: folder of the bundle; an older bundle there is replaced.
        version: of the model, in the manifest.
        data: what it was trained on, each with at least `name` and `licence`.
        metrics: of `python -m training.evaluate`, copied into manifest and card.

    Raises:
        ParityError: a graph is outside its budget; nothing was written.
        CheckpointError: the checkpoint is of a plain autoencoder, which has no codes, or its
            weights don't fit its configuration.
        BundleError: the target can't be written.
    """
    config = checkpoint.config
    model = tokenizer_of(checkpoint)
    stride = config.network.stride
    embedder = fit_embedder(model, images)
    with torch.no_grad():
        embedding_size = embedder(torch.zeros(1, 1, 1, dtype=torch.int64)).shape[1]
    made = make_graphs(model, embedder, embedding_size, images)
    codebook = model.quantizer.normalized_codebook().detach().numpy().astype("<f4")
    shapes = graph_signatures(model, embedding_size)
    files = {
        graph_file(name, precision): graph
        for name, precisions in made.graphs.items()
        for precision, graph in precisions.items()
    }
    entries: dict[str, Graph] = {
        name: shapes[name].manifest({p: graph_file(name, p) for p in precisions})
        for name, precisions in made.graphs.items()
    }
    manifest = Manifest(
        name=config.name,
        version=version,
        code_space=code_space_of(model),
        stride=stride,
        codebook_size=config.quantizer.size,
        codebook_width=config.quantizer.width,
        embedding_size=embedding_size,
        graphs=entries,
        files={},
        data=data,
        training={
            "configuration": config.to_dict(),
            "git_commit": git_commit(),
            "steps": checkpoint.step,
            "torch": torch.__version__,
            **checkpoint.facts,
        },
        metrics=metrics or {},
        parity={
            name: {precision: parity.to_dict() for precision, parity in precisions.items()}
            for name, precisions in made.parity.items()
        },
    )
    files[CODEBOOK_FILE] = _npy(codebook)
    files[MODEL_CARD_FILE] = model_card(manifest).encode()
    return write_bundle(out, manifest, files)


def sample(folder: Folder) -> list[Pixels]:
    """An even choice of a folder's images, in random order that is always the same.

    The first 64 are whole; the others are reduced to the size at which embedders are
    fitted, so that photographs of any size fit into memory. Unreadable ones are named and
    passed over.

    Raises:
        DataError: none can be decoded.
    """
    # Every k-th: a folder is often sorted by source, and all sources should be in.
    paths = folder.paths[:: max(1, len(folder.paths) // _EMBEDDER_IMAGES)]
    order = np.random.default_rng(0).permutation(len(paths))[:_EMBEDDER_IMAGES]
    broken = list(folder.broken)
    images: list[Pixels] = []
    for _, image in decoded((paths[i] for i in order), broken):
        images.append(image if len(images) < _WHOLE_IMAGES else reduced(image, FIT_SIDE))
    tell_broken(broken, partial(print, file=sys.stderr))
    if not images:
        raise DataError("not one image could be decoded")
    return images


def _npy(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line; see `--help`."""
    parser = argparse.ArgumentParser(
        prog="python -m training.export",
        description="Writes a checkpoint as a bundle that the service serves: four graphs in "
        "fp32, fp16 and int8, a manifest and a model card. Before that, each graph must agree "
        "with the trained network on real photographs; if one doesn't, nothing is written.",
    )
    parser.add_argument("checkpoint", type=Path, help="such as runs/NAME/last.pt")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="models/NAME")
    parser.add_argument(
        "--data",
        type=Path,
        action="append",
        required=True,
        metavar="DIR",
        help="images like those it was trained on: for calibration, the proof and the "
        "embedder's statistics; may be given several times",
    )
    parser.add_argument("--version", default="1", help="of the model (default: 1)")
    parser.add_argument(
        "--describe",
        type=Path,
        metavar="FILE",
        help="TOML with a [[data]] table (name, licence, …) for each source of training images",
    )
    parser.add_argument(
        "--metrics",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="a metrics.json of python -m training.evaluate, recorded under that name, such as "
        "kodak=runs/evaluation/metrics.json; may be given several times",
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Parses the command line and exports; 0 if a bundle was written, else 1 or 2."""
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    try:
        checkpoint = load_checkpoint(options.checkpoint)
        version = stated_version(options.version)
        bundle = export(
            checkpoint,
            sample(find_images(options.data)),
            options.out,
            version=version,
            data=read_data_description(options.describe) if options.describe else (),
            metrics=dict(read_metrics(argument) for argument in options.metrics),
        )
    except (CheckpointError, DataError, BundleError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1 if isinstance(error, ParityError) else 2
    size = sum(file.bytes for file in bundle.manifest.files.values()) / 2**20
    print(f"{options.out}: {bundle.manifest.name}, code space {bundle.manifest.code_space[:12]}…")
    for graph, precisions in bundle.manifest.parity.items():
        for precision, figures in precisions.items():
            shown = "  ".join(f"{name} {value}" for name, value in figures.items())
            print(f"  {graph} {precision}: {shown}")
    print(f"{len(bundle.manifest.files)} files, {size:.1f} MiB; parity proven")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
