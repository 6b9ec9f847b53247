"""The device that graphs run on, proved by running a graph there, and the CPUs to use."""

from __future__ import annotations

import importlib.metadata
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnxruntime

if TYPE_CHECKING:
    from collections.abc import Mapping

_CGROUP = Path("/sys/fs/cgroup")


class DeviceUnavailable(Exception):
    """The device that was asked for can't run a graph; the text says why and what to do."""


@dataclass(frozen=True)
class Device:
    """What graphs run on.

    Attributes:
        kind: `cpu` or `cuda`.
        index: index of the GPU; 0 for a CPU.
        threads: number of CPU threads that one graph run uses.
    """

    kind: Literal["cpu", "cuda"]
    index: int
    threads: int

    def __str__(self) -> str:
        return self.kind if self.kind == "cpu" else f"cuda:{self.index}"


def usable_cpus(cgroup: Path = _CGROUP, affinity: int | None = None) -> int:
    """CPUs this process may use at once: the least of affinity mask and cgroup quota, ≥ 1.

    ONNX Runtime sizes its pool by the host's cores; inside a container limited to two of 64 the
    threads then take turns, which is several times slower than two
    (microsoft/onnxruntime#29510).

    Args:
        cgroup: folder with the control group's files (version 2, or 1 with `cpu/` below it).
        affinity: number of CPUs in the affinity mask; None asks the system.
    """
    if affinity is None:
        affinity = len(os.sched_getaffinity(0))
    quota = _quota(cgroup)
    return max(1, affinity if quota is None else min(affinity, int(quota + 0.5)))


def _quota(cgroup: Path) -> float | None:
    """CPUs the control group grants per period; None where it sets no limit."""
    try:
        if (cgroup / "cpu.max").is_file():
            limit, period = (cgroup / "cpu.max").read_text().split()[:2]
        else:
            limit = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text().strip()
        if limit in {"max", "-1"}:
            return None
        return int(limit) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def choose_device(asked: str, threads: int = 0) -> Device:
    """Decide on the device, and prove it by running a convolution there.

    Args:
        asked: `auto` (CUDA where it works, else the CPU), `cpu`, `cuda` or `cuda:N`.
        threads: number of CPU threads that one graph run uses; 0 means `usable_cpus()`.

    Raises:
        DeviceUnavailable: CUDA was asked for by name and can't run, or the installation of ONNX
            Runtime is broken.
    """
    _check_installation()
    threads = threads or usable_cpus()
    if asked == "cpu":
        return Device("cpu", 0, threads)
    if not (match := re.fullmatch(r"auto|cuda(?::(\d+))?", asked)):
        raise DeviceUnavailable(f"there is no device {asked!r}")
    device = Device("cuda", int(match[1] or 0), threads)
    try:
        _prove(device)
    except DeviceUnavailable:
        if asked != "auto":
            raise
        return Device("cpu", 0, threads)
    return device


