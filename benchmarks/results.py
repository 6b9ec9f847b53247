"""RESULTS.md, from what was measured."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.candidates import CANDIDATES, TESSERA, TESSERA_INT8
from benchmarks.load import FOREIGN_SHARE
from benchmarks.plot import plot
from benchmarks.rows import middle, pick, spread, table, times, values
from benchmarks.service import BARE
from benchmarks.targets import targets

HERE = Path(__file__).parent
_PARTS = {"compare": "beside peers", "service": "Tessera alone"}


def write(results: dict[str, Any]) -> None:
    """Write RESULTS.md and throughput.svg beside this file.

    Args:
        results: under `compare` and `service` what these returned, either of them alone if need
            be; under `facts` for each of the two what `facts` returned.
    """
    compared, alone = results.get("compare"), results.get("service")
    parts = [_head(results)]
    if compared:
        parts += [
            _targets(compared, alone),
            _closed(compared),
            _limit(compared),
            _open(compared),
        ]
        (HERE / "throughput.svg").write_text(plot(compared))
    if alone:
        parts += [_operations(alone), _formats(alone), _large(alone), _rest(alone)]
    (HERE / "RESULTS.md").write_text("\n\n".join(part.strip() for part in parts if part) + "\n")


# --- sections ------------------------------------------------------------------------------------


def _head(results: dict[str, Any]) -> str:
    lines = [
        "# Results",
        "Written by `make bench`; nothing here is edited by hand.",
        table(("", ""), _facts(results["facts"])),
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


def _facts(by_part: dict[str, dict[str, str]]) -> list[tuple[str, str]]:
    """Each fact with its value, or with that of each part where they differ."""
    rows = []
    for name in dict.fromkeys(name for known in by_part.values() for name in known):
        found = {part: known.get(name, "unknown") for part, known in by_part.items()}
        each = "; ".join(f"{_PARTS[part]}: {value}" for part, value in found.items())
        rows.append((name, each if len(set(found.values())) > 1 else next(iter(found.values()))))
    return rows


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
    for side in values(rows, "side"):
        for clients in values(rows, "clients"):
            body = []
            reference = middle(rows, "per_second", key=TESSERA.key, side=side, clients=clients)
            for candidate in CANDIDATES:
                mine = pick(rows, key=candidate.key, side=side, clients=clients)
                if not mine:
                    continue
                speed = median(row["per_second"] for row in mine)
                body.append(
                    (
                        candidate.title,
                        f"**{speed:.0f}**",
                        spread(row["per_second"] for row in mine),
                        times(reference, speed),
                        f"{median(row['p50_ms'] for row in mine):.1f}",
                        f"{median(row['p99_ms'] for row in mine):.1f}",
                        f"{median(row['cpu_ms'] for row in mine):.2f}",
                        sum(row["errors"] for row in mine),
                    )
                )
                disturbed += sum(row["foreign_share"] > FOREIGN_SHARE for row in mine)
            lines.append(
                f"### {side} × {side}, {clients} client{'s' * (clients > 1)}\n\n"
                + table(
                    (
                        *("", "requests/s", "min–max", "Tessera is", "p50 ms", "p99 ms"),
                        *("CPU ms/request", "errors"),
                    ),
                    body,
                )
            )
    rounds = len(pick(rows, key=rows[0]["key"], side=rows[0]["side"], clients=rows[0]["clients"]))
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
        for side in values(compared["bare"], "side"):
            bare = pick(compared["bare"], precision=precision, side=side)
            most = max(values(compared["closed"], "clients"))
            speed = middle(compared["closed"], "per_second", key=key, side=side, clients=most)
            if not bare or speed is None:
                continue
            limit = median(row["per_second"] for row in bare)
            body.append(
                (
                    f"{side} × {side}, {precision}",
                    f"{limit:.0f}",
                    spread(row["per_second"] for row in bare),
                    f"{bare[0]['layout']}, batch {bare[0]['batch']}",
                    f"{speed:.0f}",
                    f"{100 * speed / limit:.0f} %",
                )
            )
    return (
        "## Against bare ONNX Runtime\n\nEncoder and quantizer alone, pixels already in memory, in "
        "the layout of threads (one run on all, or one run on each) and the batch that were "
        "fastest of those tried.\n\n"
        + table(("", "bare images/s", "min–max", "layout", "Tessera, 32 clients", "share"), body)
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
    for side in values(rows, "side"):
        for share in values(rows, "share"):
            body = []
            for candidate in CANDIDATES:
                mine = pick(rows, key=candidate.key, side=side, share=share)
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
                elif pick(compared["closed"], key=candidate.key, side=side):
                    body.append((candidate.title, *["can't do as much", "", "", "", ""]))
            rate = pick(rows, side=side, share=share)[0]["rate"]
            lines.append(
                f"### {side} × {side}, {100 * share:.0f} % of Triton: {rate:.0f} requests/s\n\n"
                + table(("", "p50 ms", "p90 ms", "p99 ms", "max ms", "lost or refused"), body)
            )
    return "\n\n".join(lines)


def _targets(compared: dict[str, Any], alone: dict[str, Any] | None) -> str:
    body = [
        (
            target.text,
            f"{'≥' if target.least else '≤'} {target.bound:g}{target.unit}",
            f"{target.measured:.2f}{target.unit}",
            "met" if target.met else "**missed**",
        )
        for target in targets(compared, alone)
    ]
    return "## Targets\n\n" + table(("", "target", "measured", ""), body)


def _operations(alone: dict[str, Any]) -> str:
    rows, body = alone["operations"], []
    for side in values(rows, "side"):
        for title in values(rows, "title"):
            mine = pick(rows, side=side, title=title)
            speed = median(row["per_second"] for row in mine)
            limit = median(row["bare_per_second"] for row in mine)
            body.append(
                (
                    f"{title}, {side} × {side}",
                    f"**{speed:.0f}**",
                    spread(row["per_second"] for row in mine),
                    f"{median(row['p50_ms'] for row in mine):.1f}",
                    f"{median(row['p99_ms'] for row in mine):.1f}",
                    f"{limit:.0f}",
                    f"{100 * speed / limit:.0f} %",
                    sum(row["errors"] for row in mine),
                )
            )
    return (
        "## Decode, embed and classify, 8 clients\n\nBeside the graphs alone in ONNX Runtime: the "
        "decoder; the embedder; the recognizer; for JPEG encoder and quantizer. Requests of "
        "several images are worked off to the last answer, the others counted for a while.\n\n"
        + table(("", "images/s", "min–max", "p50 ms", "p99 ms", "bare/s", "share", "errors"), body)
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
        + table(("image", "form", "bytes", "writing, ms", "decode request, ms"), body)
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
        + table(("image", "ms", "ms per megapixel", "peak memory, MiB"), body)
    )


def _rest(alone: dict[str, Any]) -> str:
    mixed, idle = alone["mixed"], alone["idle"]
    contention = table(
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
    parts = table(
        ("part", "share of requests", "alone, requests/s"),
        [
            (name, f"{100 * mixed['shares'][name]:.1f} %", f"{speed:.1f}")
            for name, speed in mixed["alone"].items()
        ],
    )
    return (
        "## Mixed load, 16 clients\n\n"
        "Each part's requests are worked off to the last answer, then all of them mixed.\n\n"
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


# --- tables --------------------------------------------------------------------------------------


def _title(key: str) -> str:
    if key == BARE:
        return "bare ONNX Runtime"
    return next(candidate.title for candidate in CANDIDATES if candidate.key == key)
