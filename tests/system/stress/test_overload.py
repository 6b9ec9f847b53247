"""The overload in short, and that its verdict can be bad."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.system.stress.overload import Asked, Plan, Record, judge, retry_ratios, run
from tests.system.stress.process import ROOT, Holdings
from tests.system.stress.traffic import Case

PLAN = Plan(Path("none"), seconds=10, sizes={})
CASE = Case("any", b"")


def record() -> Record:
    """A good one: what was accepted took 4 s, and 4 s is what refusals say."""
    answered = [Asked(CASE, at / 10, status=200, end=at / 10 + 4) for at in range(100)]
    refused = [
        Asked(CASE, at / 10 + 0.05, status=429, head_s=0.01, end=at / 10 + 0.06, retry_after_s=4)
        for at in range(100)
    ]
    flat = [Holdings(at / 2, 200.0, 20, 12, 0.0) for at in range(20)]
    return Record(before=10, after=10, asked=answered + refused, samples=flat)


def broken(spoilt: Record) -> list[str]:
    return [check.promise.split(":")[0] for check in judge(PLAN, spoilt) if not check.kept]


def test_a_good_record_is_accepted():
    """Nothing is broken."""
    assert broken(record()) == []


@pytest.mark.parametrize(
    ("change", "promise"),
    [
        ({"status": 0}, "no answer lost"),
        ({"status": 504, "fault": "504"}, "no 5xx"),
        ({"fault": "another body"}, "every accepted request answered right, byte for byte"),
        ({"end": 99.0}, "accepted"),
        ({"status": 429, "head_s": 0.2, "retry_after_s": 4}, "refused"),
    ],
)
def test_one_bad_answer_breaks_a_promise(change, promise):
    """Two of a hundred, where a percentile is promised."""
    spoilt = record()
    for index in (0, 1):
        spoilt.asked[index] = replace(spoilt.asked[index], **change)
    assert promise in broken(spoilt)


def test_promised_seconds_are_held_against_real_ones():
    """A refusal that says 20 s where 4 s were enough is off by five."""
    spoilt = record()
    for one in spoilt.asked:
        if one.retry_after_s is not None:
            one.retry_after_s = 20
    assert max(retry_ratios(spoilt.asked)) > 4
    assert broken(spoilt)[0].startswith("Retry-After")


def test_memory_and_speed_have_limits():
    """Growth in the second half, and half the speed afterwards."""
    spoilt = record()
    spoilt.samples[10:] = [replace(sample, rss_mib=300.0) for sample in spoilt.samples[10:]]
    spoilt.after = 5
    assert broken(spoilt) == ["memory flat", "full speed afterwards"]


# What a machine that stalls for a moment may miss, the service being as good as ever.
TIMED = ("refused", "Retry-After", "full speed")


@pytest.mark.timeout(600)
def test_four_times_capacity_for_seconds():
    """A real server: no 5xx, nothing lost or wrong, refusals soon; `make stress` is strict.

    With the default model, whose work outweighs its requests' bytes: with the small one the load
    would be a test of who gets the processor. Times hold in one of three runs, all else in each.
    """
    plan = Plan(
        bundle=ROOT / "models/photo-f8",
        seconds=3,
        sizes={(256, 256): 3, (384, 256): 3},
        closed_s=1.5,
        settings={"max_queue": 16, "max_images": 16},
        # For a machine that others keep busy.
        refused_ms=1000,
        retry_right=0.5,
        speed_kept=0.4,
        memory_kept=1.3,
    )
    for _ in range(3):
        result, asked = run(plan)
        missed = [check for check in result["checks"] if not check["kept"]]
        assert [check for check in missed if not check["promise"].startswith(TIMED)] == []
        assert {one.status for one in asked.asked} <= {200, 429}
        if not missed:
            break
    assert missed == []
