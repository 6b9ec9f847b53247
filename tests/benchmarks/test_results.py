"""RESULTS.md: what its sections make of measurements."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from benchmarks import __main__ as command
from benchmarks import requests, results, service
from benchmarks.bare import BareWorker
from benchmarks.servers import Server


class Pretended:
    """A server and a bare worker of which every answer is known."""

    port = 0

    def wait_ready(self) -> None:
        pass

    def wait_idle(self) -> None:
        pass

    def peak_memory_mib(self) -> float:
        return 300.0

    def cpu_s(self) -> float:
        return 1.0

    def best(self, *_: object) -> tuple[str, int]:
        return "apart", 2

    def rate(self, *_: object) -> float:
        return 200.0

    def __enter__(self) -> Pretended:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """What `service` itself makes of servers that answer 100 requests a second."""
    one = Pretended()
    loaded = {"p50_ms": 5.0, "p99_ms": 9.0, "errors": 1, "cpu_ms": 2.0}
    models = {"default": "m", "data": [{"name": "m", "recognizers": ["r"]}]}
    headers = {"server-timing": "infer;dur=7.5, encode;dur=0.25"}
    pretend: dict[str, Callable[..., Any]] = {
        "start": lambda *_: one,
        "BareWorker": lambda *_: one,
        "jpegs": lambda side, count=48: [b"%d" % side] * count,
        "send": lambda *_: (200, headers, json.dumps(models).encode()),
        "closed_loop": lambda *_: loaded | {"per_second": 100.0},
        "work_off": lambda _, path, *__: loaded | {"per_second": 10.0, "seconds": _size(path)},
        "_timed": lambda *_: 40.0,
        "_contended": lambda rate, _: {"free": rate(), "taken": rate() / 2},
    }
    for name, stub in pretend.items():
        monkeypatch.setattr(service, name, stub)
    monkeypatch.setattr(requests, "send", pretend["send"])
    monkeypatch.setattr(service, "BUILD", tmp_path)
    monkeypatch.setattr(service.time, "sleep", lambda _: None)
    plan = service.Plan(rounds=1, large_sides=(64, 512))
    found = service.measure(Path("bundle"), 2, plan, Path("pacer"))
    assert found["operations"] == service.operations(
        cast("Server", one), cast("BareWorker", one), plan, Path("pacer")
    )
    return found


def _size(path: Path) -> float:
    """Seconds that this many bytes of requests take: so a mix takes as long as its parts."""
    return path.stat().st_size / 1000


def test_operations_stand_beside_bare_onnx_runtime(alone: dict[str, Any]) -> None:
    """Images a second, the graphs' own, and the share; a request of 16 counts 16 times."""
    text = results._operations(alone)
    assert "| decode to WebP, 64 × 64 | **100** | 100–100 | 5.0 | 9.0 | 200 | 50 % | 1 |" in text
    many = "| encode JPEG, 16 a request, 256 × 256 | **160** | 160–160 | 5.0 | 9.0 | 200 | 80 % |"
    assert many in text


def test_forms_of_codes_show_what_writing_them_takes(alone: dict[str, Any]) -> None:
    """As the service's own timing says."""
    assert "| 256 × 256 | `application/x-npy` | " in results._formats(alone)
    assert " | 0.25 | 40.0 |" in results._formats(alone)


def test_large_images_show_their_cost_a_megapixel(alone: dict[str, Any]) -> None:
    """40 ms for a quarter of a megapixel are 153 for one; the first row is the empty server."""
    text = results._large(alone)
    assert "300 MiB before the first" in text
    assert "| 512 × 512 | 40.0 | 153 | 300 |" in text
    assert "0 × 0" not in text


def test_the_rest_shows_mix_idleness_and_contention(alone: dict[str, Any]) -> None:
    """A mix that takes as long as its parts is 100 %, and everyone's kept speed is shown."""
    text = results._rest(alone)
    assert ": 100 %; p99 9 ms, 10 errors" in text
    assert "| encode 1024² | 0.5 % |" in text
    assert "Tessera used 0.00 % of one core" in text
    for who in ("bare ONNX Runtime", "Tessera", "Triton (pytriton)"):
        assert f"| {who}, 64 × 64 | " in text


