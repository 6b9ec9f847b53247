"""`python -m benchmarks.tokenize DIR`: what `tessera tokenize` makes of the engine's bare speed.

Bare is ONNX Runtime alone over the same images, decoded and in memory: with all threads in one
run at a time, and with one run of one thread for each CPU. The command reads, decodes, encodes
and writes. Each round does all three, one after the other, so that a machine that slows down
slows all of them; the ratio is to the faster of the bare two.

Its rate is of the images alone; how long the command takes in all, with the start of Python and
the loading of the model, stands beside it: a cost once, whatever the number of images.

On a machine that does other work too, wall-clock time says little. So processor time is compared as
well: that of the command, less what it takes for the first few images alone, which is its start.

    python -m benchmarks.tokenize PHOTOS --megapixel --images 2000 --size 256x256 --precision int8
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from benchmarks.bare import Graphs
from benchmarks.candidates import ROOT
from bundle import open_bundle
from imaging.decode import decode_image
from imaging.headers import inspect_image

_IMAGES = {".png", ".jpg", ".jpeg", ".webp"}

# Images of the run whose processor time counts as the command's start.
_FEW = 8


def decoded(path: Path, size: tuple[int, int] | None, stride: int) -> np.ndarray:
    """An image as the model takes it: uint8 `[1, h, w, 3]`, padded to the stride."""
    pixels = decode_image(inspect_image(path.read_bytes(), max_pixels=2**28), size).pixels
    height, width, _ = pixels.shape
    padded = np.pad(pixels, ((0, -height % stride), (0, -width % stride), (0, 0)), mode="edge")
    return padded[None]


class Measured(NamedTuple):
    """Images per second of wall-clock time, and seconds of processor time for each image."""

    rate: float
    cpu_s: float


def write_megapixels(pictures: list[Path], folder: Path, count: int) -> list[Path]:
    """Write JPEGs of 1152 × 864, quality 85: each of six pictures side by side, in three columns.

    The same pictures give the same files. They have the detail of photographs of that size, which
    enlarged ones lack: what a JPEG costs to decode goes by its bytes.
    """
    folder.mkdir()
    chosen = random.Random(1)
    written = []
    for index in range(count):
        canvas = Image.new("RGB", (1152, 864))
        for place in range(6):
            with Image.open(chosen.choice(pictures)) as picture:
                part = ImageOps.fit(picture.convert("RGB"), (384, 432))
            canvas.paste(part, (place % 3 * 384, place // 3 * 432))
        written.append(folder / f"{index:05}.jpg")
        canvas.save(written[-1], quality=85)
    return written


def measure_bare(graphs: list[Graphs], images: list[np.ndarray]) -> Measured:
    """Each image encoded once, one thread of ours for each of `graphs`."""
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
    started, used = time.perf_counter(), time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds, used = time.perf_counter() - started, time.process_time() - used
    return Measured(len(images) / seconds, used / len(images))


class Run(NamedTuple):
    """What one run of the command took.

    Attributes:
        images: how many it encoded.
        seconds: that encoding them took.
        seconds_in_all: the same with its start.
        cpu_s: processor time in all, in seconds.
    """

    images: int
    seconds: float
    seconds_in_all: float
    cpu_s: float


def run_command(paths: list[Path], options: argparse.Namespace) -> Run:
    """Tokenize files by the command, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        source.mkdir()
        for index, path in enumerate(paths):
            (source / f"{index:05}{path.suffix}").symlink_to(path.resolve())
        command = [sys.executable, "-m", "app", "tokenize", str(source), f"{folder}/out", "--json"]
        command += ["--models-dir", str(options.bundle.parent), "--model", options.bundle.name]
        command += ["--precision", options.precision, "--device", "cpu"]
        command += ["--size", options.size] if options.size else []
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        started = time.perf_counter()
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - started
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(done.stderr)
    said = json.loads(done.stdout)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(said["new_images"], said["seconds"], seconds, cpu_s)


def main() -> int:
    """0 if the command reaches the share of bare speed that was asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tokenize",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("data", type=Path, metavar="DIR", help="folder of images")
    parser.add_argument("--bundle", type=Path, default=ROOT / "models/photo-f8", metavar="DIR")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--size", metavar="WxH", help="resize; without it, images stay as they are")
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--megapixel",
        action="store_true",
        help="encode JPEGs of 1152x864 that are put together from the folder's images",
    )
    parser.add_argument("--least", type=float, default=0.9, help="share of the bare speed")
    options = parser.parse_args()
    paths = sorted(p for p in options.data.rglob("*") if p.suffix.lower() in _IMAGES)
    with tempfile.TemporaryDirectory() as folder:
        if options.megapixel:
            paths = write_megapixels(paths, Path(folder) / "megapixels", options.images)
        # Spread over the folder: neighbours are of one kind.
        paths = paths[:: max(1, len(paths) // options.images)][: options.images]
        return compare(paths, options)


def compare(paths: list[Path], options: argparse.Namespace) -> int:
    """Alternate the bare engine and the command, and print what each took."""
    size = tuple(map(int, options.size.split("x"))) if options.size else None
    bundle = open_bundle(options.bundle)
    threads = len(os.sched_getaffinity(0))
    images = [decoded(path, size, bundle.manifest.stride) for path in paths]
    together = [Graphs(bundle, options.precision, threads)]
    apart = [Graphs(bundle, options.precision, 1) for _ in range(threads)]
    for graphs in (together, apart):
        measure_bare(graphs, images[:8])
    shares, cpu_shares = [], []
    for _ in range(options.rounds):
        few = run_command(paths[:_FEW], options)
        run = run_command(paths, options)
        one, two = measure_bare(together, images), measure_bare(apart, images)
        bare_cpu_s = min(one.cpu_s, two.cpu_s)
        shares.append(run.images / run.seconds / max(one.rate, two.rate))
        text = (
            f"bare {one.rate:.1f} images/s together, {two.rate:.1f} apart; "
            f"tokenize {run.images / run.seconds:.1f}, {run.seconds_in_all:.1f} s in all"
        )
        if run.images > few.images:
            each = (run.cpu_s - few.cpu_s) / (run.images - few.images)
            cpu_shares.append(bare_cpu_s / each)
            text += f"; ms of CPU an image: bare {bare_cpu_s * 1e3:.1f}, tokenize {each * 1e3:.1f}"
        print(text, flush=True)
    share = statistics.median(shares)
    print(
        f"{len(images)} images, {options.precision}, {threads} threads: "
        f"tokenize reaches {share:.1%} of the bare speed (median of {options.rounds})"
    )
    if cpu_shares:
        print(f"by processor time, {statistics.median(cpu_shares):.1%}")
    return 0 if share >= options.least else 1


if __name__ == "__main__":
    raise SystemExit(main())
