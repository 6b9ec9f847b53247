"""RESULTS.md and its plot, from what was measured."""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.candidates import CANDIDATES, TESSERA, TESSERA_INT8, TRITON, version
from benchmarks.load import FOREIGN_SHARE
from benchmarks.service import BARE, TOGETHER

HERE = Path(__file__).parent
_BEST_PEER = ("triton", "litserve", "bentoml", "torch")


def write(results: dict[str, Any]) -> None:
    """Write RESULTS.md and throughput.svg beside this file."""
    compared, alone = results.get("compare"), results.get("service")
    parts = [_head(results)]
    if compared:
        parts += [
            _targets(compared, alone),
            _closed(compared),
            _limit(compared),
            _open(compared),
        ]
        (HERE / "throughput.svg").write_text(_plot(compared))
    if alone:
        parts += [_operations(alone), _formats(alone), _large(alone), _rest(alone)]
    (HERE / "RESULTS.md").write_text("\n\n".join(part.strip() for part in parts if part) + "\n")


# --- sections ------------------------------------------------------------------------------------


def _head(results: dict[str, Any]) -> str:
    facts = results["facts"]
    lines = [
        "# Results",
        "Written by `make bench`; nothing here is edited by hand.",
        _table(("", ""), facts.items()),
    ]
    if "compare" in results and (warning := _disturbance(results["compare"]["closed"])):
        lines.append(warning)
    if "compare" in results:
        lines.append(
            "Everyone gets one JPEG a request, quality 90, cut from real photographs, and answers "
            "with its codes; the same ONNX graphs, ONNX Runtime and JPEG decoder (PyTorch runs the "
            "same weights), each server set up as its documentation recommends for throughput "
            "([peers/](peers/)). Server and load share the cores. Answers were compared with bare "
            "ONNX Runtime's codes before anything was timed: "
            + ", ".join(
                f"{_title(key)} {100 * share:.2f} %"
                for key, share in results["compare"]["checked"].items()
            )
            + " equal."
        )
    return "\n\n".join(lines)


def _disturbance(rows: list[dict[str, Any]]) -> str:
    """A warning, where the machine was not ours alone; empty where it was."""
    disturbed = sum(row["foreign_share"] > FOREIGN_SHARE for row in rows) / len(rows)
    if disturbed < 0.1:
        return ""
    middle = median(row["foreign_share"] for row in rows)
    return (
        f"**The machine was not quiet.** In {100 * disturbed:.0f} % of the measurements other "
        f"processes used more than {100 * FOREIGN_SHARE:.0f} % of a core (median of all "
        f"{100 * middle:.0f} %, most {100 * max(row['foreign_share'] for row in rows):.0f} %). "
        "Take ratios with that in mind, and absolute figures as a lower bound."
    )


def _closed(compared: dict[str, Any]) -> str:
    rows, disturbed = compared["closed"], 0
    lines = ["## Encode, closed loop", "![requests per second](throughput.svg)"]
    for side in _values(rows, "side"):
        for clients in _values(rows, "clients"):
            body = []
            reference = _median(rows, "per_second", key=TESSERA.key, side=side, clients=clients)
            for candidate in CANDIDATES:
                mine = _pick(rows, key=candidate.key, side=side, clients=clients)
                if not mine:
                    continue
                speed = median(row["per_second"] for row in mine)
                body.append(
                    (
                        candidate.title,
                        f"**{speed:.0f}**",
                        _spread(row["per_second"] for row in mine),
                        _times(reference, speed),
                        f"{median(row['p50_ms'] for row in mine):.1f}",
                        f"{median(row['p99_ms'] for row in mine):.1f}",
                        f"{median(row['cpu_ms'] for row in mine):.2f}",
                        sum(row["errors"] for row in mine),
                    )
                )
                disturbed += sum(row["foreign_share"] > FOREIGN_SHARE for row in mine)
            lines.append(
                f"### {side} × {side}, {clients} client{'s' * (clients > 1)}\n\n"
                + _table(
                    (
                        *("", "requests/s", "min–max", "Tessera is", "p50 ms", "p99 ms"),
                        *("CPU ms/request", "errors"),
                    ),
                    body,
                )
            )
    rounds = len(_pick(rows, key=rows[0]["key"], side=rows[0]["side"], clients=rows[0]["clients"]))
    lines.append(
        f"Medians of {rounds} alternations. In {disturbed} of {len(rows)} single measurements "
        f"other processes used more than {100 * FOREIGN_SHARE:.0f} % of a core."
    )
    lines.append(
        "Peak memory of all of a server's processes, MiB: "
        + ", ".join(f"{_title(k)} {v:.0f}" for k, v in compared["peak_memory_mib"].items())
        + "."
    )
    return "\n\n".join(lines)


