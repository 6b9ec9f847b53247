"""The facts about machine, model and command that a reader needs to judge the figures."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.candidates import CANDIDATES, TESSERA_INT8, version

HERE = Path(__file__).parent


def facts(bundle: Any, threads: int, command: str) -> dict[str, str]:
    """What a reader must know to judge the figures, or to repeat them."""
    model = bundle.manifest
    return {
        "date": _run("date", "-u", "+%Y-%m-%d %H:%M UTC"),
        "commit": _run("git", "rev-parse", "--short", "HEAD")
        + (" with uncommitted changes" if _run("git", "status", "--porcelain") else ""),
        "processor": f"{_cpu_model()}, {threads} cores",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}, CPython {platform.python_version()}",
        "model": f"{model.name} {model.version}, code space {model.code_space[:12]}…",
        "load": f"{_run('wrk', '-v').splitlines()[0].split(' Copyright')[0]}, pacer.c",
        "candidates": "; ".join(
            f"{c.title}: {version(c)}" for c in CANDIDATES if c != TESSERA_INT8
        ),
        "ONNX Runtime": _installed("onnxruntime"),
        "command": f"`{command}`",
    }


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE)
    return done.stdout.strip() or "unknown" * (command[0] != "git")


def _installed(package: str) -> str:
    return importlib.metadata.version(package)


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
