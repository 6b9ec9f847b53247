"""Tessera alone: each operation, formats, large images, mixed load, memory, idleness."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import servers
from benchmarks.bare import BareWorker
from benchmarks.candidates import BUILD, TESSERA, TRITON, start
from benchmarks.inputs import jpegs, write_requests
from benchmarks.load import closed_loop, work_off
from benchmarks.requests import (
    NPY,
    PACKED,
    answers,
    classify_request,
    codes_of,
    decode_request,
    default_model,
    embed_request,
    encode_many_request,
    encode_request,
    stage_ms,
)
from benchmarks.servers import Server, ServerFailed, send

TOGETHER = 16
BARE = "bare"


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        rounds: alternations.
        seconds: of one measurement, where it isn't a list that is worked off.
        large_sides: of the images that the cost of a megapixel is measured with.
        large_rounds: requests of each of them.
        idle_seconds: for how long idleness is watched.
        contended_seconds: of one measurement beside another process.
    """

    rounds: int = 5
    seconds: float = 2
    large_sides: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048, 4096)
    large_rounds: int = 3
    idle_seconds: float = 20
    contended_seconds: float = 5


def measure(bundle: Path, threads: int, plan: Plan, pacer: Path) -> dict[str, Any]:
    """All of it, on servers started for it."""
    results: dict[str, Any] = {}
    with (
        start(TESSERA, bundle, threads) as server,
        BareWorker(bundle, "fp32", threads) as bare,
    ):
        server.wait_ready()
        steps: tuple[tuple[str, Callable[[], Any]], ...] = (
            ("idle", lambda: idle(server, plan)),
            ("operations", lambda: operations(server, bare, plan, pacer)),
            ("formats", lambda: formats(server, plan)),
            ("mixed", lambda: mixed(server, plan, pacer)),
        )
        for name, step in steps:
            print(f"Tessera alone: {name}", flush=True)
            results[name] = step()
        results["memory_after_mixed_mib"] = server.peak_memory_mib()
    print("Tessera alone: large images", flush=True)
    results["large"] = large(bundle, threads, plan)
    print("Tessera and Triton: a core contended", flush=True)
    results["contention"] = contention(bundle, threads, plan)
    return results


# --- measurements --------------------------------------------------------------------------------


def operations(server: Server, bare: BareWorker, plan: Plan, pacer: Path) -> list[dict[str, Any]]:
    """Encoding, decoding, embedding and, where the model carries a recognizer, classifying.

    8 clients, one image or grid in a request, or `TOGETHER` where the title says so, beside ONNX
    Runtime alone in turn. `per_second` counts images and grids.
    """
    rows = []
    recognizes = bool(default_model(server)["recognizers"])
    kinds: list[tuple[str, str, int, list[bytes]]] = []
    many = f", {TOGETHER} a request"
    for side in (64, 256):
        files = jpegs(side)
        codes = codes_of(server, files)
        kinds.append(("encode JPEG", "encode", side, [encode_request(jpeg) for jpeg in files]))
        for title, accept in (
            ("decode to PNG", "image/png"),
            ("decode to WebP", "image/webp"),
            ("decode to JPEG", "image/jpeg"),
            ("decode to npy", NPY),
        ):
            kinds.append((title, "decode", side, [decode_request(c, accept) for c in codes]))
        kinds.append(("embed codes", "embed", side, [embed_request(c, PACKED) for c in codes]))
        if recognizes:
            asked = [classify_request(c) for c in codes]
            kinds.append(("classify codes", "recognize", side, asked))
            groups = [files[i : i + TOGETHER] for i in range(0, len(files), TOGETHER)]
            encoding = [encode_many_request(group) for group in groups]
            asked = [classify_request(c) for c in answers(server, encoding)]
            # The images of all clients share batches, so that many requests end together: they
            # are counted to the end, some seconds of work.
            encoding = list(islice(cycle(encoding), 128 if side == 64 else 16))
            kinds.append((f"encode JPEG{many}", "encode", side, encoding))
            asked = list(islice(cycle(asked), 128))
            kinds.append((f"classify codes{many}", "recognize", side, asked))
        kinds.append(
            ("embed JPEG", "encode", side, [embed_request(j, "image/jpeg") for j in files])
        )
    for _ in range(plan.rounds):
        for title, what, side, requests in kinds:
            path = write_requests(BUILD / "requests/operation.bin", requests)
            layout, batch = bare.best(what, side, plan.seconds / 5)
            if title.endswith(many):
                result = work_off(server, path, pacer, 8)
                result["per_second"] *= TOGETHER
            else:
                result = closed_loop(server, path, 8, plan.seconds)
            server.wait_idle()
            limit = bare.rate(what, side, layout, batch, plan.seconds / 2)
            rows.append({"title": title, "side": side, "bare_per_second": limit, **result})
    return rows


