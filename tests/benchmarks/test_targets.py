"""What was measured, held against the targets."""

from __future__ import annotations

from typing import Any

from benchmarks.targets import Target, targets

NOBODY: dict[str, Any] = {"closed": [], "open": [], "bare": []}
ALONE: dict[str, Any] = {
    "mixed": {"measured": 9.0, "expected": 10.0},
    "idle": {"core_share": 0.002},
    "large": [],
    "operations": [],
    "contention": [],
}


def found(text: str, compared: dict[str, Any], alone: dict[str, Any] | None) -> Target:
    """The one target with that text."""
    (one,) = [target for target in targets(compared, alone) if target.text == text]
    return one


def test_classifying_codes_is_held_to_five_times_encoding() -> None:
    """Where it was measured; without a recognizer there is no such target."""
    operations = [
        {"title": title, "side": 256, "per_second": speed}
        for title, speed in (("encode JPEG", 40.0), ("classify codes", 240.0))
    ]
    target = found(
        "256², classify codes against encode", NOBODY, ALONE | {"operations": operations}
    )
    assert (target.bound, target.measured, target.met) == (5, 6, True)
    without = targets(NOBODY, ALONE | {"operations": operations[:1]})
    assert not [target for target in without if "classify" in target.text]


def test_speed_kept_beside_another_process_is_held_to_what_bare_onnx_runtime_keeps() -> None:
    """Half of the speed where 60 % can be kept is 83 % of it."""
    contention = [
        {"key": "bare", "side": 64, "free": 500.0, "taken": 300.0},
        {"key": "tessera", "side": 64, "free": 400.0, "taken": 200.0},
    ]
    target = found(
        "64², speed kept with a core contended, of what bare ONNX Runtime keeps",
        NOBODY,
        ALONE | {"contention": contention},
    )
    assert (round(target.measured), target.bound, target.met) == (83, 95, False)


def test_who_cannot_do_half_of_triton_s_load_misses_its_latency() -> None:
    """Tessera is left out of the open loop like anybody, and that is no pass."""
    opened = [{"key": "triton", "side": 64, "share": 0.5, "p99_ms": 9.0, "errors": 0}]
    text = "64², p99 at 50 % load against the best peer"
    assert not found(text, NOBODY | {"open": opened}, None).met


def test_a_mix_slower_than_its_parts_is_missed() -> None:
    """Below 80 % of their sum."""
    text = "mixed load, of the sum of its parts"
    assert found(text, NOBODY, ALONE).met
    assert not found(text, NOBODY, ALONE | {"mixed": {"measured": 7.9, "expected": 10.0}}).met


def test_the_bound_is_on_the_side_that_was_said() -> None:
    """At least, or at most; the bound itself is met."""
    assert [Target("", value, 5, "").met for value in (4, 5, 6)] == [False, True, True]
    assert [Target("", value, 5, "", least=False).met for value in (4, 5, 6)] == [True, True, False]
