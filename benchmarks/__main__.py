"""`python -m benchmarks [setup|quick|full]`: measure, and write benchmarks/RESULTS.md."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import compare, machine, results, servers, service
from benchmarks.candidates import BUILD, CANDIDATES, ROOT, install
from benchmarks.load import LoadFailed, build_pacer, check_tools
from benchmarks.servers import ServerFailed
from bundle import BundleError, open_bundle

_RAW = BUILD / "results.json"
# Of what is in it: figures kept by an older version of this code are of no use.
_FORM = 2

COMPARE = {
    "quick": compare.Plan(seconds=1, open_seconds=2.5, retries=0),
    "full": compare.Plan(rounds=7, seconds=3, open_seconds=10, open_rounds=3, retries=2),
}
SERVICE = {
    "quick": service.Plan(
        rounds=1,
        seconds=1,
        large_sides=(64, 256, 512, 1024, 2048, 4096),
        large_rounds=2,
        idle_seconds=4,
        contended_seconds=2,
    ),
    "full": service.Plan(),
}


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line; see `--help`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "verb",
        choices=["setup", "quick", "full", "report"],
        help="setup: install the peers; quick: 10 minutes; full: everything, about 45 "
        "minutes; report: write RESULTS.md again from the last figures",
    )
    parser.add_argument("--bundle", type=Path, default=ROOT / "models/photo-f8", metavar="DIR")
    parser.add_argument(
        "--only",
        default=",".join(candidate.key for candidate in CANDIDATES),
        help="candidates, comma-separated (default: %(default)s)",
    )
    parser.add_argument(
        "--part",
        choices=["compare", "service"],
        action="append",
        help="measure this alone, and keep the last figures of the other",
    )
    parser.add_argument(
        "--first",
        action="store_true",
        help="schedule servers and load before anything else on the machine, where other work "
        "can't be stopped; needs to be root",
    )
    parser.add_argument("--rounds", type=int, help="alternations, instead of the plan's")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Measure and write; 0, or 1 if something is missing or wrong."""
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    threads = len(os.sched_getaffinity(0))
    chosen = [c for c in CANDIDATES if c.key in options.only.split(",")]
    parts = options.part or ["compare", "service"]
    figures = last_figures()
    if options.first:
        servers.go_first = True
        servers.favour(os.getpid())
    try:
        if options.verb == "report":
            if not figures:
                print(
                    f"error: no figures in {_RAW}; run: python -m benchmarks quick", file=sys.stderr
                )
                return 1
            results.write(figures)
            return 0
        for candidate in chosen:
            install(candidate)
        check_tools()
        pacer = build_pacer(BUILD)
        if options.verb == "setup":
            return 0
        bundle = open_bundle(options.bundle)
        plans = COMPARE[options.verb], SERVICE[options.verb]
        if options.rounds:
            plans = tuple(_with_rounds(plan, options.rounds) for plan in plans)  # type: ignore[assignment]
        measure: dict[str, Callable[[], dict[str, Any]]] = {
            "compare": lambda: compare.compare(chosen, options.bundle, threads, plans[0], pacer),
            "service": lambda: service.measure(options.bundle, threads, plans[1], pacer),
        }
        command = " ".join(["python -m benchmarks", *(arguments or sys.argv[1:])])
        facts = machine.facts(bundle, threads, command)
        for part in parts:
            started = time.monotonic()
            figures[part] = measure[part]()
            took = f"{(time.monotonic() - started) / 60:.1f} minutes"
            keep(figures, part, {**facts, "took": took})
    except (BundleError, LoadFailed, ServerFailed) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    results.write(figures)
    print("benchmarks/RESULTS.md is written")
    return 0


def last_figures() -> dict[str, Any]:
    """What was measured last; empty if there is nothing that this version can read."""
    kept: dict[str, Any] = json.loads(_RAW.read_text()) if _RAW.exists() else {}
    return kept if kept.get("form") == _FORM else {}


def keep(figures: dict[str, Any], part: str, facts: dict[str, str]) -> None:
    """Write down figures, a part of them new and with these facts; those of the other stay."""
    figures["form"] = _FORM
    figures.setdefault("facts", {})[part] = facts
    _RAW.parent.mkdir(parents=True, exist_ok=True)
    _RAW.write_text(json.dumps(figures, indent=1))


def _with_rounds(plan: compare.Plan | service.Plan, rounds: int) -> compare.Plan | service.Plan:
    return dataclasses.replace(plan, rounds=rounds)


if __name__ == "__main__":
    raise SystemExit(main())
