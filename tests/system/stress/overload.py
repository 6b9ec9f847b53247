"""Four times as much as the service can do, whatever it answers, with images of 64 to 1024 pixels.

First a closed loop of eight clients finds the capacity for the same mix of encode, decode and
embed. Then requests leave at random moments (a Poisson process) at four times that rate, each
due at a moment that no earlier answer can put off, and latency counts from that moment. What is
accepted must be answered right, byte for byte, within the deadline; what is not must be refused
at once, with a `Retry-After` held against the time that the work then admitted really took.
After it the closed loop again.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from tests.system.stress.growth import percentile
from tests.system.stress.process import ROOT, Holdings, Serving, serving
from tests.system.stress.traffic import Case, learn_photo, photographs, picture
from tests.system.stress.verdict import Check, outcome
from tests.system.stress.wire import Client, Lost


@dataclass(frozen=True, slots=True)
class Plan:
    """What an overload does, and what it must show.

    Attributes:
        bundle: the model's folder.
        seconds: of overload.
        sizes: width and height of images, each with how often it comes.
        closed_s: seconds of the closed loop, before and after.
        clients: of the closed loop.
        factor: of capacity.
        settings: of the server, as `Serving` takes them.
        deadline_s: that the server has by its settings.
        refused_ms: 99 % of refusals come within this.
        retry_right: share of refusals whose `Retry-After` is right within a factor of two.
        speed_kept: the closed loop's speed after, in units of that before.
        memory_kept: resident memory in the last half of the overload, in units of the first.
        seed: of all chance.
    """

    bundle: Path
    seconds: float
    sizes: dict[tuple[int, int], int]
    closed_s: float = 12.0
    clients: int = 8
    factor: float = 4.0
    settings: dict[str, object] = field(default_factory=dict)
    deadline_s: float = 30.0
    refused_ms: float = 50.0
    retry_right: float = 0.95
    speed_kept: float = 0.9
    memory_kept: float = 1.1
    seed: int = 1


def default_plan(seconds: float, seed: int) -> Plan:
    """The default model with the default settings."""
    return Plan(
        bundle=ROOT / "models/photo-f8",
        seconds=seconds,
        sizes={
            (64, 64): 6,
            (96, 64): 6,
            (128, 128): 6,
            (192, 128): 4,
            (256, 256): 4,
            (384, 256): 3,
            (512, 512): 2,
            (768, 512): 1,
            (1024, 1024): 1,
        },
        seed=seed,
    )


@dataclass(slots=True)
class Asked:
    """One request of the overload. Times are seconds by `time.perf_counter`.

    Attributes:
        case: what was asked.
        due: when it was to be sent.
        late_s: how much later it was, the load generator's own fault.
        status: of the answer; 0 if it was lost.
        head_s: from due to the answer's head.
        end: when the answer was complete.
        retry_after_s: what a refusal said.
        fault: what was wrong with the answer.
    """

    case: Case
    due: float
    late_s: float = 0.0
    status: int = 0
    head_s: float = 0.0
    end: float = 0.0
    retry_after_s: int | None = None
    fault: str | None = None


@dataclass(slots=True)
class Record:
    """All that was measured.

    Attributes:
        before, after: requests a second of the closed loop.
        latency_before, latency_after: its median seconds.
        asked: the overload's requests.
        samples: of the server, over the overload.
        drained_s: from the last request to the last answer of the overload.
        exit_code: of the server.
    """

    before: float = 0.0
    after: float = 0.0
    latency_before: float = 0.0
    latency_after: float = 0.0
    asked: list[Asked] = field(default_factory=list)
    samples: list[Holdings] = field(default_factory=list)
    drained_s: float = 0.0
    exit_code: int = 0
    faults: list[str] = field(default_factory=list)


def run(plan: Plan) -> tuple[dict[str, Any], Record]:
    """Overload a server of its own.

    Returns:
        What to write down, and the record.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "models").mkdir()
        (folder / "models" / plan.bundle.name).symlink_to(plan.bundle)
        with serving(folder / "models", folder / "log", **plan.settings) as server:
            record = uvloop.run(_overload(plan, server))
            record.exit_code = server.stop()
    result = outcome(judge(plan, record), _facts(plan, record))
    return result | {"samples": [asdict(sample) for sample in record.samples]}, record


