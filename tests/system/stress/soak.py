"""Hours in small: mixed traffic with faults for as long as asked, every answer checked.

A share of the requests is faulty: files cut short, codes of another space, bodies that are not
what they say, clients that vanish in the middle. Every few minutes the models are reloaded under
load, every second time beside a bad bundle. Memory, file descriptors and threads of the server
are sampled; what grows after the warm-up fails the run.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.system.stress.faults import refusals
from tests.system.stress.growth import percentile, slope
from tests.system.stress.process import ROOT, Holdings, Serving, serving
from tests.system.stress.traffic import (
    Case,
    learn_facts,
    learn_photo,
    learn_several,
    photographs,
    picture,
)
from tests.system.stress.verdict import Check, outcome
from tests.system.stress.wire import Client, Lost, request

# Most requests in flight: on a machine that others use too, the schedule slips instead of the
# queue filling up.
_MOST_IN_FLIGHT = 32

# On a slow machine what is to happen may take longer than was planned.
_MORE_S = 120

_RSS_MIB_PER_MINUTE = 1.0
_FILES_PER_MINUTE = 0.1
_THREADS_PER_MINUTE = 0.05


@dataclass(frozen=True, slots=True)
class Plan:
    """What a soak does.

    Attributes:
        minutes: how long requests are sent.
        rate: requests a second, at random moments.
        bundles: the models' folders, each with a share of the work and the sizes of its images,
            each size with a weight.
        fault_share: of the requests.
        reload_every_s: seconds between reloads.
        sample_every_s: seconds between samples.
        warm_up_minutes: before slopes are taken; no slopes if it is not below `minutes`.
        enough: requests go on after `minutes`, for two more at most, until it holds.
        seed: of all chance.
    """

    minutes: float
    rate: float
    bundles: dict[Path, tuple[float, dict[tuple[int, int], float]]]
    fault_share: float = 0.05
    reload_every_s: float = 150.0
    sample_every_s: float = 5.0
    warm_up_minutes: float = 10.0
    enough: Callable[[Tally], bool] = lambda _: True
    seed: int = 1


def default_plan(minutes: float, rate: float, seed: int) -> Plan:
    """Mostly the small model of the tests, some of the default model."""
    return Plan(
        minutes=minutes,
        rate=rate,
        bundles={
            ROOT / "tests/data/bundles/tiny": (
                0.85,
                {
                    (64, 64): 20,
                    (200, 136): 20,
                    (320, 256): 20,
                    (512, 384): 10,
                    (1024, 768): 3,
                    (1536, 1152): 1,
                },
            ),
            ROOT / "models/photo-f8": (0.15, {(64, 64): 3, (160, 120): 2, (256, 256): 1}),
        },
        seed=seed,
    )


@dataclass(slots=True)
class Tally:
    """What became of the requests."""

    sent: int = 0
    answered: int = 0
    by_status: Counter[int] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    reloads: int = 0
    reloads_refused: int = 0
    samples: list[Holdings] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Traffic:
    """Cases, each with its weight, and those to be refused."""

    cases: list[Case]
    weights: list[float]
    refused: list[Case]
    large: list[Case]


def run(plan: Plan) -> tuple[dict[str, Any], Tally]:
    """Soak a server of its own.

    Returns:
        What to write down, and the tally.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models = folder / "models"
        for bundle in plan.bundles:
            shutil.copytree(bundle, models / bundle.name)
        default = next(iter(plan.bundles)).name
        with serving(models, folder / "log", default_model=default) as server:
            tally, left = asyncio.run(_soak(plan, server, models))
            code = server.stop()
        result = outcome(_judge(plan, tally, left, code), _facts(plan, tally))
        return result | {"samples": [asdict(sample) for sample in tally.samples]}, tally


async def _soak(plan: Plan, server: Serving, models: Path) -> tuple[Tally, dict[str, float]]:
    client = Client(server.port)
    traffic = await _learn(plan, client)
    await asyncio.sleep(0.3)
    before = await _counted(client)
    tally = Tally()
    beside = [
        asyncio.create_task(_sample(plan, server, client, tally)),
        asyncio.create_task(_reload(plan, server, models, tally)),
    ]
    await _send(plan, client, traffic, tally)
    for task in beside:
        task.cancel()
    await asyncio.gather(*beside, return_exceptions=True)
    # Whoever vanished may not have been missed yet.
    for scrapes in range(1, 61):
        await asyncio.sleep(1)
        after = await _counted(client)
        # A scrape counts those before it, and not itself.
        ended = after["requests"] - before["requests"] - scrapes
        if not after["queue"] and ended >= tally.sent - _uploads(tally):
            break
    client.close()
    await asyncio.sleep(0.5)
    tally.samples.append(server.holdings())
    return tally, {
        "queue": after["queue"],
        "requests": ended,
        "server errors": after["server errors"] - before["server errors"],
    }


