"""What Tessera's speed is held to, and whether what was measured meets it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.candidates import TESSERA, TESSERA_INT8, TRITON
from benchmarks.rows import middle, pick, values
from benchmarks.service import BARE, TOGETHER

_BEST_PEER = ("triton", "litserve", "bentoml", "torch")


@dataclass(frozen=True)
class Target:
    """A bound held against a measurement.

    Attributes:
        text: what is measured.
        measured: in `unit`.
        bound: in `unit`.
        unit: written behind the numbers; may be empty.
        least: whether the bound is the least allowed, or else the most.
    """

    text: str
    measured: float
    bound: float
    unit: str
    least: bool = True

    @property
    def met(self) -> bool:
        """Whether the measurement is on the right side of the bound."""
        return self.measured >= self.bound if self.least else self.measured <= self.bound


def targets(compared: dict[str, Any], alone: dict[str, Any] | None) -> list[Target]:
    """All that can be judged by what was measured.

    Args:
        compared: as `compare.compare` returns it.
        alone: as `service.measure` returns it; None where it wasn't measured.
    """
    found = [*_closed(compared), *_bare(compared), *_open(compared)]
    errors = sum(row["errors"] for row in pick(compared["closed"], key=TESSERA.key))
    found.append(Target("errors in the closed loop", errors, 0, "", least=False))
    return found + (list(_alone(alone)) if alone else [])


def _speed(compared: dict[str, Any], key: str, side: int, clients: int) -> float:
    # Who answered nothing in time must not stop the report.
    closed = compared["closed"]
    return middle(closed, "per_second", key=key, side=side, clients=clients) or 1e-9


def _closed(compared: dict[str, Any]) -> Iterator[Target]:
    closed = compared["closed"]
    sides, clients = values(closed, "side"), values(closed, "clients")

    def ratio(ours: str, theirs: str, side: int, many: int) -> float:
        return _speed(compared, ours, side, many) / _speed(compared, theirs, side, many)

    for many in (8, 32):
        if many not in clients or TRITON.key not in values(closed, "key"):
            continue
        for side, least in ((64, 1.8), (256, 1.2)):
            if side in sides:
                times = ratio(TESSERA.key, TRITON.key, side, many)
                yield Target(f"{side}², {many} clients, against Triton", times, least, "×")
        times = ratio(TESSERA.key, "litserve", 64, many)
        yield Target(f"64², {many} clients, against LitServe", times, 2.5, "×")
        times = ratio(TESSERA_INT8.key, TRITON.key, 256, many)
        yield Target(f"256², {many} clients, int8 against Triton's fp32", times, 2.5, "×")
    if 1 in clients:
        for side in sides:
            mine, theirs = (
                middle(closed, "p50_ms", key=key, side=side, clients=1) or 1.0
                for key in (TESSERA.key, TRITON.key)
            )
            text = f"{side}², one client, p50 against Triton"
            yield Target(text, mine / theirs, 0.7, "×", least=False)


def _bare(compared: dict[str, Any]) -> Iterator[Target]:
    clients = values(compared["closed"], "clients")
    for side, least in ((64, 70), (256, 95)):
        bare = middle(compared["bare"], "per_second", precision="fp32", side=side)
        if bare:
            share = 100 * _speed(compared, TESSERA.key, side, max(clients)) / bare
            yield Target(f"{side}², share of bare ONNX Runtime", share, least, " %")


def _open(compared: dict[str, Any]) -> Iterator[Target]:
    opened = compared["open"]
    for side in values(opened, "side"):
        half = pick(opened, side=side, share=0.5)
        p99 = {key: middle(half, "p99_ms", key=key) for key in values(half, "key")}
        best = min(p99[key] for key in _BEST_PEER if key in p99)
        # Who can't do half of what Triton does has no p99 there.
        times = p99.get(TESSERA.key, math.inf) / best
        text = f"{side}², p99 at 50 % load against the best peer"
        yield Target(text, times, 1, "×", least=False)
        lost = sum(row["errors"] for row in pick(opened, key=TESSERA.key, side=side))
        yield Target(f"{side}², lost or refused in the open loop", lost, 0, "", least=False)


def _alone(alone: dict[str, Any]) -> Iterator[Target]:
    mixed = alone["mixed"]
    share = 100 * mixed["measured"] / mixed["expected"]
    yield Target("mixed load, of the sum of its parts", share, 80, " %")
    yield Target("idle, of one core", 100 * alone["idle"]["core_share"], 1, " %", least=False)
    costs = [row["ms_per_megapixel"] for row in alone["large"] if row["side"] >= 512]
    if len(costs) > 1:
        spread = 100 * (max(costs) / min(costs) - 1)
        text = "spread of the cost of a megapixel from 512² up"
        yield Target(text, spread, 20, " %", least=False)
    for side in values(alone["operations"], "side"):
        for how in ("", f", {TOGETHER} a request"):
            encoded, classified = (
                middle(alone["operations"], "per_second", title=title + how, side=side)
                for title in ("encode JPEG", "classify codes")
            )
            if encoded and classified:
                text = f"{side}², classify codes against encode{how}"
                yield Target(text, classified / encoded, 5, "×")
    for side in values(alone["contention"], "side"):
        mine, bare = (_kept(alone["contention"], key, side) for key in (TESSERA.key, BARE))
        text = f"{side}², speed kept with a core contended, of what bare ONNX Runtime keeps"
        yield Target(text, 100 * mine / bare, 95, " %")


def _kept(rows: list[dict[str, Any]], key: str, side: int) -> float:
    (row,) = pick(rows, key=key, side=side)
    return float(row["taken"] / row["free"])
