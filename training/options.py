"""Options that several commands have, each written once."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_data(parser: argparse.ArgumentParser, what: str) -> None:
    """Add `--data DIR`, required, which may be given several times.

    Args:
        parser: of the command.
        what: what is in the folders, as the help says it.
    """
    parser.add_argument(
        "--data",
        type=Path,
        action="append",
        required=True,
        metavar="DIR",
        help=f"a folder of {what}, searched at any depth; may be given several times",
    )


def add_copy(parser: argparse.ArgumentParser) -> None:
    """Add `--out DIR`, a copy of the bundle that is written to instead of the bundle itself."""
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="write into this bundle of the same code space instead; where there is none, a copy "
        "of the bundle is made, named after the folder",
    )


def add_seed(parser: argparse.ArgumentParser, default: int = 0) -> None:
    """Add `--seed N`."""
    parser.add_argument(
        "--seed",
        type=int,
        default=default,
        metavar="N",
        help="seed of everything random (default: %(default)s)",
    )


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Add `--threads N`."""
    parser.add_argument(
        "--threads",
        type=int,
        default=0,
        metavar="N",
        help="processor threads; 0 takes all cores (default: 0)",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add `--device NAME`."""
    parser.add_argument(
        "--device",
        default="auto",
        metavar="NAME",
        help="where to train: auto, cpu, cuda or cuda:N (default: auto)",
    )
