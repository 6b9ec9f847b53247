"""`python -m training.evaluate BUNDLE_OR_CHECKPOINT --data DIR`: every number that matters.

Writes `metrics.json`, `metrics.md`, one self-contained `report.html` and a
`contact-sheet.webp`. What is measured, and how, is in `training.evaluation.rate_distortion`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from bundle import BundleError
from training.data.dataset import DataError
from training.evaluation.figures import Pair, contact_sheet, pairs
from training.evaluation.markdown import to_markdown
from training.evaluation.quality import available_measures
from training.evaluation.rate_distortion import evaluate
from training.evaluation.recognisability import networks_of_training
from training.evaluation.report import to_html
from training.evaluation.results import Evaluation
from training.evaluation.without_codes import quality_without_codes, write_without_codes
from training.onnx_export.codec import open_codec
from training.options import add_data, add_threads
from training.perceptual.weights import WeightsError
from training.tokenizer.checkpoint import CheckpointError, load_checkpoint
from training.tokenizer.config import ConfigError
from training.tokenizer.losses import load_lpips


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line; see `--help`."""
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluate",
        description="Measures a model on folders of images at their own size, beside JPEG, WebP "
        "and AVIF at equal bytes and as curves; writes metrics.json, metrics.md, report.html and "
        "contact-sheet.webp. LPIPS, SSIMULACRA2 and recognisability need packages that "
        "`make perceptual-setup` installs; what is absent is named in the report.",
        epilog="Example: python -m training.evaluate models/photo-f8 --data kodak "
        "--labelled recognition --out runs/evaluation",
    )
    parser.add_argument(
        "model",
        type=Path,
        help="a bundle's folder, or a checkpoint such as "
        "runs/NAME/last.pt (its averaged weights are measured)",
    )
    add_data(parser, "images")
    parser.add_argument(
        "--labelled",
        type=Path,
        metavar="DIR",
        help="a folder with train/CLASS/ and test/CLASS/: adds the recognition "
        "probe and the classical features beside it, and what an ImageNet network recognises",
    )
    parser.add_argument(
        "--judged",
        type=int,
        default=400,
        metavar="N",
        help="images of test/, evenly chosen, that the ImageNet networks are shown; "
        "0 leaves them out (default: 400)",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: runs/evaluation-NAME")
    parser.add_argument(
        "--precision",
        choices=("fp32", "fp16", "int8"),
        default="fp32",
        help="of a bundle's graphs (default: fp32)",
    )
    parser.add_argument(
        "--baselines",
        "--peers",  # its name before
        type=int,
        default=100,
        metavar="N",
        help="images, evenly chosen, that JPEG, WebP and AVIF are tried on; "
        "0 leaves them out (default: 100)",
    )
    parser.add_argument(
        "--lpips",
        type=Path,
        metavar="FILE",
        help="a TorchScript file that maps two image batches in [−1, 1] to distances, "
        "in place of LPIPS by AlexNet",
    )
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        choices=("lpips", "ssimulacra2"),
        help="leave a slow measure out; may be given repeatedly",
    )
    add_threads(parser)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Parses the command line and evaluates; 0 if that went well, 2 if it can't be."""
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    if options.threads > 0:
        torch.set_num_threads(options.threads)
    try:
        if _is_autoencoder(options.model):
            print(_evaluate_without_codes(options), end="")
            return 0
        codec = open_codec(options.model, options.precision, options.threads)
        out = options.out or Path("runs") / f"evaluation-{codec.name}"
        out.mkdir(parents=True, exist_ok=True)  # now, and not after all the work
        measures = available_measures(
            load_lpips(options.lpips) if options.lpips else None,
            without=options.without,
            lpips_network=options.lpips.name if options.lpips else "",
        )
        evaluation = evaluate(
            codec,
            options.data,
            baseline_images=max(0, options.baselines),
            labelled=options.labelled,
            judged_images=max(0, options.judged),
            used_in_training=networks_of_training(options.model),
            measures=measures,
            console=Console(stderr=True),
        )
        write(evaluation, pairs(codec, evaluation, options.data), out)
    except (BundleError, CheckpointError, ConfigError, DataError, WeightsError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(to_markdown(evaluation))
    print(f"written: {out}/metrics.json, metrics.md, report.html, contact-sheet.webp")
    return 0


def _is_autoencoder(model: Path) -> bool:
    return model.is_file() and not load_checkpoint(model).config.quantizer.stages


def _evaluate_without_codes(options: argparse.Namespace) -> str:
    """Quality alone: there are no codes to count, to decode or to recognise anything by.

    Raises:
        CheckpointError: the checkpoint's weights don't fit its configuration.
        DataError: no image can be decoded, or recognition is asked for.
    """
    if options.labelled is not None:
        raise DataError("--labelled: a plain autoencoder (quantizer.kind = none) has no codes")
    checkpoint = load_checkpoint(options.model)
    name = checkpoint.config.name
    out: Path = options.out or Path("runs") / f"evaluation-{name}"
    out.mkdir(parents=True, exist_ok=True)
    measures = available_measures(without=options.without)
    quality, images = quality_without_codes(checkpoint, options.data, measures)
    return write_without_codes(name, quality, images, out)


def write(evaluation: Evaluation, pictures: Sequence[Pair], out: Path) -> None:
    """Writes the four files of an evaluation into a folder."""
    text = json.dumps(evaluation.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)
    (out / "metrics.json").write_text(text + "\n", encoding="utf-8")
    (out / "metrics.md").write_text(to_markdown(evaluation), encoding="utf-8")
    (out / "report.html").write_text(to_html(evaluation, pictures), encoding="utf-8")
    (out / "contact-sheet.webp").write_bytes(contact_sheet(pictures))


if __name__ == "__main__":
    raise SystemExit(main())