async def _overload(plan: Plan, server: Serving) -> Record:
    record = Record()
    client = Client(server.port, timeout_s=2 * plan.deadline_s + 30)
    chance = random.Random(plan.seed)
    deck = await _learn(plan, client)
    record.before, record.latency_before = await _closed_loop(plan, client, deck, record)
    sampling = asyncio.create_task(_sample(server, record))
    await _open_loop(plan, client, deck, chance, record)
    sampling.cancel()
    record.after, record.latency_after = await _closed_loop(plan, client, deck, record)
    client.close()
    return record


async def _learn(plan: Plan, client: Client) -> list[Case]:
    """The deck: every size as often as planned, the operations in turns."""
    photos = photographs()
    wanted = (
        "encode jpeg→json",
        "decode packed→npy",
        "embed jpeg→json",
        "encode json→packed",
        "embed packed→json",
        "decode npy→jpeg",
    )
    deck: list[Case] = []
    for index, (size, times) in enumerate(plan.sizes.items()):
        file = picture(photos[index % len(photos)], *size)
        learnt = await learn_photo(client, plan.bundle.name, file, size)
        by_kind = {" ".join(case.name.split()[:2]): case for case in learnt}
        deck += [by_kind[wanted[(index + turn) % len(wanted)]] for turn in range(times)]
    return deck


def _shuffled(deck: list[Case], chance: random.Random) -> Any:
    """The deck again and again, so that any stretch of it has about the planned mix."""
    while True:
        yield from chance.sample(deck, len(deck))


async def _closed_loop(
    plan: Plan, client: Client, deck: list[Case], record: Record
) -> tuple[float, float]:
    """Requests a second, and their median latency."""
    cases = _shuffled(deck, random.Random(plan.seed))
    seconds: list[float] = []
    began = time.perf_counter()

    async def one() -> None:
        while time.perf_counter() - began < plan.closed_s:
            case = next(cases)
            answer = await client.ask(case.request)
            if fault := case.fault(answer):
                record.faults.append(f"closed loop: {fault}")
            seconds.append(answer.seconds)

    await asyncio.gather(*[one() for _ in range(plan.clients)])
    return len(seconds) / (time.perf_counter() - began), percentile(seconds, 0.5)


async def _open_loop(
    plan: Plan, client: Client, deck: list[Case], chance: random.Random, record: Record
) -> None:
    rate = plan.factor * record.before
    cases = _shuffled(deck, chance)
    due = began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        while (due := due + chance.expovariate(rate)) < began + plan.seconds:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            asked = Asked(next(cases), due, late_s=max(0.0, time.perf_counter() - due))
            record.asked.append(asked)
            group.create_task(_ask(client, asked))
    record.drained_s = time.perf_counter() - began - plan.seconds


async def _ask(client: Client, asked: Asked) -> None:
    try:
        answer = await client.ask(asked.case.request, asked.due)
    except Lost as error:
        asked.fault = str(error)
        return
    asked.status = answer.status
    asked.head_s = answer.head_s
    asked.end = asked.due + answer.seconds
    if answer.status == 429:
        said = answer.header("retry-after")
        asked.retry_after_s = int(said) if said is not None and said.isdecimal() else None
    else:
        asked.fault = asked.case.fault(answer)


async def _sample(server: Serving, record: Record) -> None:
    while True:
        record.samples.append(server.holdings())
        await asyncio.sleep(0.5)


def retry_ratios(asked: list[Asked]) -> list[float]:
    """For every refusal, the promised seconds over those that the work then admitted took.

    Admitted is what had been sent and was later answered with 200. Promises are whole seconds
    and at least one, so less than a second counts as one.
    """
    accepted = [one for one in asked if one.status == 200]
    ratios = []
    for refusal in asked:
        if refusal.retry_after_s is None:
            continue
        now = refusal.due + refusal.head_s
        ends = [one.end for one in accepted if one.due + one.late_s < now < one.end]
        ratios.append(refusal.retry_after_s / max(1.0, max(ends, default=now) - now))
    return ratios


