"""Tessera and its peers in turn: closed loop, then open loop at shares of what Triton can do."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.bare import BareWorker, Graphs
from benchmarks.candidates import BUILD, TESSERA_INT8, TRITON, Candidate, start
from benchmarks.inputs import jpegs, pixels, write_requests
from benchmarks.load import FOREIGN_SHARE, closed_loop, open_loop
from benchmarks.servers import Server, ServerFailed, send
from bundle import open_bundle

AGREEMENT = 0.999
SHARES = (0.5, 0.9)


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        sides: of the JPEGs, in pixels.
        clients: of the closed loop.
        rounds: alternations; each measures everything once.
        seconds: of one measurement; twice as many for large images and several clients, where
            a batch that just misses the end would count.
        open_seconds: of one measurement of the open loop; 0 leaves it out, and a server that
            can't do that much is left out of it.
        open_sides: of the JPEGs in it.
        open_rounds: alternations of it.
        retries: of a measurement that other processes disturbed.
    """

    sides: tuple[int, ...] = (64, 256)
    clients: tuple[int, ...] = (1, 8, 32)
    rounds: int = 5
    seconds: float = 2
    open_seconds: float = 5
    open_sides: tuple[int, ...] = (64, 256)
    open_rounds: int = 1
    retries: int = 1


def compare(
    candidates: Sequence[Candidate], bundle: Path, threads: int, plan: Plan, pacer: Path
) -> dict[str, Any]:
    """Measure everyone.

    Returns:
        `closed`: a list of single measurements with `key`, `side`, `clients`; `open`: the same
        with `share`; `bare`: of ONNX Runtime alone; `checked`: agreement of codes by candidate.

    Raises:
        ServerFailed: someone doesn't start, or gives other codes than bare ONNX Runtime.
    """
    files = {
        (c.key, side): write_requests(
            BUILD / "requests" / f"{c.key}-{side}.bin", [c.ask(jpeg) for jpeg in jpegs(side)]
        )
        for c in candidates
        for side in plan.sides
    }
    closed: list[dict[str, Any]] = []
    opened: list[dict[str, Any]] = []
    bare: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        workers = {
            precision: stack.enter_context(BareWorker(bundle, precision, threads))
            for precision in ("fp32", "int8")
        }
        servers: dict[str, Server] = {}
        for candidate in candidates:
            print(f"starting {candidate.title}", flush=True)
            servers[candidate.key] = stack.enter_context(start(candidate, bundle, threads))
        for server in servers.values():
            server.wait_ready()
        checked = {c.key: check(c, servers[c.key], bundle, plan.sides) for c in candidates}
        for server in servers.values():
            server.pause()
        for side in plan.sides:
            for key, server in servers.items():
                with _running(server):
                    closed_loop(server, files[key, side], 8, 1)  # to warm up, not counted
        for turn in range(plan.rounds):
            for side in plan.sides:
                for precision, worker in workers.items():
                    layout, batch = worker.best("encode", side, 0.4)
                    bare.append(
                        {
                            "precision": precision,
                            "side": side,
                            "layout": layout,
                            "batch": batch,
                            "per_second": worker.rate(
                                "encode", side, layout, batch, plan.seconds / 2
                            ),
                        }
                    )
                for clients in plan.clients:
                    window = plan.seconds * (2 if side > 64 and clients > 1 else 1)
                    # Another one goes first each time, so that nobody always follows the same.
                    for candidate in _rotated(candidates, turn):
                        server = servers[candidate.key]
                        with _running(server):
                            result = _undisturbed(
                                plan, server, files[candidate.key, side], clients, window
                            )
                        closed.append(
                            {"key": candidate.key, "side": side, "clients": clients, **result}
                        )
            _show(turn, closed, candidates, plan)
            # Whoever stops it early still has what was measured.
            (BUILD / "closed-so-far.json").write_text(json.dumps(closed))
        if plan.open_seconds and TRITON in candidates:
            for turn in range(plan.open_rounds):
                for side in plan.open_sides:
                    able = peak(closed, TRITON.key, side)
                    for share in SHARES:
                        for candidate in _rotated(candidates, turn):
                            if peak(closed, candidate.key, side) < share * able:
                                continue  # its line of waiting would grow for as long as it lasts
                            server = servers[candidate.key]
                            with _running(server):
                                result = open_loop(
                                    server,
                                    files[candidate.key, side],
                                    pacer,
                                    share * able,
                                    plan.open_seconds,
                                    seed=turn + 1,
                                )
                            opened.append(
                                {"key": candidate.key, "side": side, "share": share, **result}
                            )
        for server in servers.values():
            server.resume()
        memory = {key: server.peak_memory_mib() for key, server in servers.items()}
    return {
        "closed": closed,
        "open": opened,
        "bare": bare,
        "checked": checked,
        "peak_memory_mib": memory,
    }


