"""What a run must show: measured values against limits, and the facts of where it ran."""

from __future__ import annotations

import itertools
import os
import platform
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True, slots=True)
class Check:
    """One promise held against what was measured.

    Attributes:
        promise: what must hold, limit included.
        measured: what was found, in words.
        kept: whether it holds.
    """

    promise: str
    measured: str
    kept: bool


def conditions() -> dict[str, str]:
    """Where and with what a run was made."""
    processor = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            processor = line.partition(":")[2].strip()
            break
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "commit": _commit(),
        "machine": f"{processor}; {len(os.sched_getaffinity(0))} cores for server and load",
        "versions": f"Python {platform.python_version()}, ONNX Runtime {version('onnxruntime')}",
        "command": " ".join(["python -m tests.system.stress", *_verb_on(sys.argv[1:])]),
    }


def _verb_on(arguments: list[str]) -> list[str]:
    """What says what was done; where its result went is nobody's business."""
    return list(itertools.dropwhile(lambda word: word not in {"soak", "overload"}, arguments))


def _commit() -> str:
    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    changed = git(
        *("status", "--porcelain", "--untracked-files=no"),
        *("app", "bundle", "imaging", "tests/system/stress"),
    )
    return (git("rev-parse", "--short=10", "HEAD") or "unknown") + (
        " with changes" if changed else ""
    )


def outcome(checks: list[Check], facts: list[tuple[str, str]]) -> dict[str, Any]:
    """A run as it is written down."""
    return {
        "conditions": conditions(),
        "checks": [asdict(check) for check in checks],
        "facts": facts,
        "passed": all(check.kept for check in checks),
    }


def table(result: dict[str, Any]) -> str:
    """A run as two Markdown tables."""
    lines = ["| promise | measured | |", "|---|---|---|"]
    lines += [
        f"| {c['promise']} | {c['measured']} | {'kept' if c['kept'] else '**broken**'} |"
        for c in result["checks"]
    ]
    lines += ["", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in result["facts"]]
    lines += [
        f"| {name} | {_quoted(name, value)} |" for name, value in result["conditions"].items()
    ]
    return "\n".join(lines)


def _quoted(name: str, value: str) -> str:
    return f"`{value}`" if name in {"commit", "command"} else value
