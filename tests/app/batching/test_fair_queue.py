"""Whose turn it is; how batches are made of it is in test_batcher.py."""

from app.batching.fair_queue import FairQueue


def everyone(_entry):
    return True


def taken(queue, now):
    (entry,) = queue.take(1, everyone, now)
    return entry


def test_what_has_waited_too_long_goes_first():
    """Small ones pass a large one for as long as it may wait, and then no more."""
    queue = FairQueue(max_age_s=10)
    queue.add("large", "large", 100, now=0)
    for at in (0, 4, 9, 10):
        queue.add("small", f"small of {at}", 1, now=at)
    assert taken(queue, now=9.9) == "small of 0"
    assert taken(queue, now=10) == "large"
    assert taken(queue, now=10) == "small of 4"


def test_among_those_that_waited_too_long_the_oldest_is_first():
    """Whatever their weights and turns."""
    queue = FairQueue(max_age_s=1)
    for at, weight in ((2, 1), (0, 50), (1, 9)):
        queue.add(weight, f"of {at}", weight, now=at)
    assert [taken(queue, now=60) for _ in range(3)] == ["of 0", "of 1", "of 2"]