async def _learn(plan: Plan, client: Client) -> _Traffic:
    photos = photographs()
    cases: list[Case] = []
    weights: list[float] = []
    refused: list[Case] = []

    def add(more: list[Case], weight: float) -> None:
        cases.extend(more)
        weights.extend([weight / len(more)] * len(more))

    for bundle, (share, sizes) in plan.bundles.items():
        whole = sum(sizes.values())
        for index, (size, weight) in enumerate(sizes.items()):
            file = picture(photos[index % len(photos)], *size)
            learnt = await learn_photo(client, bundle.name, file, size)
            add(learnt, 0.8 * share * weight / whole)
            if not index:
                first, codes, packed = file, learnt[0].body, learnt[1].body
        several = [picture(photo, 96, 64) for photo in photos[:3]]
        add([await learn_several(client, bundle.name, several, 3 * 96 * 64)], 0.08 * share)
        add(await learn_facts(client, bundle.name), 0.12 * share)
        assert codes is not None
        assert packed is not None
        refused += refusals(bundle.name, first, codes, packed)
    large = sorted((case for case in cases if case.body), key=lambda case: -len(case.body or b""))
    return _Traffic(cases, weights, refused, large[: len(large) // 4])


async def _send(plan: Plan, client: Client, traffic: _Traffic, tally: Tally) -> None:
    chance = random.Random(plan.seed)
    places = asyncio.Semaphore(_MOST_IN_FLIGHT)
    end = time.monotonic() + plan.minutes * 60

    async def placed(work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        finally:
            places.release()

    async with asyncio.TaskGroup() as group:
        due = time.monotonic()
        while (due := due + chance.expovariate(plan.rate)) < end or (
            due < end + _MORE_S and not plan.enough(tally)
        ):
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            await places.acquire()
            # A schedule that slipped is not made up for: that would be a burst, not a soak.
            due = max(due, time.monotonic() - 1)
            tally.sent += 1
            if chance.random() >= plan.fault_share:
                (case,) = chance.choices(traffic.cases, traffic.weights)
                work = _check(client, case, tally)
            elif chance.random() < 0.6:
                case = chance.choice(traffic.refused)
                tally.faults[case.name] += 1
                work = _check(client, case, tally)
            else:
                work = _vanish(client, traffic, chance, tally)
            group.create_task(placed(work))


async def _check(client: Client, case: Case, tally: Tally) -> None:
    try:
        answer = await client.ask(case.request)
    except Lost as error:
        tally.lost.append(f"{case.name}: {error}")
        return
    tally.answered += 1
    tally.by_status[answer.status] += 1
    tally.seconds.append(answer.seconds)
    if fault := case.fault(answer):
        tally.wrong.append(fault)


def _vanish(
    client: Client, traffic: _Traffic, chance: random.Random, tally: Tally
) -> Coroutine[Any, Any, None]:
    (case,) = chance.choices(traffic.cases, traffic.weights)
    ways: list[tuple[str, Callable[[], Coroutine[Any, Any, None]]]] = [
        ("vanished in its upload", lambda: client.vanish_uploading(case.request, chance.random())),
        (
            "vanished while waiting",
            lambda: client.vanish_waiting(case.request, 0.05 * chance.random()),
        ),
        (
            "vanished in its download",
            lambda: client.vanish_downloading(chance.choice(traffic.large).request),
        ),
    ]
    name, way = chance.choice(ways)
    tally.faults[name] += 1
    return way()


async def _sample(plan: Plan, server: Serving, client: Client, tally: Tally) -> None:
    while True:
        held = server.holdings()
        # Connections are ours to open and close; what is left must stay.
        tally.samples.append(replace(held, files=held.files - client.connections))
        await asyncio.sleep(plan.sample_every_s)


async def _reload(plan: Plan, server: Serving, models: Path, tally: Tally) -> None:
    bad = models / "bad"
    while True:
        for message in ("reloaded", "reload refused"):
            await asyncio.sleep(plan.reload_every_s)
            said = server.said(message)
            if message == "reload refused":
                bad.mkdir()
            server.reload()
            give_up_at = time.monotonic() + 60
            while server.said(message) == said:
                if time.monotonic() > give_up_at:
                    tally.wrong.append(f"SIGHUP: the log doesn't say '{message}'")
                    break
                await asyncio.sleep(0.2)
            if message == "reload refused":
                bad.rmdir()
                tally.reloads_refused += 1
            else:
                tally.reloads += 1


async def _counted(client: Client) -> dict[str, float]:
    """What the server's own metrics say."""
    text = (await client.ask(request("GET", "/metrics"))).body.decode()
    counted = {"queue": 0.0, "requests": 0.0, "server errors": 0.0}
    for line in text.splitlines():
        value = line.rpartition(" ")[2]
        if line.startswith("tessera_queue_items "):
            counted["queue"] = float(value)
        elif line.startswith("tessera_requests_total{"):
            counted["requests"] += float(value)
            if 'status="5' in line:
                counted["server errors"] += float(value)
    return counted


def _judge(plan: Plan, tally: Tally, left: dict[str, float], code: int) -> list[Check]:
    checks = [
        Check("no answer lost", _some(tally.lost), not tally.lost),
        Check(
            "every answer the expected one, byte for byte, every fault its problem",
            _some(tally.wrong) + f" wrong of {tally.answered:,}",
            not tally.wrong,
        ),
        Check(
            "no 5xx, by the server's own count",
            f"{left['server errors']:.0f}",
            left["server errors"] == 0,
        ),
        Check(
            "every request ended exactly once, by the server's own count",
            _ended(tally, left)[0],
            _ended(tally, left)[1],
        ),
        Check("nothing left in the queue", f"{left['queue']:.0f} items", left["queue"] == 0),
        Check("SIGTERM in the end: exit code 0", f"{code}", code == 0),
    ]
    return checks + growth_checks(tally.samples, plan.warm_up_minutes, plan.minutes)


def growth_checks(samples: list[Holdings], warm_up_minutes: float, minutes: float) -> list[Check]:
    """Slopes of memory, files and threads after the warm-up; none if there is no time left."""
    start = samples[0].at + warm_up_minutes * 60
    steady = [s for s in samples[:-1] if s.at >= start]
    if warm_up_minutes >= minutes or len(steady) < 2:
        return []
    times = [sample.at for sample in steady]
    checks = []
    for name, values, unit, limit in (
        ("resident memory", [s.rss_mib for s in steady], "MiB", _RSS_MIB_PER_MINUTE),
        (
            "open files without our connections",
            [float(s.files) for s in steady],
            "files",
            _FILES_PER_MINUTE,
        ),
        ("threads", [float(s.threads) for s in steady], "threads", _THREADS_PER_MINUTE),
    ):
        grown = slope(times, values) * 60
        checks.append(
            Check(
                f"{name}: slope from minute {warm_up_minutes:g} on below {limit:g} {unit} a minute",
                f"{grown:+.3f} a minute, {grown * 60:+.1f} an hour; "
                f"{min(values):.0f} to {max(values):.0f}",
                grown < limit,
            )
        )
    return checks


def _ended(tally: Tally, left: dict[str, float]) -> tuple[str, bool]:
    """Requests that the server counted against those sent.

    Of a client that vanishes in its upload the server may never have seen the end of the head.
    """
    uploads = _uploads(tally)
    lowest = tally.sent - uploads
    kept = lowest <= left["requests"] <= tally.sent
    return f"{left['requests']:,.0f}, sent {tally.sent:,}, {uploads} of them cut short", kept


def _uploads(tally: Tally) -> int:
    return tally.faults["vanished in its upload"]


def _some(faults: list[str]) -> str:
    return f"{len(faults)}" + (f" ({'; '.join(faults[:3])})" if faults else "")


def _facts(plan: Plan, tally: Tally) -> list[tuple[str, str]]:
    first, last = tally.samples[0], tally.samples[-1]
    took = last.at - first.at
    refused = sum(n for name, n in tally.faults.items() if not name.startswith("vanished"))
    gone = ", ".join(
        f"{n} {name}" for name, n in sorted(tally.faults.items()) if name.startswith("vanished")
    )
    return [
        ("duration", f"{took / 60:.1f} min"),
        ("models", ", ".join(bundle.name for bundle in plan.bundles)),
        ("requests sent", f"{tally.sent:,}, {tally.sent / took:.1f} a second"),
        (
            "faults injected",
            f"{sum(tally.faults.values()):,} ({sum(tally.faults.values()) / tally.sent:.1%}): "
            f"{refused} to be refused, of {sum(not n.startswith('v') for n in tally.faults)} "
            f"kinds; clients that {gone}",
        ),
        (
            "reloads under load",
            f"{tally.reloads}, and {tally.reloads_refused} with a bad bundle, refused",
        ),
        ("answers by status", ", ".join(f"{k}: {n:,}" for k, n in sorted(tally.by_status.items()))),
        (
            "latency",
            f"p50 {percentile(tally.seconds, 0.5) * 1000:.0f} ms, "
            f"p99 {percentile(tally.seconds, 0.99) * 1000:.0f} ms (beside other work)",
        ),
        (
            "memory",
            f"{first.rss_mib:.0f} MiB at the start, {max(s.rss_mib for s in tally.samples):.0f} "
            f"at most, {last.rss_mib:.0f} in the end",
        ),
        ("server's CPU", f"{(last.cpu_s - first.cpu_s) / took:.0%} of one core"),
    ]
