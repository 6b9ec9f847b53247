"""`python -m training.learn_embedder BUNDLE --data DIR`: a better embedder for a bundle.

Learnt without labels from edited copies of photographs, through the bundle's own
encoder; the tokenizer stays as it is. A tenth of the photographs is held out, and how
often their edited copies are found among all is what the run ends with.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from rich.console import Console

from bundle import Bundle, BundleError, BundleExists, Manifest, open_bundle
from training.embedding.contrastive import Recipe
from training.embedding.embedder import apply_to_grids
from training.embedding.learnt_embedder import LearntEmbedder, learn, write
from training.evaluation.linear_probe import Labelled, probe, read_labelled
from training.onnx_export.any_size import encode_first_stage
from training.onnx_export.codec import BundleCodec, Codec
from training.onnx_export.parity import ParityError
from training.onnx_export.provenance import stated_version
from training.onnx_export.target import (
    copy_if_absent,
    describe,
    has_learnt_embedder,
    manifest_of_target,
    next_version,
    refuse_lower_version,
)
from training.options import add_copy, add_data, add_seed, add_threads
from training.tokenizer.config import require_at_least


def recognition(learnt: LearntEmbedder, codec: Codec, labelled: Labelled) -> dict[str, float]:
    """The recognition probe of a learnt embedder, as `training.evaluate` measures it."""
    train, test = (
        apply_to_grids(learnt.embed, encode_first_stage(codec, images)).numpy()
        for images in (labelled.train, labelled.test)
    )
    result = probe("embedding", train, labelled.train_labels, test, labelled.test_labels)
    return {
        "recognition_linear": round(result.linear, 4),
        "recognition_5_nearest": round(result.nearest, 4),
    }


def refuse_silent_loss(out: Path, there: Manifest, version: str) -> None:
    """Refuses what would be lost without having been asked for.

    Args:
        out: the bundle's folder.
        there: its manifest.
        version: that it is to have afterwards.

    Raises:
        BundleExists: its embedder was learnt, or its version would not rise.
    """
    if has_learnt_embedder(there):
        raise BundleExists(
            f"{out} holds {describe(there)}, and the embedder would be lost; choose another "
            "--out, or give --replace"
        )
    refuse_lower_version(there.version, version)


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line; see `--help`."""
    parser = argparse.ArgumentParser(
        prog="python -m training.learn_embedder",
        description="Learns an embedder without labels from edited copies of photographs, and "
        "replaces a bundle's embedder with it. Codes stay valid; vectors of the bundle's "
        "earlier version are not to be compared with the new ones, so its version is raised.",
        epilog="A service that runs already has to load the bundle anew: docs/operations.md, "
        "or start it again with make serve.",
    )
    parser.add_argument("bundle", type=Path, help="the bundle's folder, such as models/NAME")
    add_data(parser, "photographs")
    add_copy(parser)
    parser.add_argument(
        "--replace", action="store_true",
        help="replace an embedder that was learnt too, or give the bundle a lower version",
    )  # fmt: skip
    parser.add_argument(
        "--labelled", type=Path, metavar="DIR",
        help="a folder with train/CLASS/ and test/CLASS/: adds the recognition probe; nothing "
        "is learnt from it",
    )  # fmt: skip
    parser.add_argument(
        "--version", help="the bundle's version afterwards (default: the next number)"
    )
    default = Recipe()
    parser.add_argument(
        "--steps", type=int, default=default.steps, help="training steps (default: %(default)s)"
    )
    add_seed(parser, default.seed)
    parser.add_argument(
        "--copies", type=int, default=16, metavar="N",
        help="edited copies of each photograph (default: 16)",
    )  # fmt: skip
    parser.add_argument(
        "--cache", type=Path, default=Path("runs/copies"), metavar="DIR",
        help="the copies' codes are kept here for the next time (default: runs/copies)",
    )  # fmt: skip
    add_threads(parser)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Parses the command line and learns; 0 if an embedder was written, else 1 or 2."""
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    if options.threads > 0:
        torch.set_num_threads(options.threads)
    recipe = Recipe(steps=options.steps, seed=options.seed)
    try:
        require_at_least(0, seed=options.seed)
        require_at_least(1, steps=options.steps)
        require_at_least(2, copies=options.copies)
        bundle = open_bundle(options.bundle)
        out: Path = options.out or options.bundle
        copied = not out.exists()
        there = manifest_of_target(bundle, out)
        version = stated_version(options.version or next_version(there.version))
        if not options.replace and not copied:
            refuse_silent_loss(out, there, version)
        labelled = read_labelled(options.labelled) if options.labelled else None
        learnt = learn(
            bundle, options.data, recipe=recipe, copies=options.copies, cache=options.cache,
            console=Console(stderr=True),
        )  # fmt: skip
        figures = recognition(learnt, BundleCodec(bundle), labelled) if labelled else {}
        copy_if_absent(bundle, out)
        written = write(out, learnt, version, figures)
    except (BundleError, ParityError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1 if isinstance(error, ParityError) else 2
    if copied:
        print(f"{out}: a copy of {bundle.manifest.name}, named {there.name}")
    _tell(out, there, written, learnt, figures)
    return 0


def _tell(
    out: Path,
    before: Manifest,
    written: Bundle,
    learnt: LearntEmbedder,
    figures: Mapping[str, float],
) -> None:
    shown = "  ".join(f"{edit} {share:.3f}" for edit, share in learnt.recall.items())
    print(f"copies of held-out photographs found among {learnt.searched}: {shown}")
    if figures:
        print("  ".join(f"{name} {value}" for name, value in figures.items()))
    after = written.manifest
    size = after.files["embedder.onnx"].bytes / 1e6
    kind = "learnt" if has_learnt_embedder(before) else "fitted"
    print(
        f"{out}: {after.name}, version {after.version} in place of version {before.version}; "
        f"an embedder of {size:.2f} MB replaces the {kind} one; parity proven"
    )
    print("a running service has to load it anew: send it SIGHUP, or POST /v1/models:reload")


if __name__ == "__main__":
    raise SystemExit(main())
