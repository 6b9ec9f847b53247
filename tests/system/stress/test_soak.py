"""The soak in short, and that growth is seen."""

from __future__ import annotations

import pytest

from tests.system.stress.growth import percentile, slope
from tests.system.stress.process import Holdings
from tests.system.stress.soak import Plan, growth_checks, run


def samples(**growth_per_minute: float) -> list[Holdings]:
    """Half an hour of samples."""
    rss, files, threads = (growth_per_minute.get(name, 0.0) for name in ("rss", "files", "threads"))
    return [
        Holdings(
            at=at * 5.0,
            rss_mib=300 + 20 * (at % 2) + rss * at / 12,
            files=round(15 + files * at / 12),
            threads=round(19 + threads * at / 12),
            cpu_s=0.0,
        )
        for at in range(360)
    ]


def test_what_is_flat_passes():
    """Ups and downs are no growth."""
    checks = growth_checks(samples(), warm_up_minutes=10, minutes=30)
    assert [check.kept for check in checks] == [True, True, True]


@pytest.mark.parametrize(("grows", "index"), [("rss", 0), ("files", 1), ("threads", 2)])
def test_what_grows_fails(grows, index):
    """Two a minute, of each kind."""
    checks = growth_checks(samples(**{grows: 2.0}), warm_up_minutes=10, minutes=30)
    assert [check.kept for check in checks] == [i != index for i in range(3)]


def test_the_line_through_samples():
    """Least squares; and a percentile is a value that was measured."""
    assert slope([0, 1, 2, 3], [1, 3, 5, 7]) == pytest.approx(2)
    assert slope([0, 1, 2], [0, 3, 0]) == 0
    assert percentile([5, 1, 3, 2, 4], 0.99) == 5
    assert percentile(list(range(1, 101)), 0.99) == 99


@pytest.mark.timeout(300)
def test_mixed_traffic_with_faults_for_seconds(tiny_bundle):
    """A real server: every answer as expected, none lost, reloads under load, exit code 0."""
    plan = Plan(
        minutes=5 / 60,
        rate=25,
        bundles={tiny_bundle: (1.0, {(64, 64): 2, (200, 136): 1})},
        fault_share=0.3,
        reload_every_s=1.2,
        sample_every_s=0.5,
        enough=lambda tally: tally.reloads > 0 and len(tally.faults) > 5,
    )
    result, tally = run(plan)
    assert result["passed"], [check for check in result["checks"] if not check["kept"]]
    assert tally.reloads
    assert len(tally.faults) > 5
