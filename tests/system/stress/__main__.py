"""`python -m tests.system.stress overload|soak`: long runs against a real server (docs/stress.md).

Each run prints its table, writes it to runs/stress/, and docs/stress.md is made of the last of
each. The exit code is 1 if a promise was broken.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.system.stress import overload, soak
from tests.system.stress.verdict import ROOT, table

RUNS = ROOT / "runs" / "stress"

_HEAD = """# Under load and over time

Made by `make stress`; don't edit. What each run does is said at the top of its module in
`tests/system/stress/`; short versions of both are part of `make test`. `make stress` takes
35 minutes and wants a machine to itself.
"""

_PARTS = {"overload": ("Overload", overload), "soak": ("Soak", soak)}


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.system.stress", description=__doc__)
    parser.add_argument("--runs", type=Path, default=RUNS, help="folder for results")
    parser.add_argument("--report", type=Path, default=ROOT / "docs" / "stress.md")
    verbs = parser.add_subparsers(dest="verb", required=True)
    of_soak = verbs.add_parser("soak", help="mixed traffic with faults")
    of_soak.add_argument("--minutes", type=float, default=30)
    of_soak.add_argument("--rate", type=float, default=12, help="requests a second")
    of_soak.add_argument("--reload-every", type=float, default=150, help="seconds")
    of_soak.add_argument("--warm-up", type=float, default=10, help="minutes without slopes")
    of_soak.add_argument("--seed", type=int, default=1)
    of_overload = verbs.add_parser("overload", help="four times capacity")
    of_overload.add_argument("--seconds", type=float, default=60)
    of_overload.add_argument("--seed", type=int, default=1)
    verbs.add_parser("report", help="write the report again")
    asked = parser.parse_args()
    passed = True
    if asked.verb != "report":
        if asked.verb == "soak":
            plan = replace(
                soak.default_plan(asked.minutes, asked.rate, asked.seed),
                reload_every_s=asked.reload_every,
                warm_up_minutes=asked.warm_up,
            )
            result, _ = soak.run(plan)
        else:
            result, _ = overload.run(overload.default_plan(asked.seconds, asked.seed))
        asked.runs.mkdir(parents=True, exist_ok=True)
        (asked.runs / f"{asked.verb}.json").write_text(json.dumps(result, indent=1))
        passed = result["passed"]
        print(table(result))
    _report(asked.runs, asked.report)
    return 0 if passed else 1


def _report(runs: Path, report: Path) -> None:
    parts = [_HEAD]
    for verb, (title, module) in _PARTS.items():
        file = runs / f"{verb}.json"
        if file.exists():
            result: dict[str, Any] = json.loads(file.read_text())
            parts.append(f"## {title}\n\n{module.__doc__.strip()}\n\n{table(result)}\n")
    report.write_text("\n".join(parts))


if __name__ == "__main__":
    sys.exit(main())
