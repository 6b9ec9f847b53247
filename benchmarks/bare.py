"""The limit: ONNX Runtime alone, without HTTP, JPEG or queue. Pixels or codes lie in memory.

`python -m benchmarks.bare BUNDLE PRECISION THREADS` is a worker that stays loaded between
measurements, so that it can alternate with the servers. It reads lines `WHAT SIDE LAYOUT BATCH
SECONDS` from its input and answers each with items per second:

    what    encode (encoder and quantizer), decode, embed or recognize (from codes)
    layout  together: one run at a time on all threads; apart: as many runs at a time, one thread
            each
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from itertools import cycle
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnxruntime

from benchmarks import servers
from benchmarks.inputs import jpegs, pixels
from bundle import Bundle, open_bundle

BATCHES = (1, 2, 4, 8, 16, 32)
LAYOUTS = ("together", "apart")


def session(bundle: Bundle, graph: str, precision: str, threads: int) -> Any:
    """A graph of a bundle; fp32 where it lacks the precision."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    for name, content in bundle.read_weights(graph).items():
        options.add_external_initializers_from_files_in_memory([name], [content], [len(content)])
    chosen = precision if precision in bundle.precisions(graph) else "fp32"
    return onnxruntime.InferenceSession(
        bundle.read_graph(graph, chosen), options, providers=["CPUExecutionProvider"]
    )


class Graphs:
    """A bundle's graphs, its first recognizer among them, with so many threads for each run."""

    def __init__(self, bundle: Bundle, precision: str, threads: int) -> None:
        names = {name: name for name in ("encoder", "quantizer", "decoder", "embedder")}
        for _, recognizer in sorted(bundle.manifest.recognizers.items())[:1]:
            names["recognizer"] = recognizer.graph
        self._of = {
            name: session(bundle, graph, precision, threads) for name, graph in names.items()
        }

    def encode(self, images: np.ndarray) -> np.ndarray:
        """uint8 `[n, h, w, 3]` → codes `[n, rows, columns]`, or `[n, stages, rows, columns]`."""
        (latents,) = self._of["encoder"].run(None, {"pixels": images})
        return np.asarray(self._of["quantizer"].run(None, {"latents": latents})[0])

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Codes → uint8 `[n, h, w, 3]`."""
        return np.asarray(self._of["decoder"].run(None, {"codes": codes})[0])

    def embed(self, codes: np.ndarray) -> np.ndarray:
        """Codes → vectors `[n, e]`."""
        return np.asarray(self._of["embedder"].run(None, {"codes": _first_stage(codes)})[0])

    def recognize(self, codes: np.ndarray) -> np.ndarray:
        """Codes → class scores `[n, classes]`."""
        return np.asarray(self._of["recognizer"].run(None, {"codes": _first_stage(codes)})[0])


def _first_stage(codes: np.ndarray) -> np.ndarray:
    """What embedder and recognizers take: `[n, rows, columns]`."""
    return codes[:, 0] if codes.ndim == 4 else codes


def rate(graphs: list[Graphs], what: str, batches: list[np.ndarray], seconds: float) -> float:
    """Items per second, one thread of ours for each of `graphs`."""
    done = [0] * len(graphs)
    end = time.perf_counter() + seconds

    def work(index: int) -> None:
        run = getattr(graphs[index], what)
        for batch in cycle(batches[index:] + batches[:index]):
            run(batch)
            done[index] += len(batch)
            if time.perf_counter() >= end:
                return

    started = time.perf_counter()
    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(graphs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / (time.perf_counter() - started)


def main() -> None:
    """Answer lines until there are no more."""
    bundle, precision, threads = open_bundle(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])
    layouts = {
        "together": [Graphs(bundle, precision, threads)],
        "apart": [Graphs(bundle, precision, 1) for _ in range(threads)],
    }
    prepared: dict[tuple[str, int, int], list[np.ndarray]] = {}
    print("ready", flush=True)
    for line in sys.stdin:
        what, side, layout, batch, seconds = line.split()
        key = what, int(side), int(batch)
        if key not in prepared:
            images = np.stack([pixels(jpeg) for jpeg in jpegs(key[1], 8 if key[1] > 256 else 32)])
            items = images if what == "encode" else layouts["together"][0].encode(images)
            items = np.concatenate([items] * -(-key[2] // len(items)))
            prepared[key] = [
                np.ascontiguousarray(items[i : i + key[2]])
                for i in range(0, len(items) - key[2] + 1, key[2])
            ]
            rate(layouts[layout], what, prepared[key][:1], 0)
        print(rate(layouts[layout], what, prepared[key], float(seconds)), flush=True)


class BareWorker:
    """The worker, driven from another process."""

    def __init__(self, bundle: Path, precision: str, threads: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.bare", bundle, precision, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent.parent,
            start_new_session=True,  # a scheduling group of its own, as servers have
        )
        if servers.go_first:
            servers.favour(self._process.pid)
        self._read()
        self._best: dict[tuple[str, int], tuple[str, int]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)

    def rate(self, what: str, side: int, layout: str, batch: int, seconds: float) -> float:
        """Items per second."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what} {side} {layout} {batch} {seconds}\n")
        self._process.stdin.flush()
        return float(self._read())

    def best(self, what: str, side: int, seconds: float) -> tuple[str, int]:
        """Layout and batch that are fastest, found by trying.

        For each layout ever larger batches, until one is a tenth slower than the best before it.
        """
        if (what, side) not in self._best:
            most = max(1, 32 * 256**2 // side**2)
            tried: dict[tuple[str, int], float] = {}
            for layout in LAYOUTS:
                best = 0.0
                for batch in (batch for batch in BATCHES if batch <= most):
                    found = tried[layout, batch] = self.rate(what, side, layout, batch, seconds)
                    if found < 0.9 * best:
                        break
                    best = max(best, found)
            self._best[what, side] = max(tried, key=lambda pair: tried[pair])
        return self._best[what, side]

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the bare worker ended")
        return line.strip()


if __name__ == "__main__":
    main()