def test_a_mix_has_every_request_of_its_parts_evenly_spread() -> None:
    """The expensive ones are neither all at the end nor all at the beginning."""
    many, few = [b"a%d" % i for i in range(8)], [b"b0", b"b1"]
    mixed = service._interleaved([many, few])
    assert sorted(mixed) == sorted(many + few)
    assert [mixed.index(one) for one in few] == [2, 7]


def test_who_cannot_do_as_much_is_named_in_the_open_loop() -> None:
    """A server left out of it has a line that says why."""
    waits = {"p50_ms": 5.0, "p90_ms": 7.0, "p99_ms": 9.0, "max_ms": 9.0, "errors": 0, "rate": 90.0}
    text = results._open(
        {
            "closed": [{"key": "triton", "side": 64}, {"key": "torch", "side": 64}],
            "open": [{"key": "triton", "side": 64, "share": 0.9, **waits}],
        }
    )
    assert "| Triton (pytriton) | 5.0 | 7.0 | 9.0 | 9.0 | 0 |" in text
    assert "| FastAPI + PyTorch | can't do as much |" in text


def test_facts_that_differ_are_told_for_each_part() -> None:
    """A part measured later, at another commit, is not passed off as measured with the other."""
    facts = results._facts(
        {
            "compare": {"commit": "aaa", "memory": "24 GiB"},
            "service": {"commit": "bbb", "memory": "24 GiB"},
        }
    )
    assert facts == [
        ("commit", "beside peers: aaa; Tessera alone: bbb"),
        ("memory", "24 GiB"),
    ]


def compared() -> dict[str, Any]:
    """Small figures of four servers."""
    common = {"p50_ms": 5.0, "p99_ms": 9.0, "cpu_ms": 2.0, "errors": 0, "foreign_share": 0.0}
    speeds = {"tessera": 400, "triton": 200, "litserve": 100, "tessera-int8": 900}
    return {
        "closed": [
            {"key": key, "side": side, "clients": 8, "per_second": speed + step, **common}
            for key, speed in speeds.items()
            for side in (64, 256)
            for step in (-20, 0, 50)
        ],
        "open": [],
        "bare": [
            {
                "precision": "fp32",
                "side": side,
                "layout": "together",
                "batch": 4,
                "per_second": 500.0,
            }
            for side in (64, 256)
        ],
        "checked": {"tessera": 1.0},
        "peak_memory_mib": {"tessera": 100.0},
    }


def test_results_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Medians, ratios and targets come out of single measurements."""
    monkeypatch.setattr(results, "HERE", tmp_path)
    results.write({"facts": {"compare": {"date": "today"}}, "compare": compared()})
    text = (tmp_path / "RESULTS.md").read_text()
    assert "| date | today |" in text
    assert "| 64², 8 clients, against Triton | ≥ 1.8× | 2.00× | met |" in text
    assert "| 256², share of bare ONNX Runtime | ≥ 95 % | 80.00 % | **missed** |" in text
    assert "| Triton (pytriton) | **200** | 180–250 | 2.00× |" in text
    assert (tmp_path / "throughput.svg").read_text().startswith("<svg")


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where figures are kept, and nothing real written."""
    file = tmp_path / "figures" / "results.json"
    monkeypatch.setattr(command, "_RAW", file)
    monkeypatch.setattr(results, "HERE", tmp_path)
    return file


def test_a_part_measured_anew_keeps_the_facts_of_the_other(kept: Path) -> None:
    """Commit and command stand with the figures that they were measured by."""
    figures = command.last_figures()
    figures["compare"] = compared()
    command.keep(figures, "compare", {"commit": "aaa"})
    figures = command.last_figures()
    figures["service"] = {}
    command.keep(figures, "service", {"commit": "bbb"})
    found = json.loads(kept.read_text())
    assert found["facts"] == {"compare": {"commit": "aaa"}, "service": {"commit": "bbb"}}
    assert found["compare"] == compared()


@pytest.mark.parametrize("old", [None, '{"facts": {"date": "of an older version"}}'])
def test_a_report_of_nothing_is_one_clear_line(
    kept: Path, capsys: pytest.CaptureFixture[str], old: str | None
) -> None:
    """Nothing measured yet, or by a version that wrote other figures."""
    if old:
        kept.parent.mkdir()
        kept.write_text(old)
    assert command.main(["report"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        f"error: no figures in {kept}; run: python -m benchmarks quick"
    ]
