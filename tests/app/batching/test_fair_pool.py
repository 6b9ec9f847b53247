"""Whose turn it is in the pool: weights by turns, and nothing lost on the way."""

from __future__ import annotations

import gc
import threading
import weakref
from concurrent.futures import CancelledError

import pytest

from app.batching.fair_pool import FairPool


@pytest.fixture
def pool():
    """A pool of one thread, which is held up until `pool.go()` is called."""
    pool = FairPool(1, "test")
    held = threading.Event()
    pool.go = held.set
    pool.submit(held.wait, 10)
    yield pool
    held.set()
    pool.shutdown()


def test_light_calls_pass_heavy_ones(pool):
    """A hundred heavy calls came first; the light ones wait for none of them."""
    done = []
    heavy = [pool.submit_weighed(10**6, done.append, "heavy") for _ in range(100)]
    light = [pool.submit(done.append, "light") for _ in range(20)]
    pool.go()
    for future in heavy + light:
        future.result(10)
    assert done[:20] == ["light"] * 20


def test_a_stream_of_light_calls_does_not_starve_a_heavy_one(pool):
    """It goes once as much weight of light ones has passed it."""
    done = []
    pool.submit_weighed(2**17, done.append, "heavy")
    calls = [pool.submit(done.append, "light") for _ in range(100)]  # of 2**14 each
    pool.go()
    calls[-1].result(10)
    assert 5 < done.index("heavy") < 12


def test_calls_of_one_weight_keep_their_order(pool):
    """First come, first served."""
    done = []
    calls = [pool.submit(done.append, i) for i in range(50)]
    pool.go()
    for call in calls:
        call.result(10)
    assert done == list(range(50))


def test_cancelled_calls_are_skipped(pool):
    """And those behind them still have their turns."""
    done = []
    calls = [pool.submit(done.append, i) for i in range(6)]
    assert all(call.cancel() for call in calls[::2])
    pool.go()
    for call in calls[1::2]:
        call.result(10)
    assert done == [1, 3, 5]


def test_what_a_call_raises_reaches_who_waits_and_holds_nothing(pool):
    """The error doesn't keep itself and the call's arguments alive in a cycle."""

    class Argument:
        pass

    def fail(_given):
        raise ValueError("no")

    given = Argument()
    seen = weakref.ref(given)
    gc.disable()
    try:
        future = pool.submit(fail, given)
        del given
        pool.go()
        with pytest.raises(ValueError, match="no"):
            future.result(10)
        del future
        pool.submit(int).result(10)  # the thread has let go of the call before
        assert seen() is None
    finally:
        gc.enable()


def test_shutting_down_cancels_what_waits(pool):
    """Nobody waits for a call that will never have its turn; later ones are refused."""
    calls = [pool.submit(int) for _ in range(3)]
    pool.shutdown(wait=False, cancel_futures=True)
    for call in calls:
        with pytest.raises(CancelledError):
            call.result(1)
    with pytest.raises(RuntimeError):
        pool.submit(int)
