"""A data set tokenized with kills at random moments, against an unbroken run: equal bytes.

    make tokenize-check DATA=DIR [ARGS="--precision int8 --kills 6"]

First the whole in one go, which tells how long it takes. Then the same into another folder, killed
with SIGKILL again and again, each time after a random share of that time, until it has been killed
as often as asked for; then a last time to the end. The folders must hold the same files with the
same bytes. Once for each form that shards come in.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[3]


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder, but for the lock."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


def killed_after(command: list[str], seconds: float) -> bool:
    """Run a command for so long, then kill it; whether it was still running."""
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def check(source: Path, folder: Path, options: argparse.Namespace, form: str) -> None:
    """One form: unbroken, killed, compared."""
    common = ["--json", "--shard-size", "64", "--format", form, "--device", "cpu"]
    common += ["--precision", options.precision, "--models-dir", str(options.models)]
    common += ["--size", options.size] if options.size else []
    commands = [
        [sys.executable, "-m", "app", "tokenize", str(source), str(folder / out), *common]
        for out in ("whole", "killed")
    ]
    started = time.monotonic()
    whole = subprocess.run(commands[0], cwd=ROOT, capture_output=True, text=True)
    if whole.returncode:
        sys.exit(whole.stderr)
    seconds = time.monotonic() - started
    print(f"{form}: unbroken {whole.stdout.strip()}, {seconds:.1f} s in all", flush=True)
    chance = random.Random(options.seed)
    # Of each run part is loading: shares are of what an average run may have for itself.
    kills, shards = 0, []
    while kills < options.kills:
        if not killed_after(commands[1], chance.uniform(0.02, 1.6) * seconds / options.kills):
            sys.exit("it ended before it could be killed often enough: try another --seed")
        kills += 1
        last = "json" if form == "npy" else "parquet"
        shards.append(len(list((folder / "killed").glob(f"[0-9]*.{last}"))))
    print(f"  killed {kills} times, with {', '.join(map(str, shards))} shards there", flush=True)
    last = subprocess.run(commands[1], cwd=ROOT, capture_output=True, text=True)
    if last.returncode:
        sys.exit(last.stderr)
    print(f"  went on: {last.stdout.strip()}")
    one, other = contents(folder / "whole"), contents(folder / "killed")
    unequal = [
        name for name in sorted(one.keys() | other.keys()) if one.get(name) != other.get(name)
    ]
    if unequal:
        sys.exit(f"not equal: {', '.join(unequal[:10])}")
    print(f"  {len(one)} files, {sum(map(len, one.values())):,} bytes: equal, byte for byte")


def main() -> None:
    """Check both forms."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("source", type=Path, metavar="DIR", help="folder of images")
    parser.add_argument("--models", type=Path, default=ROOT / "models")
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--size", help="WxH; without it, images stay as they are")
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--forms", nargs="+", default=["npy", "parquet"])
    options = parser.parse_args()
    for form in options.forms:
        with tempfile.TemporaryDirectory(prefix="tessera-kills-") as folder:
            check(options.source.resolve(), Path(folder), options, form)


if __name__ == "__main__":
    main()
