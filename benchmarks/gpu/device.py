"""One device: sessions on it, arrays in its memory, steps timed on it, time that is left."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import numpy as np
import onnxruntime

from benchmarks.inputs import jpegs, pixels
from bundle import Bundle

_CUDA = {
    "cudnn_conv_algo_search": "HEURISTIC",
    "arena_extend_strategy": "kSameAsRequested",
    "use_tf32": "0",
}
PRECISIONS = ("fp32", "tf32", "fp16")


class Clock:
    """How much of the time is left."""

    def __init__(self, minutes: float) -> None:
        self.started, self._end = time.monotonic(), time.monotonic() + 60 * minutes
        self.skipped: list[str] = []

    def allows(self, what: str, seconds: float) -> bool:
        """Whether a step of about so many seconds fits; if not, it is noted."""
        if time.monotonic() + seconds <= self._end:
            return True
        self.skipped.append(what)
        return False


class Device:
    """Sessions and memory of one device.

    Args:
        bundle: of the model.
        kind: `cuda` or `cpu`.
    """

    def __init__(self, bundle: Bundle, kind: str) -> None:
        self._bundle, self.kind = bundle, kind

    def session(self, graph: str, precision: str, options: dict[str, str] | None = None) -> Any:
        """A graph; `tf32` is the fp32 file with TF32 allowed.

        Raises:
            RuntimeError: it would run on another device than asked for.
        """
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 3
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers: list[Any] = ["CPUExecutionProvider"]
        if self.kind == "cuda":
            tf32 = {"use_tf32": "1"} if precision == "tf32" else {}
            providers.insert(0, ("CUDAExecutionProvider", {**_CUDA, **tf32, **(options or {})}))
        for name, content in self._bundle.read_weights(graph).items():
            settings.add_external_initializers_from_files_in_memory(
                [name], [content], [len(content)]
            )
        file = "fp16" if precision == "fp16" else "fp32"
        if file not in self._bundle.precisions(graph):
            file = "fp32"
        made = onnxruntime.InferenceSession(
            self._bundle.read_graph(graph, file), settings, providers=providers
        )
        if self.kind == "cuda" and made.get_providers()[0] != "CUDAExecutionProvider":
            raise RuntimeError("the session does not run on CUDA")
        return made

    def place(self, array: np.ndarray) -> Any:
        """An array on the device."""
        return onnxruntime.OrtValue.ortvalue_from_numpy(array, self.kind, 0)


def bound(device: Device, run: Any, given: Any, output: Any = None) -> Any:
    """A run's binding: input and output stay on the device."""
    binding = run.io_binding()
    binding.bind_ortvalue_input(run.get_inputs()[0].name, given)
    if output is None:
        binding.bind_output(run.get_outputs()[0].name, device.kind, 0)
    else:
        binding.bind_ortvalue_output(run.get_outputs()[0].name, output)
    return binding


def encode_once(device: Device, encoder: Any, quantizer: Any, given: Any) -> Any:
    """Encoder → quantizer on the device; the codes, still there."""
    first = bound(device, encoder, given)
    encoder.run_with_iobinding(first)
    second = bound(device, quantizer, first.get_outputs()[0])
    quantizer.run_with_iobinding(second)
    return second.get_outputs()[0]


def timed(step: Callable[[], object], seconds: float, finish: Callable[[], object]) -> float:
    """Median seconds of a step, after three to warm up.

    Args:
        step: runs once.
        seconds: to go on for, at least 5 times.
        finish: waits until the device is done.
    """
    for _ in range(3):
        step()
    finish()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < end:
        started = time.perf_counter()
        step()
        finish()
        times.append(time.perf_counter() - started)
    return median(times)


def ladder(small: bool) -> Iterator[tuple[int, int]]:
    """Sides and batches: up to 64 images and 16 megapixels a run."""
    for side in (64, 128) if small else (256, 512, 1024):
        for batch in (1, 2) if small else (1, 4, 16, 64):
            if batch * side * side <= 2**24:
                yield side, batch


def images_of(side: int, batch: int) -> np.ndarray:
    """uint8 `[batch, side, side, 3]` of real photographs."""
    few = [pixels(jpeg) for jpeg in jpegs(side, min(batch, 8))]
    return np.stack([few[index % len(few)] for index in range(batch)])


def gpu_facts() -> dict[str, str]:
    """Name, driver, memory and load of the first GPU, as nvidia-smi tells them."""
    if shutil.which("nvidia-smi") is None:
        return {}
    asked = "name,driver_version,memory.used,utilization.gpu"
    done = subprocess.run(
        ["nvidia-smi", f"--query-gpu={asked}", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        check=False,
    )
    first = done.stdout.splitlines()[:1]
    return dict(zip(asked.split(","), first[0].split(", "), strict=False)) if first else {}
