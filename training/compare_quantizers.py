"""`python -m training.compare_quantizers --data DIR --test DIR`: which quantizer?

Trains a model with each quantizer, all else the same, and measures them on the same images. What
is finished is not done again, and a model that was stopped goes on where it was. The table goes
into docs/quantizers.md, between two marks.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from rich.console import Console

from training.data.dataset import DataError, decoded, find_images
from training.evaluation.linear_probe import read_labelled
from training.evaluation.quality import available_measures
from training.experiments.quantizer_comparison import Figures, Material, compared, table
from training.experiments.quantizer_runs import Run, first_runs, further_runs
from training.options import add_data, add_device, add_threads
from training.perceptual.weights import WeightsError
from training.tokenizer.checkpoint import CheckpointError
from training.tokenizer.config import ConfigError
from training.tokenizer.distributed import choose_context
from training.tokenizer.run import TrainingInterrupted

_BEGIN, _END = "<!-- comparison: begin -->", "<!-- comparison: end -->"


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line; see `--help`."""
    parser = argparse.ArgumentParser(
        prog="python -m training.compare_quantizers",
        description="Trains a model with each quantizer, all else the same, and measures them on "
        "the same images; then the best of them with other strides and another seed. Stopped, "
        "the same command goes on where it was.",
        epilog="Example: python -m training.compare_quantizers --data photos --test kodak "
        "--labelled recognition",
    )
    add_data(parser, "training photographs")
    parser.add_argument(
        "--test", type=Path, required=True, metavar="DIR",
        help="a folder of images to measure on, none of them trained on",
    )  # fmt: skip
    parser.add_argument(
        "--labelled", type=Path, metavar="DIR",
        help="a folder with train/CLASS/ and test/CLASS/, for the linear probe",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, default=Path("runs/quantizers"), metavar="DIR",
        help="the folder of all runs (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--page", type=Path, default=Path("docs/quantizers.md"), metavar="FILE",
        help="the page whose table is written anew, between its two marks (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE",
        help="a setting that all runs share, such as optimizer.steps=1000",
    )  # fmt: skip
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME",
        help="of the first runs, those alone whose name begins so; nothing further is trained",
    )  # fmt: skip
    parser.add_argument(
        "--minutes", type=float, metavar="N",
        help="stop training after so long, with a checkpoint, as by Ctrl-C",
    )  # fmt: skip
    parser.add_argument(
        "--without", action="append", default=[], choices=("lpips",),
        help="leave a slow measure out",
    )  # fmt: skip
    add_device(parser)
    add_threads(parser)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Parses the command line and compares; 0 if that went well, 130 if stopped, 2 if it can't."""
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    if options.threads > 0:
        torch.set_num_threads(options.threads)
    console = Console(stderr=True)
    try:
        _with_table(options.page, [])  # the page should have a place for it
        results = _compare(options, console)
    except TrainingInterrupted as interrupted:
        print(interrupted, file=sys.stderr)
        return 130
    except (CheckpointError, ConfigError, DataError, WeightsError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    lines = list(table(results))
    print("\n".join(lines))
    options.page.write_text(_with_table(options.page, lines), encoding="utf-8")
    print(f"written: {options.page}", file=sys.stderr)
    return 0


def _compare(options: argparse.Namespace, console: Console) -> list[tuple[Run, Figures]]:
    context = choose_context(options.device)
    test = [image for _, image in decoded(find_images([options.test]).paths, [])]
    if not test:
        raise DataError(f"{options.test}: not one image could be decoded")
    material = Material(
        options.data,
        test,
        None if options.labelled is None else read_labelled(options.labelled),
        available_measures(without=("ssimulacra2", *options.without)),
    )
    results: list[tuple[Run, Figures]] = []

    def do(runs: list[Run]) -> None:
        for run in runs:
            console.rule(f"{run.member}, {run.group}")
            figures = compared(run, material, options.out, context, options.minutes)
            results.append((run, figures))

    first = first_runs(options.set)
    if options.only:
        do([run for run in first if run.name.startswith(tuple(options.only))])
    else:
        do(first)
        do(further_runs({run.name: f.psnr for run, f in results}, options.set))
    return results


def _with_table(page: Path, lines: list[str]) -> str:
    """The page's text with the table between its marks.

    Raises:
        DataError: there is no such page, or it hasn't the marks.
    """
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise DataError(f"{page} has no place for the table: {_BEGIN} and {_END} on lines")
    return "\n".join([before + begin, "", *lines, end + after])


if __name__ == "__main__":
    raise SystemExit(main())
