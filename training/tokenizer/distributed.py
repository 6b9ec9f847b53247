"""A process of a training run: its device, its number, its signals, its memory."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import math
import os
import re
import signal
import time
from collections.abc import Callable, Iterator

import torch
import torch.distributed

from training.tokenizer.config import ConfigError

# Others that torch knows are untried here.
_DEVICES = re.compile(r"auto|cpu|cuda|cuda:[0-9]{1,3}")


@dataclasses.dataclass(frozen=True)
class DistributedContext:
    """The device of a process, and its number among `processes`."""

    device: torch.device
    rank: int = 0
    processes: int = 1


def choose_context(device: str) -> DistributedContext:
    """The device and, under `torchrun`, the process group that its variables describe.

    Raises:
        ConfigError: the device is none of auto, cpu, cuda and cuda:N, or isn't there.
    """
    if not _DEVICES.fullmatch(device):
        raise ConfigError(f"--device is auto, cpu, cuda or cuda:N, not {device!r}")
    cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        device = "cuda" if cards else "cpu"
    elif device.startswith("cuda") and int(device.partition(":")[2] or 0) >= cards:
        raise ConfigError(f"--device {device} isn't there: torch can use {cards} CUDA devices here")
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes == 1:
        return DistributedContext(torch.device(device))
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    if device == "cuda":
        device = f"cuda:{local}"
        torch.cuda.set_device(local)
    torch.distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    return DistributedContext(torch.device(device), rank, processes)


@contextlib.contextmanager
def stop_signal(
    context: DistributedContext, minutes: float | None = None
) -> Iterator[Callable[[], bool]]:
    """Turns SIGTERM, SIGINT and the end of the time into a question; all processes answer alike.

    Args:
        context: of this process.
        minutes: from now on, after which the answer is yes.
    """
    end = math.inf if minutes is None else time.monotonic() + 60 * minutes
    received: list[int] = []
    handlers = {
        number: signal.signal(number, lambda number, _: received.append(number))
        for number in (signal.SIGTERM, signal.SIGINT)
    }

    def stopping() -> bool:
        if context.processes == 1:
            return bool(received) or time.monotonic() > end
        # One process may get the signal a step before the others: they stop together.
        flag = torch.tensor(float(bool(received) or time.monotonic() > end), device=context.device)
        torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
        return bool(flag > 0)

    try:
        yield stopping
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def keep_freed_memory() -> None:
    """Makes glibc keep the memory that a step frees, for the next step to use.

    By default it returns large blocks to the kernel, which then clears them anew at
    the next step. Measured on a virtual machine: a few percent at most (docs/log.md). Does
    nothing where the C library is another.
    """
    mmap_threshold, trim_threshold, top_pad = -3, -1, -2  # M_… of <malloc.h>
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    mallopt(mmap_threshold, 2**31 - 1)
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(top_pad, 2**28)
