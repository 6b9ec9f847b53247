"""`python -m training.learn_embedder BUNDLE --data DIR`: a better embedder for a bundle.

LearntEmbedder without labels from edited copies of photographs, through the bundle's own
encoder; the tokenizer stays as it is. A tenth of the photographs is held out, and how
often their edited copies are found among all is what the run ends with.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from rich.console import Console

from bundle import BundleError, open_bundle
from training.embedding.contrastive import Recipe
from training.embedding.embedder import apply_to_grids
from training.embedding.learnt_embedder import LearntEmbedder, learn, next_version, write
from training.evaluation.linear_probe import Labelled, probe, read_labelled
from training.onnx_export.codec import BundleCodec, Codec, encode_images
from training.onnx_export.parity import ParityError
from training.onnx_export.provenance import stated_version
from training.tokenizer.config import require_at_least


def recognition(learnt: LearntEmbedder, codec: Codec, labelled: Labelled) -> dict[str, float]:
    """The recognition probe of a learnt embedder, as `training.evaluate` measures it."""
    train, test = (
        apply_to_grids(learnt.embed, encode_images(codec, images)).numpy()
        for images in (labelled.train, labelled.test)
    )
    result = probe("embedding", train, labelled.train_labels, test, labelled.test_labels)
    return {
        "recognition_linear": round(result.linear, 4),
        "recognition_5_nearest": round(result.nearest, 4),
    }


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line; see `--help`."""
    parser = argparse.ArgumentParser(
        prog="python -m training.learn_embedder",
        description="Learns an embedder without labels from edited copies of photographs, and "
        "puts it in the place of a bundle's own. Codes stay valid; vectors of the bundle's "
        "earlier version are not to be compared with the new ones, so its version is raised.",
    )
    parser.add_argument("bundle", type=Path, help="such as models/NAME")
    parser.add_argument(
        "--data", type=Path, action="append", required=True, metavar="DIR",
        help="photographs, searched at any depth; may be given repeatedly",
    )  # fmt: skip
    parser.add_argument(
        "--labelled", type=Path, metavar="DIR",
        help="a folder with train/CLASS/ and test/CLASS/: adds the recognition probe; nothing "
        "is learnt from it",
    )  # fmt: skip
    parser.add_argument("--version", help="of the bundle afterwards (default: the next number)")
    default = Recipe()
    parser.add_argument("--steps", type=int, default=default.steps, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=default.seed, help="(default: %(default)s)")
    parser.add_argument(
        "--copies", type=int, default=16, metavar="N",
        help="edited copies of each photograph (default: 16)",
    )  # fmt: skip
    parser.add_argument(
        "--cache", type=Path, default=Path("runs/copies"), metavar="DIR",
        help="keeps their codes for the next time (default: runs/copies)",
    )  # fmt: skip
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="processor threads")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Parses the command line and learns; 0 if the bundle was renewed, else 1 or 2."""
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    if options.threads > 0:
        torch.set_num_threads(options.threads)
    recipe = Recipe(steps=options.steps, seed=options.seed)
    try:
        require_at_least(0, seed=options.seed)
        require_at_least(1, steps=options.steps)
        require_at_least(2, copies=options.copies)
        bundle = open_bundle(options.bundle)
        given = options.version or next_version(bundle.manifest.version)
        version = stated_version(given)
        labelled = read_labelled(options.labelled) if options.labelled else None
        learnt = learn(
            bundle, options.data, recipe=recipe, copies=options.copies, cache=options.cache,
            console=Console(stderr=True),
        )  # fmt: skip
        figures = recognition(learnt, BundleCodec(bundle), labelled) if labelled else {}
        written = write(options.bundle, learnt, version, figures)
    except (BundleError, ParityError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1 if isinstance(error, ParityError) else 2
    shown = "  ".join(f"{edit} {share:.3f}" for edit, share in learnt.recall.items())
    print(f"copies of held-out photographs found among {learnt.searched}: {shown}")
    if figures:
        print("  ".join(f"{name} {value}" for name, value in figures.items()))
    size = written.manifest.files["embedder.onnx"].bytes / 1e6
    print(f"{options.bundle}: version {version}, embedder of {size:.2f} MB; parity proven")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