def _limit(compared: dict[str, Any]) -> str:
    body = []
    for precision, key in (("fp32", TESSERA.key), ("int8", TESSERA_INT8.key)):
        for side in _values(compared["bare"], "side"):
            bare = _pick(compared["bare"], precision=precision, side=side)
            most = max(_values(compared["closed"], "clients"))
            speed = _median(compared["closed"], "per_second", key=key, side=side, clients=most)
            if not bare or speed is None:
                continue
            limit = median(row["per_second"] for row in bare)
            body.append(
                (
                    f"{side} × {side}, {precision}",
                    f"{limit:.0f}",
                    _spread(row["per_second"] for row in bare),
                    f"{bare[0]['layout']}, batch {bare[0]['batch']}",
                    f"{speed:.0f}",
                    f"{100 * speed / limit:.0f} %",
                )
            )
    return (
        "## Against bare ONNX Runtime\n\nEncoder and quantizer alone, pixels already in memory, in "
        "the layout of threads (one run on all, or one run on each) and the batch that were "
        "fastest of all tried.\n\n"
        + _table(("", "bare images/s", "min–max", "layout", "Tessera, 32 clients", "share"), body)
    )


def _open(compared: dict[str, Any]) -> str:
    rows = compared["open"]
    if not rows:
        return ""
    lines = [
        "## Encode, open loop",
        "Requests come at random (Poisson) moments, the same for everyone, at shares of what "
        "Triton can do; latency counts from the moment a request was due.",
    ]
    for side in _values(rows, "side"):
        for share in _values(rows, "share"):
            body = []
            for candidate in CANDIDATES:
                mine = _pick(rows, key=candidate.key, side=side, share=share)
                if mine:
                    body.append(
                        (
                            candidate.title,
                            *(
                                f"{median(row[f'{name}_ms'] for row in mine):.1f}"
                                for name in ("p50", "p90", "p99", "max")
                            ),
                            sum(row["errors"] for row in mine),
                        )
                    )
                elif _pick(compared["closed"], key=candidate.key, side=side):
                    body.append((candidate.title, *["can't do as much", "", "", "", ""]))
            rate = _pick(rows, side=side, share=share)[0]["rate"]
            lines.append(
                f"### {side} × {side}, {100 * share:.0f} % of Triton: {rate:.0f} requests/s\n\n"
                + _table(("", "p50 ms", "p90 ms", "p99 ms", "max ms", "lost or refused"), body)
            )
    return "\n\n".join(lines)


