"""`python -m training.train CONFIG --data DIR`: trains a tokenizer.

One process, or several under `torchrun`: each takes its share of every batch,
so that the result is that of one process with the same batch, up to rounding.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
import torch.distributed

from training.data.dataset import DataError
from training.options import add_data, add_device
from training.tokenizer.checkpoint import CheckpointError
from training.tokenizer.config import Config, ConfigError, require_at_least, with_larger_batches
from training.tokenizer.config_file import load_config, override
from training.tokenizer.discriminator import DiscriminatorCollapsed
from training.tokenizer.distributed import choose_context, keep_freed_memory
from training.tokenizer.initial_weights import (
    InitialWeights,
    fine_tuning_config,
    read_initial_weights,
)
from training.tokenizer.run import TrainingInterrupted, train
from training.tokenizer.trainer import TrainingDiverged

__all__ = ["main", "parse_arguments", "train"]

# What a shell makes of a command that Ctrl-C ended.
_INTERRUPTED = 130


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line; see `--help`."""
    parser = argparse.ArgumentParser(
        prog="python -m training.train",
        description="Trains a tokenizer on folders of images. The same command run again "
        "goes on from the last checkpoint; SIGTERM and Ctrl-C save one first, and the command "
        "then exits with 130.",
        epilog="Then: python -m training.evaluate OUT/last.pt --data DIR, and "
        "python -m training.export OUT/last.pt --data DIR --out models/NAME.",
    )
    parser.add_argument(
        "config",
        nargs="?",
        help="a preset (photo-f8, photo-f16, small-f4, tiny …) or the path of a TOML file; with "
        "--from it may be left out: a short fine-tuning with the settings of that model",
    )
    add_data(parser, "images")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: runs/NAME")
    parser.add_argument(
        "--from",
        dest="start",
        type=Path,
        metavar="BUNDLE",
        help="begin from the weights of a bundle (models/photo-f8, say) or of a checkpoint",
    )
    parser.add_argument(
        "--freeze",
        default="",
        metavar="PARTS",
        help="what stays as it is: encoder, codebook, decoder, with commas between them; with "
        "encoder,codebook all codes that were made before stay valid",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a setting, such as optimizer.steps=5000 or phases.NAME.steps=5000; may be "
        "given several times",
    )
    parser.add_argument(
        "--batch-factor",
        type=int,
        default=1,
        metavar="N",
        help="batches N times as large and learning rates √N times as high, for a GPU; the number "
        "of steps stays",
    )
    parser.add_argument(
        "--minutes",
        type=float,
        metavar="M",
        help="stop after so long, as by Ctrl-C: for machines that are lent for a while",
    )
    add_device(parser)
    return parser.parse_args(arguments)


def configured(options: argparse.Namespace) -> tuple[Config, InitialWeights | None]:
    """The configuration that a command line asks for, and what the run begins from.

    Raises:
        ConfigError: there is no such configuration, or no model to begin from.
    """
    require_at_least(1, **{"batch-factor": options.batch_factor})
    start = read_initial_weights(options.start) if options.start else None
    if options.config is not None:
        config = load_config(options.config)
    elif start is not None:
        config = fine_tuning_config(start, f"{start.name}-tuned")
    else:
        raise ConfigError("name a preset or a TOML file, or a model to begin from with --from")
    if options.freeze:
        parts = [part.strip() for part in options.freeze.split(",")]
        config = override(config, [f"optimizer.freeze={parts}"])
    config = with_larger_batches(override(config, options.set), options.batch_factor)
    return config, start


def main(arguments: list[str] | None = None) -> int:
    """Parses the command line and trains.

    Returns:
        0 after the last step, 130 where a signal came first, 1 where the training went astray,
        2 where it can't be.
    """
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    try:
        keep_freed_memory()
        config, start = configured(options)
        context = choose_context(options.device)
        out = options.out or Path("runs") / config.name
        last = train(config, options.data, out, context, start, options.minutes)
    except TrainingInterrupted as interruption:
        print(interruption, file=sys.stderr)
        return _INTERRUPTED
    except (ConfigError, DataError, CheckpointError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (TrainingDiverged, DiscriminatorCollapsed) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    if context.rank == 0:
        data = " ".join(f"--data {folder}" for folder in options.data)
        print(f"finished: {config.steps} steps, {last}")
        print(f"next: python -m training.export {last} {data} --out models/{config.name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
