"""`python -m training.recognize BUNDLE --data DIR`: a recognizer for a bundle's codes.

From labelled images, one folder for each class, to a graph in the bundle that names what
a grid of codes shows, and where. The tokenizer stays as it is.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from bundle import Bundle, BundleError, open_bundle
from bundle.manifest import NAME
from training.data.dataset import DataError, reduced
from training.evaluation.linear_probe import Labelled
from training.onnx_export.any_size import encode_first_stage
from training.onnx_export.codec import BundleCodec, code_vectors
from training.onnx_export.parity import ParityError
from training.onnx_export.target import copy_if_absent, manifest_of_target
from training.options import add_copy, add_device, add_seed
from training.recognition.augmented_views import Views, encode_views
from training.recognition.baselines import Setting, compare
from training.recognition.bundle import (
    learn,
    refuse_taken,
    run_graph,
    split_by_class,
    write,
)
from training.recognition.labelled_images import is_split, read_labelled_images
from training.recognition.metrics import classify
from training.recognition.network import Layout
from training.recognition.report import (
    Baseline,
    Report,
    examples,
    facts,
    figures_for_manifest,
    to_markdown,
)
from training.recognition.report_html import to_html
from training.recognition.trainer import Recipe
from training.tokenizer.config import require_at_least
from training.tokenizer.distributed import choose_context
from training.tokenizer.progress import bar

_PARITY_IMAGES = 24
# Lines for people and programs: neither coloured nor cut.
_PLAIN: dict[str, Any] = {"highlight": False, "soft_wrap": True}


def recognize(options: argparse.Namespace, console: Console) -> None:
    """What the command does; see `parse_arguments` for the options.

    Raises:
        ConfigError, DataError, BundleError, ParityError: nothing was written into the bundle.
    """
    name: str = options.name
    require_at_least(1, epochs=options.epochs, views=options.views, side=options.side)
    require_at_least(0, seed=options.seed)
    if not 0 <= options.held_out < 1:
        raise DataError(f"--held-out must be in [0, 1), not {options.held_out}")
    if not NAME.fullmatch(name):
        raise DataError(f"a name must match {NAME.pattern}, and {name!r} doesn't; give --name")
    if not 0 < options.test_share < 1:
        raise DataError(f"--test-share must be in (0, 1), not {options.test_share}")
    bundle = open_bundle(options.bundle)
    out: Path = options.out or options.bundle
    copied = not out.exists()
    before = manifest_of_target(bundle, out)
    refuse_taken(before, name, replace=options.replace)
    labelled = read_labelled_images(options.data, options.test_share)
    if not is_split(options.data):
        console.print(
            f"{options.data} has no train/ and test/: {len(labelled.test)} of "
            f"{len(labelled.train) + len(labelled.test)} images, chosen by their names, are only "
            "tested on",
            **_PLAIN,
        )
    labelled = dataclasses.replace(
        labelled,
        train=[reduced(image, options.side) for image in labelled.train],
        test=[reduced(image, options.side) for image in labelled.test],
    )
    recipe = Recipe(epochs=options.epochs, seed=options.seed, bf16=options.bf16)
    layout = Layout()
    device = choose_context(options.device).device
    codec = BundleCodec(bundle)
    views = _views(bundle, codec, labelled, options, console)
    learnt = learn(
        code_vectors(bundle),
        views,
        labelled.train_labels,
        len(labelled.classes),
        codec.stride,
        layout=layout,
        recipe=recipe,
        held_out_share=options.held_out,
        console=console,
        device=device,
    )
    grids = encode_first_stage(codec, labelled.test)
    logits, maps = run_graph(learnt.graph, grids)
    figures = classify(logits, labelled.test_labels, labelled.classes, learnt.temperature)
    baselines: list[Baseline] = []
    if options.compare:
        fit, held_out = split_by_class(labelled.train_labels, options.held_out, recipe.seed)
        setting = Setting(fit, held_out, layout, recipe, recipe.seed, device)
        console.print("the same network on pixels and on reconstructions, and features")
        baselines = compare(labelled, codec, views, setting)
    own = Baseline(
        f"codes, {name}", figures.top1, float(np.mean([g.size for g in grids])) * codec.bits / 8
    )
    report = Report(
        bundle.manifest.name,
        name,
        figures,
        facts(learnt, views, options.licence),
        examples(list(labelled.test), labelled, logits, maps),
        [own, *baselines] if baselines else [],
    )
    folder: Path = options.report or Path("runs") / "recognition" / name
    metrics = figures_for_manifest(figures, learnt, baselines)
    copy_if_absent(bundle, out)
    write(
        out, name, learnt, grids[:: max(1, len(grids) // _PARITY_IMAGES)],
        labelled.classes, options.licence, metrics, codec.stride, replace=options.replace,
    )  # fmt: skip
    _write_report(folder, report, metrics)
    if copied:
        console.print(f"{out}: a copy of {bundle.manifest.name}, named {before.name}", **_PLAIN)
    if name in before.recognizers:
        console.print(f"{out}: replaced the recognizer {name} that was there", **_PLAIN)
    console.print(
        f"{out}: recognizer {name}, top-1 {figures.top1:.3f}, top-5 {figures.top5:.3f}, "
        f"calibration error {figures.error:.3f}; {len(learnt.graph) / 2**20:.2f} MiB; "
        f"report in {folder}",
        **_PLAIN,
    )
    console.print(
        "a running service has to load it anew: send it SIGHUP, or POST /v1/models:reload",
        **_PLAIN,
    )


def _views(
    bundle: Bundle,
    codec: BundleCodec,
    labelled: Labelled,
    options: argparse.Namespace,
    console: Console,
) -> Views:
    int8 = "int8" in bundle.precisions("encoder")
    edited = BundleCodec(bundle, "int8") if int8 else codec
    with bar(console, "encoding views", options.views) as on_progress:
        return encode_views(
            codec,
            edited,
            labelled.train,
            options.views,
            seed=options.seed,
            cache=options.cache,
            on_progress=on_progress,
        )


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line; see `--help`."""
    parser = argparse.ArgumentParser(
        prog="python -m training.recognize",
        description="Trains a recognizer on a bundle's codes of labelled images, proves its "
        "graph, and writes it into the bundle, whose other files and code space stay as they are.",
    )
    parser.add_argument("bundle", type=Path, help="the bundle's folder, such as models/photo-f8")
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR",
        help="labelled images: train/CLASS/ and test/CLASS/, or one folder for each class, of "
        "which --test-share is taken for testing; test images are only tested on",
    )  # fmt: skip
    parser.add_argument(
        "--name", help="the recognizer's name (default: the name of --data's folder)"
    )
    parser.add_argument(
        "--licence", default="not stated", metavar="TEXT",
        help="the images' licence; goes into manifest and model card",
    )  # fmt: skip
    add_copy(parser)
    parser.add_argument(
        "--replace", action="store_true", help="replace a recognizer of the same name"
    )
    parser.add_argument(
        "--report", type=Path, metavar="DIR",
        help="folder for figures and pages (default: runs/recognition/NAME)",
    )  # fmt: skip
    parser.add_argument(
        "--compare", action="store_true",
        help="also train the same network on pixels and on reconstructions, and classify by "
        "classical features, for comparison: takes several times as long",
    )  # fmt: skip
    parser.add_argument(
        "--epochs", type=int, default=Recipe.epochs,
        help="epochs of training at most (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--views", type=int, default=40, help="encoded views of each image (default: 40)"
    )
    parser.add_argument(
        "--held-out", type=float, default=0.15, metavar="SHARE",
        help="share of the training images that decides when to stop, and the temperature "
        "(default: 0.15)",
    )  # fmt: skip
    parser.add_argument(
        "--test-share", type=float, default=0.2, metavar="SHARE",
        help="share of each class that is tested on, where --data has no test/ (default: 0.2)",
    )  # fmt: skip
    parser.add_argument(
        "--side", type=int, default=256, metavar="PIXELS",
        help="larger images are reduced to this short side (default: 256)",
    )  # fmt: skip
    add_seed(parser)
    parser.add_argument(
        "--cache", type=Path, default=Path("runs/recognition/codes"), metavar="DIR",
        help="codes of the views are kept here (default: runs/recognition/codes)",
    )  # fmt: skip
    add_device(parser)
    parser.add_argument(
        "--no-bf16", dest="bf16", action="store_false",
        help="compute convolutions in float32, for processors that are slow in bfloat16",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    options.name = options.name or options.data.resolve().name.lower()
    return options


def main(arguments: list[str] | None = None) -> int:
    """Parses the command line and does it; 0 if a recognizer was written, else 1 or 2."""
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    try:
        recognize(options, Console())
    except (DataError, BundleError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1 if isinstance(error, ParityError) else 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())


def _write_report(folder: Path, report: Report, metrics: dict[str, float | int | str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    values = {
        "model": report.model,
        "recognizer": report.name,
        "metrics": metrics,
        "figures": report.figures.to_dict(),
        "facts": dict(report.facts),
        "baselines": [dataclasses.asdict(baseline) for baseline in report.baselines],
    }
    (folder / "metrics.json").write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n")
    (folder / "metrics.md").write_text(to_markdown(report))
    (folder / "report.html").write_text(to_html(report))