def _targets(compared: dict[str, Any], alone: dict[str, Any] | None) -> str:
    closed, opened = compared["closed"], compared["open"]

    def speed(key: str, side: int, clients: int) -> float:
        # Who answered nothing in time must not stop the report.
        return _median(closed, "per_second", key=key, side=side, clients=clients) or 1e-9

    body: list[tuple[str, str, str, str]] = []

    def target(text: str, measured: float, bound: float, unit: str, *, least: bool = True) -> None:
        met = measured >= bound if least else measured <= bound
        sign = "≥" if least else "≤"
        body.append(
            (
                text,
                f"{sign} {bound:g}{unit}",
                f"{measured:.2f}{unit}",
                "met" if met else "**missed**",
            )
        )

    sides, clients = _values(closed, "side"), _values(closed, "clients")
    for many in (8, 32):
        if many not in clients or TRITON.key not in _values(closed, "key"):
            continue
        for side, least in ((64, 1.8), (256, 1.2)):
            if side in sides:
                target(
                    f"{side}², {many} clients, against Triton",
                    speed(TESSERA.key, side, many) / speed(TRITON.key, side, many),
                    least,
                    "×",
                )
        target(
            f"64², {many} clients, against LitServe",
            speed(TESSERA.key, 64, many) / speed("litserve", 64, many),
            2.5,
            "×",
        )
        target(
            f"256², {many} clients, int8 against Triton's fp32",
            speed(TESSERA_INT8.key, 256, many) / speed(TRITON.key, 256, many),
            2.5,
            "×",
        )
    if 1 in clients:
        for side in sides:
            mine, theirs = (
                _median(closed, "p50_ms", key=key, side=side, clients=1) or 1.0
                for key in (TESSERA.key, TRITON.key)
            )
            target(f"{side}², one client, p50 against Triton", mine / theirs, 0.7, "×", least=False)
    for side, least in ((64, 70), (256, 95)):
        bare = _median(compared["bare"], "per_second", precision="fp32", side=side)
        if bare:
            share = 100 * speed(TESSERA.key, side, max(clients)) / bare
            target(f"{side}², share of bare ONNX Runtime", share, least, " %")
    for side in _values(opened, "side"):
        half = _pick(opened, side=side, share=0.5)
        p99 = {key: _median(half, "p99_ms", key=key) for key in _values(half, "key")}
        best = min(p99[key] for key in _BEST_PEER if key in p99)
        target(
            f"{side}², p99 at 50 % load against the best peer",
            p99.get(TESSERA.key, math.inf) / best,
            1,
            "×",
            least=False,
        )
        lost = sum(r["errors"] for r in _pick(opened, key=TESSERA.key, side=side))
        target(f"{side}², lost or refused in the open loop", lost, 0, "", least=False)
    errors = sum(row["errors"] for row in _pick(closed, key=TESSERA.key))
    target("errors in the closed loop", errors, 0, "", least=False)
    if alone:
        mixed = alone["mixed"]
        target(
            "mixed load, of the sum of its parts",
            100 * mixed["measured"] / mixed["expected"],
            80,
            " %",
        )
        target("idle, of one core", 100 * alone["idle"]["core_share"], 1, " %", least=False)
        costs = [r["ms_per_megapixel"] for r in alone["large"] if r["side"] >= 512]
        if len(costs) > 1:
            target(
                "spread of the cost of a megapixel from 512² up",
                100 * (max(costs) / min(costs) - 1),
                20,
                " %",
                least=False,
            )
        for side in _values(alone["operations"], "side"):
            for how in ("", f", {TOGETHER} a request"):
                encoded, classified = (
                    _median(alone["operations"], "per_second", title=title + how, side=side)
                    for title in ("encode JPEG", "classify codes")
                )
                if encoded and classified:
                    text = f"{side}², classify codes against encode{how}"
                    target(text, classified / encoded, 5, "×")
        for side in _values(alone["contention"], "side"):
            mine, bare = (_kept(alone["contention"], key, side) for key in (TESSERA.key, BARE))
            text = f"{side}², speed kept with a core contended, of what bare ONNX Runtime keeps"
            target(text, 100 * mine / bare, 95, " %")
    return "## Targets\n\n" + _table(("", "target", "measured", ""), body)