def check(candidate: Candidate, server: Server, bundle: Path, sides: Sequence[int]) -> float:
    """Share of codes that equal those of bare ONNX Runtime in the same precision.

    Raises:
        ServerFailed: it is below 99.9 %, or an answer is not 200.
    """
    precision = "int8" if candidate == TESSERA_INT8 else "fp32"
    graphs = Graphs(open_bundle(bundle), precision, 1)
    same = total = 0
    for side in sides:
        for jpeg in jpegs(side, 8):
            codes = graphs.encode(pixels(jpeg)[None])[0]
            status, _, body = send(server.port, candidate.ask(jpeg))
            if status != 200:
                raise ServerFailed(f"{candidate.title} answers {status}: {body[:300]!r}")
            same += int(np.sum(candidate.read(body, codes.shape) == codes))
            total += codes.size
    if same < AGREEMENT * total:
        raise ServerFailed(f"{candidate.title}: only {same} of {total} codes are right")
    return same / total


def peak(closed: Sequence[dict[str, Any]], key: str, side: int) -> float:
    """Requests per second at the number of clients that suits it best; median of the rounds."""
    by_clients: dict[int, list[float]] = {}
    for row in closed:
        if (row["key"], row["side"]) == (key, side):
            by_clients.setdefault(row["clients"], []).append(row["per_second"])
    return max(median(values) for values in by_clients.values())


@contextlib.contextmanager
def _running(server: Server) -> Any:
    server.resume()
    try:
        yield
    finally:
        # The load ends with requests in flight. A server stopped amid them would take the pause
        # for their duration, and refuse the next ones as hopeless (Tessera and BentoML do).
        server.wait_idle()
        server.pause()


def _undisturbed(
    plan: Plan, server: Server, requests: Path, clients: int, seconds: float
) -> dict[str, Any]:
    """A measurement, repeated a few times while other processes take the cores; the calmest."""
    tried = []
    for _ in range(1 + plan.retries):
        tried.append(closed_loop(server, requests, clients, seconds))
        if tried[-1]["foreign_share"] <= FOREIGN_SHARE:
            break
    return min(tried, key=lambda result: result["foreign_share"])


def _rotated(candidates: Sequence[Candidate], turn: int) -> list[Candidate]:
    start_at = turn % len(candidates)
    return [*candidates[start_at:], *candidates[:start_at]]


def _show(
    turn: int, closed: list[dict[str, Any]], candidates: Sequence[Candidate], plan: Plan
) -> None:
    print(f"round {turn + 1} of {plan.rounds}", flush=True)
    for side in plan.sides:
        for clients in plan.clients:
            shown = []
            for c in candidates:
                rows = [
                    row
                    for row in closed
                    if (row["key"], row["side"], row["clients"]) == (c.key, side, clients)
                ]
                errors = sum(row["errors"] for row in rows)
                shown.append(
                    f"{c.key} {rows[-1]['per_second']:.0f}" + (f" ({errors} ERRORS)" * bool(errors))
                )
            print(f"  {side}² × {clients}: {'  '.join(shown)}", flush=True)
