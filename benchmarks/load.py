"""The load: wrk for a closed loop, pacer.c for an open one and for a list that is worked off.

Each run has its CPU accounted for, and what counts in `per_second` is answered with 200.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from benchmarks.servers import Server, machine_busy_s

HERE = Path(__file__).parent

# Above this share of one core used by processes that are no part of the measurement, a figure
# says more about them than about the server.
FOREIGN_SHARE = 0.05


class LoadFailed(Exception):
    """The load program is missing or failed."""


def check_tools() -> None:
    """Raise LoadFailed if wrk or a C compiler is missing."""
    for tool, package in (("wrk", "wrk"), ("cc", "gcc")):
        if shutil.which(tool) is None:
            raise LoadFailed(f"{tool} is not installed; on Debian: apt-get install {package}")


def build_pacer(folder: Path) -> Path:
    """Compile pacer.c if it is newer than its program, and return the program."""
    source, program = HERE / "pacer.c", folder / "pacer"
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cc", "-O2", "-o", program, source, "-lm"], check=True)
    return program


def closed_loop(server: Server, requests: Path, clients: int, seconds: float) -> dict[str, Any]:
    """So many clients, each sending its next request when the last is answered.

    What is under way at the end isn't counted: where single requests take long, `work_off`.
    """
    # wrk takes whole seconds; its own duration is what counts.
    command = ["wrk", "-t1", f"-c{clients}", f"-d{max(1, round(seconds))}s", "--timeout", "30s"]
    command += ["-s", str(HERE / "wrk.lua"), f"http://127.0.0.1:{server.port}/", "--"]
    result = _accounted(server, [*command, str(requests)])
    result["per_second"] = result["answered"] / result["seconds"]
    return result


def work_off(server: Server, requests: Path, pacer: Path, clients: int) -> dict[str, Any]:
    """Each request once, so many under way at a time, until the last is answered."""
    result = _accounted(server, [str(pacer), str(server.port), str(requests), str(clients)])
    result["per_second"] = result["answered"] / result["seconds"]
    return result


def open_loop(
    server: Server, requests: Path, pacer: Path, rate: float, seconds: float, seed: int
) -> dict[str, Any]:
    """Requests at random moments, so many a second on average, whatever the server does."""
    command = [str(pacer), str(server.port), str(requests), f"{rate:.3f}", f"{seconds}", f"{seed}"]
    result = _accounted(server, command)
    result["rate"] = rate
    return result


def _accounted(server: Server, command: list[str]) -> dict[str, Any]:
    """Run a load and add what it cost: server CPU per request, and CPU that went elsewhere."""
    busy, used, own = machine_busy_s(), server.cpu_s(), _children_s()
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    took = time.monotonic() - started
    used, own = server.cpu_s() - used, _children_s() - own
    foreign = (machine_busy_s() - busy - used - own) / took
    line = next((row for row in done.stdout.splitlines() if row.startswith("JSON")), None)
    if done.returncode or line is None:
        raise LoadFailed(f"{command[0]} failed: {done.stdout}\n{done.stderr}")
    result: dict[str, Any] = json.loads(line.removeprefix("JSON"))
    result["cpu_ms"] = 1000 * used / max(1, result["answered"])
    result["load_share"] = own / took
    result["foreign_share"] = max(0.0, foreign)
    return result


def _children_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