def _operations(alone: dict[str, Any]) -> str:
    rows, body = alone["operations"], []
    for side in _values(rows, "side"):
        for title in _values(rows, "title"):
            mine = _pick(rows, side=side, title=title)
            speed = median(row["per_second"] for row in mine)
            limit = median(row["bare_per_second"] for row in mine)
            body.append(
                (
                    f"{title}, {side} × {side}",
                    f"**{speed:.0f}**",
                    _spread(row["per_second"] for row in mine),
                    f"{median(row['p50_ms'] for row in mine):.1f}",
                    f"{median(row['p99_ms'] for row in mine):.1f}",
                    f"{limit:.0f}",
                    f"{100 * speed / limit:.0f} %",
                    sum(row["errors"] for row in mine),
                )
            )
    return (
        "## Decode, embed and classify, 8 clients\n\nBeside the graphs alone in ONNX Runtime: the "
        "decoder; the embedder; the recognizer; for JPEG encoder and quantizer.\n\n"
        + _table(("", "images/s", "min–max", "p50 ms", "p99 ms", "bare/s", "share", "errors"), body)
    )


def _formats(alone: dict[str, Any]) -> str:
    body = [
        (
            f"{row['side']} × {row['side']}",
            f"`{row['form']}`",
            f"{row['bytes']:,}",
            f"{row['stage_ms']:.2f}",
            f"{row['decode_total_ms']:.1f}",
        )
        for row in alone["formats"]
    ]
    return (
        "## Forms of codes\n\nOne request at a time; the last column is a whole decoding to npy, "
        "which differs between forms by what reading them costs.\n\n"
        + _table(("image", "form", "bytes", "writing, ms", "decode request, ms"), body)
    )


def _large(alone: dict[str, Any]) -> str:
    first, *rows = alone["large"]
    body = [
        (
            f"{row['side']} × {row['side']}",
            f"{row['ms']:.1f}",
            f"{row['ms_per_megapixel']:.0f}",
            f"{row['memory_mib']:.0f}",
        )
        for row in rows
    ]
    return (
        "## Large images\n\nOne JPEG at a time, answered with codes. Memory is the process's peak "
        f"so far, {first['memory_mib']:.0f} MiB before the first; what bounds it is "
        "`TESSERA_MAX_PIXELS`, 25 megapixels unless set.\n\n"
        + _table(("image", "ms", "ms per megapixel", "peak memory, MiB"), body)
    )


def _rest(alone: dict[str, Any]) -> str:
    mixed, idle = alone["mixed"], alone["idle"]
    contention = _table(
        ("", "free, images/s", "a core contended", "kept"),
        [
            (
                f"{_title(row['key'])}, {row['side']} × {row['side']}",
                f"{row['free']:.0f}",
                f"{row['taken']:.0f}",
                f"{100 * row['taken'] / row['free']:.0f} %",
            )
            for row in alone["contention"]
        ],
    )
    parts = _table(
        ("part", "share of requests", "alone, requests/s"),
        [
            (name, f"{100 * mixed['shares'][name]:.0f} %", f"{speed:.1f}")
            for name, speed in mixed["alone"].items()
        ],
    )
    return (
        "## Mixed load, 16 clients\n\n"
        f"{parts}\n\nTogether {mixed['measured']:.1f} requests/s, where the parts add up to "
        f"{mixed['expected']:.1f}: {100 * mixed['measured'] / mixed['expected']:.0f} %; p99 "
        f"{mixed['p99_ms']:.0f} ms, {mixed['errors']} errors. Peak memory afterwards "
        f"{alone['memory_after_mixed_mib']:.0f} MiB.\n\n"
        "## Idle, and with a core contended\n\n"
        f"Idle for {idle['seconds']:.0f} s, Tessera used {100 * idle['core_share']:.2f} % of one "
        "core. With 8 clients, while another process, in a scheduling group of its own, spins on "
        "one of the cores; bare ONNX Runtime, a run on each core, shows what can be kept:\n\n"
        + contention
    )


# --- facts ---------------------------------------------------------------------------------------


def facts(bundle: Any, threads: int, commands: Sequence[str], minutes: float) -> dict[str, str]:
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
        "commands": "; ".join(f"`{command}`" for command in commands),
        "took": f"{minutes:.0f} minutes",
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


# --- tables --------------------------------------------------------------------------------------


