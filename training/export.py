"""`python -m training.export CHECKPOINT --data DIR --out models/NAME`: a checkpoint as a bundle.

Makes the four graphs in every precision, proves on real photographs that they
do what the trained network does, and only then writes the bundle.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bundle import Bundle, BundleError, open_bundle, write_bundle
from bundle.manifest import PRECISIONS
from training.data.dataset import (
    DataError,
    Folder,
    Pixels,
    decoded,
    find_images,
    reduced,
    report_broken,
)
from training.embedding.embedder import FIT_SIDE, fit_embedder
from training.onnx_export.bundle_contents import bundle_contents
from training.onnx_export.code_space import kept_code_space
from training.onnx_export.codec import tokenizer_of
from training.onnx_export.exporter import make_graphs
from training.onnx_export.parity import ParityError
from training.onnx_export.provenance import (
    read_data_description,
    read_metrics,
    stated_version,
)
from training.onnx_export.target import refuse_to_replace, version_of_new
from training.options import add_data
from training.tokenizer.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from training.tokenizer.model import Tokenizer, code_space_of

_EMBEDDER_IMAGES = 2000
# Read as they are; the others are for the embedder's statistics, which need them no larger.
_WHOLE_IMAGES = 64
# That the rule for keeping a code space is measured on.
_CODE_SPACE_IMAGES = 24


def export(
    checkpoint: Checkpoint,
    images: list[Pixels],
    out: Path,
    *,
    version: str | None = None,
    precisions: Collection[str] = PRECISIONS,
    replace: bool = False,
    earlier: Bundle | None = None,
    data: tuple[Mapping[str, Any], ...] = (),
    metrics: Mapping[str, Any] | None = None,
    model: Tokenizer | None = None,
) -> Bundle:
    """Writes the bundle of a checkpoint's averaged weights.

    Args:
        checkpoint: of a run with a quantizer.
        images: uint8 `[h, w, 3]`: for calibration, the proof and the embedder's statistics.
        out: folder of the bundle.
        version: of the model, in the manifest; None: 1, or the number after that of the bundle
            of the same name that is replaced.
        precisions: of encoder and decoder. Those that fail the proof are left out, which the
            manifest's `parity` says; fp32 is always there.
        replace: whether a bundle that is there may be replaced.
        earlier: a bundle whose code space is to be kept although the decoder is another.
        data: what it was trained on, each with at least `name` and `licence`.
        metrics: of `python -m training.evaluate`, copied into manifest and card.
        model: the tokenizer with the checkpoint's averaged weights, where parts of it are other
            networks than the configuration describes.

    Raises:
        ParityError: an fp32 graph is outside its budget; nothing was written.
        CheckpointError: the checkpoint is of a plain autoencoder, which has no codes, or its
            weights don't fit its configuration.
        BundleError: there is a bundle that isn't to be replaced, the earlier code space can't be
            kept, or the target can't be written.
        DataError: the version of the bundle that is replaced is no number.
    """
    config = checkpoint.config
    if not config.quantizer.stages:
        raise CheckpointError(
            "a plain autoencoder (quantizer.kind = none) has no codes, so there is nothing to "
            "serve; it can be evaluated, but not exported"
        )
    refuse_to_replace(out, replace=replace)
    version = version_of_new(out, config.name, version)
    model = tokenizer_of(checkpoint) if model is None else model
    embedder = fit_embedder(model, images)
    with torch.no_grad():
        embedding_size = embedder(torch.zeros(1, 1, 1, dtype=torch.int64)).shape[1]
    _, *decoders = config.decoders_at(checkpoint.step)
    made = make_graphs(model, embedder, embedding_size, images, precisions, decoders)
    code_space, kept = code_space_of(model), None
    if earlier is not None and code_space != earlier.manifest.code_space:
        kept = kept_code_space(earlier, made.network, images[:_CODE_SPACE_IMAGES])
        code_space = earlier.manifest.code_space
    manifest, files = bundle_contents(
        checkpoint,
        model,
        made,
        version=version,
        code_space=code_space,
        embedding_size=embedding_size,
        data=data,
        metrics=metrics or {},
        kept=kept,
    )
    return write_bundle(out, manifest, files)


def sample(folder: Folder) -> list[Pixels]:
    """An even choice of a folder's images, in random order that is always the same.

    The first 64 are whole; the others are reduced to the size at which embedders are
    fitted, so that photographs of any size fit into memory. Unreadable ones are named and
    skipped.

    Raises:
        DataError: none can be decoded.
    """
    # Every k-th: a folder is often sorted by source, and all sources should be in.
    paths = folder.paths[:: max(1, len(folder.paths) // _EMBEDDER_IMAGES)]
    order = np.random.default_rng(0).permutation(len(paths))[:_EMBEDDER_IMAGES]
    broken = list(folder.broken)
    images: list[Pixels] = []
    for _, image in decoded((paths[i] for i in order), broken, folder.read):
        images.append(image if len(images) < _WHOLE_IMAGES else reduced(image, FIT_SIDE))
    report_broken(broken, partial(print, file=sys.stderr))
    if not images:
        raise DataError("not one image could be decoded")
    return images


def steps_seen(checkpoint: Checkpoint) -> str:
    """How much of its run a checkpoint has seen, in words, and which decoders it has not begun."""
    done, planned = checkpoint.step, checkpoint.config.steps
    if done >= planned:
        return f"after all {done} steps of its run"
    begun = checkpoint.config.decoders_at(done)
    waiting = [name for name in checkpoint.config.other_decoders if name not in begun]
    without = f"; not begun, and left out: the decoder {', '.join(waiting)}" if waiting else ""
    return (
        f"after {done} of the {planned} steps of its run ({done / planned:.0%}): it is not "
        f"trained to the end; the same training command goes on{without}"
    )


def _precisions(text: str) -> tuple[str, ...]:
    """`--precisions`, in the order in which they are made.

    Raises:
        ValueError: an unknown one, or no fp32.
    """
    names = text.split(",")
    if not set(names) <= set(PRECISIONS) or "fp32" not in names:
        raise ValueError(
            f"--precisions takes fp32 and any of {', '.join(PRECISIONS[1:])}, separated by commas, "
            f"not {text!r}"
        )
    return tuple(p for p in PRECISIONS if p in names)


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line; see `--help`."""
    parser = argparse.ArgumentParser(
        prog="python -m training.export",
        description="Writes a checkpoint as a bundle that the service serves: four graphs, a "
        "manifest and a model card. Before that, each graph must agree with the trained network "
        "on real photographs. A lower precision that doesn't is left out and named; if fp32 "
        "doesn't, nothing is written.",
        epilog="Then serve it: TESSERA_DEFAULT_MODEL=NAME make serve",
    )
    parser.add_argument(
        "checkpoint", type=Path, help="the checkpoint of a training run, such as runs/NAME/last.pt"
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="the bundle's folder, such as models/NAME, where the service finds it",
    )
    add_data(
        parser,
        "images like the training ones, for calibration, the proof and the embedder's statistics",
    )
    parser.add_argument(
        "--replace",
        action="store_true",
        help="replace the bundle that is in the folder, with its learnt embedder and recognizers",
    )
    parser.add_argument(
        "--version",
        help="the model's version (default: 1, or the number after that of the bundle which is "
        "replaced)",
    )
    parser.add_argument(
        "--precisions",
        default=",".join(PRECISIONS),
        metavar="LIST",
        help="the precisions of encoder and decoder, fp32 among them (default: %(default)s)",
    )
    parser.add_argument(
        "--code-space-of",
        type=Path,
        metavar="DIR",
        help="keep the code space of this bundle, so that its codes stay valid: for a model with "
        "the same encoder and codebooks and a decoder that is no worse, which is measured",
    )
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
        # All that can be refused is refused before images are read.
        checkpoint = load_checkpoint(options.checkpoint)
        stated = stated_version(options.version) if options.version is not None else None
        precisions = _precisions(options.precisions)
        replaced = refuse_to_replace(options.out, replace=options.replace)
        earlier = open_bundle(options.code_space_of) if options.code_space_of else None
        data = read_data_description(options.describe) if options.describe else ()
        metrics = dict(read_metrics(argument) for argument in options.metrics)
        print(f"{options.checkpoint}: {steps_seen(checkpoint)}")
        bundle = export(
            checkpoint,
            sample(find_images(options.data, checkpoint.config.data.samples)),
            options.out,
            version=stated,
            precisions=precisions,
            replace=options.replace,
            earlier=earlier,
            data=data,
            metrics=metrics,
        )
    except (CheckpointError, DataError, BundleError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1 if isinstance(error, ParityError) else 2
    _tell(options.out, bundle, replaced)
    return 0


def _tell(out: Path, bundle: Bundle, replaced: str | None) -> None:
    """What was written, what of it failed, and what it replaced."""
    manifest = bundle.manifest
    if replaced is not None:
        print(f"{out}: replaced {replaced}")
    print(f"{out}: {manifest.name}, version {manifest.version}, "
          f"code space {manifest.code_space[:12]}…")  # fmt: skip
    for graph, precisions in manifest.parity.items():
        for precision, figures in precisions.items():
            shown = "  ".join(f"{k} {v}" for k, v in figures.items() if k != "failed")
            print(f"  {graph} {precision}: {shown}")
    for graph, precisions in manifest.parity.items():
        for precision in precisions:
            if reason := manifest.reason_left_out(graph, precision):
                print(f"left out: {graph} in {precision} ({reason})")
    size = sum(file.bytes for file in manifest.files.values()) / 2**20
    print(f"{len(manifest.files)} files, {size:.1f} MiB; parity proven")


if __name__ == "__main__":
    raise SystemExit(main())