def session(graph: bytes, device: Device, weights: Mapping[str, bytes] | None = None) -> Any:
    """An ONNX Runtime session on exactly that device, never silently on another.

    Args:
        graph: an ONNX file.
        device: device that the graph is to run on.
        weights: files that the graph refers to, by name; without, all weights are inside it.

    Raises:
        DeviceUnavailable: the session came up on another device.
        Exception: whatever ONNX Runtime raises for a graph that it can't load.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = device.threads
    options.inter_op_num_threads = 1
    # Fatal errors only: others are raised with their text, and each line of our log is JSON.
    options.log_severity_level = 4
    # Idle threads otherwise spin and fight the event loop for the cores: 16–18 images/s with
    # spinning, 51 without, on the same two cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Weights are in the checked bytes, the graph's or these. A graph that refers to other files
    # would be given any below the working directory; below this, nothing can be.
    for name, content in (weights or {}).items():
        options.add_external_initializers_from_files_in_memory([name], [content], [len(content)])
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", f"{os.devnull}/none"
    )
    providers: list[Any] = ["CPUExecutionProvider"]
    if device.kind == "cuda":
        cuda = {
            "device_id": str(device.index),
            # EXHAUSTIVE costs hundreds of ms for every new shape, and may choose differently
            # from run to run; DEFAULT is about 4 times slower (microsoft/onnxruntime#22705).
            "cudnn_conv_algo_search": "HEURISTIC",
            # Grow by need, not to the next power of two.
            "arena_extend_strategy": "kSameAsRequested",
            # TF32 has the mantissa of fp16: fp32 is to mean fp32.
            "use_tf32": "0",
        }
        providers.insert(0, ("CUDAExecutionProvider", cuda))
    made = onnxruntime.InferenceSession(graph, options, providers=providers)
    wanted = "CUDAExecutionProvider" if device.kind == "cuda" else "CPUExecutionProvider"
    if made.get_providers()[0] != wanted:
        # The list of *available* providers names CUDA on machines without a GPU too.
        raise DeviceUnavailable(f"the session runs on {made.get_providers()[0]}, not on {device}")
    return made


def _prove(device: Device) -> None:
    """Run a real convolution on the GPU: loading the provider alone doesn't need cuDNN.

    Raises:
        DeviceUnavailable: it doesn't run; the text says what is missing, as far as known.
    """
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise DeviceUnavailable(
            "this installation of ONNX Runtime has no CUDA: "
            "install the extra `gpu` instead of `cpu`, or set TESSERA_DEVICE=cpu"
        )
    # Finds the CUDA libraries that come as Python packages; must precede the first session.
    onnxruntime.preload_dlls()
    try:
        run = session(_convolution(), device)
        (result,) = run.run(None, {"x": np.ones((1, 1, 4, 4), np.float32)})
    except DeviceUnavailable as error:
        raise DeviceUnavailable(
            f"{device} can't be used: {error}. Is there a GPU, and is its driver 580 or newer? "
            "TESSERA_DEVICE=cpu runs without"
        ) from error
    except Exception as error:
        raise DeviceUnavailable(
            f"{device} doesn't run a convolution: {_first_line(error)}. "
            "Is the driver 580 or newer? TESSERA_DEVICE=cpu runs without"
        ) from error
    if not np.array_equal(result, np.full((1, 1, 2, 2), 9, np.float32)):
        raise DeviceUnavailable(f"{device} computes a convolution wrongly")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _check_installation() -> None:
    """Both wheels install one module; whichever came last overwrote half of the other.

    Raises:
        DeviceUnavailable: both are installed (microsoft/onnxruntime#26996).
    """
    installed = [name for name in ("onnxruntime", "onnxruntime-gpu") if _version(name) is not None]
    if len(installed) == 2:
        raise DeviceUnavailable(
            "onnxruntime and onnxruntime-gpu are both installed and break each other: "
            "uninstall both, then install one of the extras `cpu` and `gpu`"
        )


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _convolution() -> bytes:
    """ONNX file of a convolution by 3×3 ones: float32 `[1, 1, 4, 4]` → `[1, 1, 2, 2]`.

    Put together field by field (onnx.proto), since the service doesn't depend on `onnx`.
    """
    float32 = 1

    def number(field: int, value: int) -> bytes:
        return bytes((field << 3, value))

    def message(field: int, *parts: bytes) -> bytes:
        body = b"".join(parts)
        # Lengths below 128 take one byte; those of the graph take two.
        length = bytes((len(body) & 127 | 128, len(body) >> 7))
        return (
            bytes((field << 3 | 2,)) + (length if len(body) > 127 else bytes((len(body),))) + body
        )

    def port(field: int, name: bytes, side: int) -> bytes:
        shape = message(2, *(message(1, number(1, length)) for length in (1, 1, side, side)))
        kind = message(1, number(1, float32), shape)
        return message(field, message(1, name), message(2, kind))

    kernel = np.ones(9, "<f4").tobytes()
    graph = message(
        7,
        message(1, message(1, b"x"), message(1, b"w"), message(2, b"y"), message(4, b"Conv")),
        message(2, b"proof"),
        message(
            5,
            *(number(1, length) for length in (1, 1, 3, 3)),
            number(2, float32),
            message(8, b"w"),
            message(9, kernel),
        ),
        port(11, b"x", 4),
        port(12, b"y", 2),
    )
    return number(1, 8) + graph + message(8, number(2, 17))
