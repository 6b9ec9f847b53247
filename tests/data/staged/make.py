"""Makes the bundle beside this file: two stages of codes, two decoders, weights in files.

    python tests/data/staged/make.py

A bundle of format version 2: trained by recipe.toml on the photographs beside, a minute on one
core, and exported in fp32 and int8. For tests, and for nothing else.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2]))

import torch  # noqa: E402

from training.export import main as export  # noqa: E402
from training.train import main as train  # noqa: E402


def main() -> None:
    """Train and write the bundle."""
    torch.set_num_threads(1)
    data = ["--data", str(HERE.parent / "photos")]
    with tempfile.TemporaryDirectory() as run:
        if train([str(HERE / "recipe.toml"), *data, "--out", run, "--device", "cpu"]):
            raise SystemExit("training failed")
        checkpoint = str(Path(run) / "last.pt")
        target = ["--out", str(HERE / "tiny-staged"), "--replace", "--version", "1"]
        described = ["--describe", str(HERE.parent / "photos" / "data.toml")]
        if export([checkpoint, *data, *target, *described, "--precisions", "fp32,int8"]):
            raise SystemExit("exporting failed")


if __name__ == "__main__":
    main()
