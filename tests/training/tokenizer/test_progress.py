"""The pace of a training run."""

import pytest

from training.tokenizer.progress import Stopwatch


def test_the_pace_leaves_out_what_is_done_aside(monkeypatch):
    """Four steps in two seconds, and three seconds of validation: two steps a second, in five."""
    now = [100.0]
    monkeypatch.setattr("training.tokenizer.progress.time.monotonic", lambda: now[0])
    watch = Stopwatch(before=60.0)
    for _ in range(4):
        now[0] += 0.5
        watch.step()
    with watch.aside():
        now[0] += 3
    assert watch.pace() == pytest.approx(2)
    assert watch.seconds() == pytest.approx(65)
    now[0] += 1
    watch.step()
    assert watch.pace() == pytest.approx(1)