def _pick(rows: Iterable[dict[str, Any]], **fields: Any) -> list[dict[str, Any]]:
    return [row for row in rows if all(row[name] == value for name, value in fields.items())]


def _median(rows: Iterable[dict[str, Any]], what: str, **fields: Any) -> Any:
    values = [row[what] for row in _pick(rows, **fields)]
    return median(values) if values else None


def _values(rows: Iterable[dict[str, Any]], name: str) -> list[Any]:
    return list(dict.fromkeys(row[name] for row in rows))


def _kept(rows: Iterable[dict[str, Any]], key: str, side: int) -> float:
    (row,) = _pick(rows, key=key, side=side)
    return float(row["taken"] / row["free"])


def _title(key: str) -> str:
    if key == BARE:
        return "bare ONNX Runtime"
    return next(candidate.title for candidate in CANDIDATES if candidate.key == key)


def _times(ours: float | None, theirs: float) -> str:
    return f"{ours / theirs:.2f}×" if ours and theirs else "–"


def _spread(values: Iterable[float]) -> str:
    known = list(values)
    return f"{min(known):.0f}–{max(known):.0f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


# --- the plot ------------------------------------------------------------------------------------

_WIDTH, _BAR, _LABELS = 760, 22, 150


def _plot(compared: dict[str, Any]) -> str:
    """Requests per second at the most clients: a bar each, its spread, and the bare limit."""
    rows = compared["closed"]
    most = max(_values(rows, "clients"))
    drawn, top = [], 10
    for side in _values(rows, "side"):
        bars = [
            (c, values)
            for c in CANDIDATES
            if (
                values := [
                    row["per_second"] for row in _pick(rows, key=c.key, side=side, clients=most)
                ]
            )
        ]
        limits = [
            (precision, _median(compared["bare"], "per_second", precision=precision, side=side))
            for precision in ("fp32", "int8")
        ]
        longest = max([max(v) for _, v in bars] + [limit for _, limit in limits if limit])
        scale = (_WIDTH - _LABELS - 60) / longest
        drawn.append(
            f'<text x="0" y="{top + 14}" class="title">{side} × {side} JPEG → codes, {most} '
            "clients, requests per second</text>"
        )
        top += 26
        height = len(bars) * (_BAR + 6)
        for precision, limit in limits:
            if limit:
                x = _LABELS + limit * scale
                drawn.append(
                    f'<line x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{top + height}" '
                    f'class="limit"/><text x="{x:.1f}" y="{top + height + 12}" class="note" '
                    f'text-anchor="middle">bare {precision} {limit:.0f}</text>'
                )
        for candidate, values in bars:
            middle = median(values)
            kind = "ours" if candidate in (TESSERA, TESSERA_INT8) else "peer"
            y = top + _BAR / 2
            low, high = (_LABELS + value * scale for value in (min(values), max(values)))
            drawn.append(
                f'<text x="{_LABELS - 8}" y="{y + 4}" text-anchor="end">{candidate.title}</text>'
                f'<rect x="{_LABELS}" y="{top}" width="{middle * scale:.1f}" height="{_BAR}" '
                f'class="{kind}"/>'
                f'<line x1="{low:.1f}" y1="{y}" x2="{high:.1f}" y2="{y}" class="spread"/>'
                f'<text x="{high + 6:.1f}" y="{y + 4}">{middle:.0f}</text>'
            )
            top += _BAR + 6
        top += 30
    style = (
        "text{font:12px sans-serif;fill:#222}.title{font-weight:bold}"
        ".note{fill:#666;font-size:11px}"
        ".ours{fill:#c0562f}.peer{fill:#9aa5b1}.spread{stroke:#222;stroke-width:2}"
        ".limit{stroke:#666;stroke-dasharray:4 3}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top}" width="{_WIDTH}" '
        f'height="{top}"><rect width="100%" height="100%" fill="#fff"/><style>{style}</style>'
        + "".join(drawn)
        + "</svg>\n"
    )