def judge(plan: Plan, record: Record) -> list[Check]:
    """The promises held against a record."""
    accepted = [one for one in record.asked if one.status == 200]
    refused = [one for one in record.asked if one.status == 429]
    server_errors = [one for one in record.asked if one.status >= 500]
    lost = [one for one in record.asked if one.status == 0]
    wrong = [one for one in record.asked if one.fault and one.status] + record.faults
    p99 = percentile([one.end - one.due for one in accepted], 0.99)
    refused_p99 = percentile([one.head_s for one in refused], 0.99) * 1000
    ratios = retry_ratios(record.asked)
    right = sum(0.5 <= ratio <= 2 for ratio in ratios) / max(1, len(ratios))
    half = len(record.samples) // 2
    first = [sample.rss_mib for sample in record.samples[:half]]
    last = [sample.rss_mib for sample in record.samples[half:]]
    grown = (sum(last) / len(last)) / (sum(first) / len(first)) if first else float("nan")
    said_nothing = sum(one.retry_after_s is None for one in refused)
    return [
        Check("no answer lost", _some([one.fault or "" for one in lost]), not lost),
        Check("no 5xx", f"{len(server_errors)}", not server_errors),
        Check(
            "every accepted request answered right, byte for byte",
            f"{len(wrong)} wrong of {len(accepted):,}",
            bool(accepted) and not wrong,
        ),
        Check(
            f"accepted: p99 within the deadline of {plan.deadline_s:g} s",
            f"{p99:.2f} s",
            p99 <= plan.deadline_s,
        ),
        Check(
            f"refused: p99 within {plan.refused_ms:g} ms, measured at the client",
            f"{refused_p99:.1f} ms",
            bool(refused) and refused_p99 <= plan.refused_ms,
        ),
        Check(
            "Retry-After right within a factor of two, "
            f"for {plan.retry_right * 100:.0f} % of refusals",
            f"for {right:.1%}; promised over real: {_spread(ratios)}"
            + (f"; {said_nothing} without one" if said_nothing else ""),
            right >= plan.retry_right and not said_nothing,
        ),
        Check(
            f"memory flat: last half at most {plan.memory_kept:g} × the first",
            f"{grown:.3f} ×",
            grown <= plan.memory_kept,
        ),
        Check(
            "full speed afterwards: closed loop, from the last answer on, at least "
            f"{plan.speed_kept:g} × that before",
            f"{record.after / record.before:.2f} ×",
            record.after >= plan.speed_kept * record.before,
        ),
        Check("SIGTERM in the end: exit code 0", f"{record.exit_code}", record.exit_code == 0),
    ]


def _some(faults: list[str]) -> str:
    return f"{len(faults)}" + (f" ({'; '.join(faults[:3])})" if faults else "")


def _spread(values: list[float]) -> str:
    low, middle, high = (percentile(values, share) for share in (0.05, 0.5, 0.95))
    return f"p5 {low:.2f}, p50 {middle:.2f}, p95 {high:.2f}"


def _facts(plan: Plan, record: Record) -> list[tuple[str, str]]:
    statuses = Counter(one.status for one in record.asked)
    accepted = [one.end - one.due for one in record.asked if one.status == 200]
    refused = [one.head_s * 1000 for one in record.asked if one.status == 429]
    promised = [float(one.retry_after_s) for one in record.asked if one.retry_after_s is not None]
    sizes = ", ".join(f"{w}×{h}" for w, h in plan.sizes)
    rss = [sample.rss_mib for sample in record.samples]
    return [
        ("model and sizes", f"{plan.bundle.name}; {sizes}"),
        ("capacity", f"{record.before:.1f} requests/s, {plan.clients} clients in a closed loop"),
        (
            "overload",
            f"{len(record.asked):,} requests in {plan.seconds:g} s, "
            f"{len(record.asked) / plan.seconds:.0f}/s",
        ),
        ("answers by status", ", ".join(f"{k}: {n:,}" for k, n in sorted(statuses.items()))),
        (
            "accepted",
            f"{len(accepted) / (plan.seconds + record.drained_s):.1f}/s until all were answered; "
            f"p50 {percentile(accepted, 0.5):.2f} s, p99 {percentile(accepted, 0.99):.2f} s, "
            f"at most {max(accepted, default=0):.2f} s",
        ),
        (
            "refused",
            f"p50 {percentile(refused, 0.5):.1f} ms, p99 {percentile(refused, 0.99):.1f} ms, "
            f"at most {max(refused, default=0):.1f} ms; of it the load's own lateness: p99 "
            f"{percentile([one.late_s for one in record.asked], 0.99) * 1000:.1f} ms",
        ),
        ("Retry-After, seconds", _spread(promised)),
        ("last request to last answer", f"{record.drained_s:.1f} s"),
        (
            "closed loop after it",
            f"{record.after:.1f} requests/s; p50 {record.latency_after * 1000:.0f} ms, "
            f"before {record.latency_before * 1000:.0f} ms",
        ),
        ("memory", f"{rss[0]:.0f} MiB at its start, at most {max(rss):.0f}") if rss else ("", ""),
        ("server's CPU", f"{_cores(record.samples):.2f} cores under overload"),
    ]


def _cores(samples: list[Holdings]) -> float:
    first, last = samples[0], samples[-1]
    return (last.cpu_s - first.cpu_s) / max(1e-9, last.at - first.at)
