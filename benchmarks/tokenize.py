"""`python -m benchmarks.tokenize DIR`: what `tessera tokenize` makes of the engine's bare speed.

Bare is ONNX Runtime alone over the same images, decoded and in memory: with all threads in one
run at a time, and with one run of one thread for each CPU. The command reads, decodes, encodes
and writes. Each round does all three, one after the other, so that a machine that slows down
slows all of them; the ratio is to the faster of the bare two.

Its rate is of the images alone; how long the command takes in all, with the start of Python and
the loading of the model, stands beside it: a cost once, whatever the number of images.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from benchmarks.bare import Graphs
from benchmarks.candidates import ROOT
from bundle import open_bundle
from imaging.decode import decode_image
from imaging.headers import inspect_image

_IMAGES = {".png", ".jpg", ".jpeg", ".webp"}


def decoded(path: Path, size: tuple[int, int] | None, stride: int) -> np.ndarray:
    """An image as the model takes it: uint8 `[1, h, w, 3]`, padded to the stride."""
    pixels = decode_image(inspect_image(path.read_bytes(), max_pixels=2**28), size).pixels
    height, width, _ = pixels.shape
    padded = np.pad(pixels, ((0, -height % stride), (0, -width % stride), (0, 0)), mode="edge")
    return padded[None]


def bare_rate(graphs: list[Graphs], images: list[np.ndarray]) -> float:
    """Images per second, each encoded once, one thread of ours for each of `graphs`."""
    left = iter(images)
    lock = threading.Lock()

    def work(one: Graphs) -> None:
        while True:
            with lock:
                image = next(left, None)
            if image is None:
                return
            one.encode(image)

    threads = [threading.Thread(target=work, args=(one,)) for one in graphs]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(images) / (time.perf_counter() - started)


def command_rate(source: Path, options: argparse.Namespace) -> tuple[float, float]:
    """Images per second of the command once it runs, and seconds of it in all."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "app", "tokenize", str(source), f"{folder}/out", "--json"]
        command += ["--models-dir", str(options.bundle.parent), "--model", options.bundle.name]
        command += ["--precision", options.precision, "--device", "cpu"]
        command += ["--size", options.size] if options.size else []
        started = time.perf_counter()
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(done.stderr)
    said = json.loads(done.stdout)
    return said["new_images"] / said["seconds"], seconds


def main() -> int:
    """0 if the command reaches the share of bare speed that was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tokenize", description=__doc__)
    parser.add_argument("data", type=Path, metavar="DIR", help="folder of images")
    parser.add_argument("--bundle", type=Path, default=ROOT / "models/photo-f8", metavar="DIR")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--size", metavar="WxH", help="resize; without it, images stay as they are")
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--least", type=float, default=0.9, help="share of the bare speed")
    options = parser.parse_args()
    size = tuple(map(int, options.size.split("x"))) if options.size else None
    paths = sorted(p for p in options.data.rglob("*") if p.suffix.lower() in _IMAGES)
    # Spread over the folder: neighbours are of one kind.
    paths = paths[:: max(1, len(paths) // options.images)][: options.images]
    bundle = open_bundle(options.bundle)
    threads = len(os.sched_getaffinity(0))
    images = [decoded(path, size, bundle.manifest.stride) for path in paths]
    together = [Graphs(bundle, options.precision, threads)]
    apart = [Graphs(bundle, options.precision, 1) for _ in range(threads)]
    for graphs in (together, apart):
        bare_rate(graphs, images[:8])
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for index, path in enumerate(paths):
            (Path(folder) / f"{index:05}{path.suffix}").symlink_to(path.resolve())
        for _ in range(options.rounds):
            rate, seconds = command_rate(Path(folder), options)
            rows.append((bare_rate(together, images), bare_rate(apart, images), rate, seconds))
            one, two, _, _ = rows[-1]
            print(
                f"bare {one:.1f} images/s together, {two:.1f} apart; "
                f"tokenize {rate:.1f}, {seconds:.1f} s in all",
                flush=True,
            )
    ratio = statistics.median(rate / max(one, two) for one, two, rate, _ in rows)
    print(
        f"{len(images)} images, {options.precision}, {threads} threads: "
        f"tokenize reaches {ratio:.1%} of the bare speed (median of {options.rounds})"
    )
    return 0 if ratio >= options.least else 1


if __name__ == "__main__":
    raise SystemExit(main())