def formats(server: Server, plan: Plan) -> list[dict[str, Any]]:
    """The same codes as JSON, npy and packed: bytes, and milliseconds of one request.

    `stage_ms` is what the service says it took to write the answer (`Server-Timing`, `encode`);
    decoding's `total_ms` shows what reading the form costs.
    """
    rows = []
    for side in (256, 1024):
        (jpeg,) = jpegs(side, 1)
        for form, query in (("application/json", ""), (NPY, "?model="), (PACKED, "")):
            (codes,) = codes_of(server, [jpeg], form)
            to_codes = encode_request(jpeg, form)
            model = default_model(server)["name"] if query else ""
            back = decode_request(codes, NPY, form, query + model)
            writing, reading = [], []
            for _ in range(max(5, plan.rounds)):
                _, headers, _ = send(server.port, to_codes)
                writing.append(stage_ms(headers, "encode"))
                reading.append(_timed(server, back))
            rows.append(
                {
                    "side": side,
                    "form": form,
                    "bytes": len(codes),
                    "stage_ms": median(writing),
                    "decode_total_ms": median(reading),
                }
            )
    return rows


def mixed(server: Server, plan: Plan, pacer: Path) -> dict[str, Any]:
    """Sizes 64 to 1024; encode, decode and embed together, against each of them alone.

    16 clients work off one list of requests that has all parts evenly spread, and the same
    requests part by part. Each run is counted to its last answer, so both have done the same work:
    the parts' times added up are what the mix should take. A run's end, where fewer than 16 are
    left, comes nine times in the parts and once in the mix, which may so be a little faster.
    """
    parts: dict[str, list[bytes]] = {}
    # So many that large and small take about as long.
    for side, count in ((64, 384), (256, 48), (1024, 6)):
        files = jpegs(side, min(count, 48))
        codes = codes_of(server, files)
        for title, requests in (
            ("encode", [encode_request(jpeg) for jpeg in files]),
            ("decode", [decode_request(c, "image/webp") for c in codes]),
            ("embed", [embed_request(j, "image/jpeg") for j in files]),
        ):
            parts[f"{title} {side}²"] = list(islice(cycle(requests), count))
    everything = _interleaved(list(parts.values()))
    errors = 0

    def seconds(requests: Sequence[bytes]) -> tuple[float, float]:
        """That these requests take, and the p99 of their latencies in milliseconds."""
        nonlocal errors
        path = write_requests(BUILD / "requests/mixed.bin", requests)
        result = work_off(server, path, pacer, 16)
        errors += result["errors"]
        return result["seconds"], result["p99_ms"]

    alone: dict[str, list[float]] = {name: [] for name in parts}
    together: list[tuple[float, float]] = []
    for _ in range(-(-plan.rounds // 2)):
        for name, requests in parts.items():
            alone[name].append(seconds(requests)[0])
        together.append(seconds(everything))
    took = {name: median(values) for name, values in alone.items()}
    return {
        "alone": {name: len(requests) / took[name] for name, requests in parts.items()},
        "shares": {name: len(requests) / len(everything) for name, requests in parts.items()},
        "expected": len(everything) / sum(took.values()),
        "measured": len(everything) / median(taken for taken, _ in together),
        "errors": errors,
        "p99_ms": median(p99 for _, p99 in together),
    }


def large(bundle: Path, threads: int, plan: Plan) -> list[dict[str, Any]]:
    """One image at a time, ever larger: milliseconds a megapixel, and the peak of memory so far."""
    rows = []
    with start(TESSERA, bundle, threads) as server:
        server.wait_ready()
        rows.append({"side": 0, "memory_mib": server.peak_memory_mib()})
        for side in plan.large_sides:
            raw = encode_request(jpegs(side, 1)[0])
            repeats = plan.large_rounds if side >= 2048 else max(plan.large_rounds, 5)
            _timed(server, raw)
            took = median([_timed(server, raw) for _ in range(repeats)])
            rows.append(
                {
                    "side": side,
                    "ms": took,
                    "ms_per_megapixel": took / (side * side / 1e6),
                    "memory_mib": server.peak_memory_mib(),
                }
            )
    return rows


def idle(server: Server, plan: Plan) -> dict[str, float]:
    """CPU used while nobody asks anything."""
    time.sleep(1)
    used, started = server.cpu_s(), time.monotonic()
    time.sleep(plan.idle_seconds)
    return {
        "seconds": time.monotonic() - started,
        "core_share": (server.cpu_s() - used) / (time.monotonic() - started),
    }


def contention(bundle: Path, threads: int, plan: Plan) -> list[dict[str, Any]]:
    """Throughput while another process wants all of one core, against without it.

    The other process is pinned to the last of our cores and has a scheduling group of its own
    (`sched_autogroup`), as a neighbour has. How much of that core Linux leaves to us depends on
    both groups' load everywhere, so bare ONNX Runtime, a run on each core, shows what can be kept.
    """
    rows = []
    with BareWorker(bundle, "fp32", threads) as bare:
        for side in (64, 256):
            alone = partial(bare.rate, "encode", side, "apart", 1, plan.contended_seconds)
            rows.append({"key": BARE, "side": side, **_contended(alone, plan.rounds)})
    for candidate in (TESSERA, TRITON):
        with start(candidate, bundle, threads) as server:
            server.wait_ready()
            for side in (64, 256):
                asked = [candidate.ask(jpeg) for jpeg in jpegs(side)]
                path = write_requests(BUILD / "requests/contention.bin", asked)
                closed_loop(server, path, 8, 1)  # to warm up, not counted
                served = partial(_served, server, path, plan.contended_seconds)
                rows.append({"key": candidate.key, "side": side, **_contended(served, plan.rounds)})
    return rows


def _served(server: Server, path: Path, seconds: float) -> float:
    """Requests per second of 8 clients, all answered before this returns."""
    result = closed_loop(server, path, 8, seconds)
    server.wait_idle()
    return float(result["per_second"])


def _contended(rate: Callable[[], float], rounds: int) -> dict[str, float]:
    """A rate alone and beside a process that spins, in turn."""
    core = max(os.sched_getaffinity(0))
    spin = f"import os\nos.sched_setaffinity(0, {{{core}}})\nwhile True: pass"
    free, taken = [], []
    for _ in range(rounds):
        free.append(rate())
        other = subprocess.Popen([sys.executable, "-c", spin], start_new_session=True)
        if servers.go_first:
            servers.favour(other.pid)
        try:
            taken.append(rate())
        finally:
            other.kill()
            other.wait()
    return {"free": median(free), "taken": median(taken)}


# --- details -------------------------------------------------------------------------------------


def _interleaved(parts: Sequence[Sequence[bytes]]) -> list[bytes]:
    """All of them in one list, each part evenly spread over it."""
    placed = [((i + 0.5) / len(part), one) for part in parts for i, one in enumerate(part)]
    return [one for _, one in sorted(placed, key=lambda pair: pair[0])]


def _timed(server: Server, raw: bytes) -> float:
    """Milliseconds of one request, connecting included."""
    started = time.perf_counter()
    status, _, body = send(server.port, raw)
    if status != 200:
        raise ServerFailed(f"answers {status}: {body[:300]!r}")
    return (time.perf_counter() - started) * 1000
