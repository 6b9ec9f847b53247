"""One queue, few runners: what waits, what runs together, what is refused and what is dropped."""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from contextlib import contextmanager

import pytest

from app.batching.batcher import Batcher
from app.batching.work import Work
from app.errors import NotReady, Overloaded, TesseraError


class Recorder:
    """A run that notes its batches; it can be held up, and fails on payloads that say so."""

    def __init__(self) -> None:
        self.batches = []
        self.go = threading.Event()
        self.go.set()

    def __call__(self, key, payloads):
        self.batches.append((key, list(payloads)))
        assert self.go.wait(100)
        if "poison" in payloads:
            raise RuntimeError("poison")
        return [f"{key}:{payload}" for payload in payloads]


@contextmanager
def batcher(run, **options):
    """A batcher that is closed in the end."""
    made = Batcher(run, **{"max_items": 64, "max_weight": 1000, "max_batch_weight": 8, **options})
    try:
        yield made
    finally:
        if isinstance(run, Recorder):
            run.go.set()
        made.close()


async def until(condition):
    """Wait for a condition that another thread brings about."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)


async def hold_up(queue, run):
    """Make the consumer busy with an item of its own; return its task."""
    run.go.clear()
    first = asyncio.create_task(queue.submit_prepared(Work("first", 0, 1)))
    await until(lambda: run.batches)
    return first


def test_a_lone_item_runs_at_once():
    """No timer waits for company."""

    async def main():
        with batcher(Recorder()) as queue:
            async with asyncio.timeout(60):
                done = await queue.submit(lambda: Work("a", 1, 1, original="kept"))
            assert (done.result, done.original) == ("a:1", "kept")
            assert min(done.prepare_s, done.queue_s, done.run_s) >= 0

    asyncio.run(main())


def test_what_gathers_during_a_run_runs_together_by_key_and_weight():
    """Equal keys are stacked up to the weight of a batch; other keys are not mixed in."""

    async def main():
        run = Recorder()
        with batcher(run) as queue:
            first = await hold_up(queue, run)
            rest = [
                asyncio.create_task(queue.submit_prepared(Work("ab"[i % 2], i, 3)))
                for i in range(8)
            ]
            await until(lambda: queue.queued_weight == 24)
            run.go.set()
            await asyncio.gather(first, *rest)
        sizes = [(key, len(batch)) for key, batch in run.batches[1:]]
        assert sorted(sizes) == [("a", 2), ("a", 2), ("b", 2), ("b", 2)]
        assert [task.result().result for task in rest] == [f"{'ab'[i % 2]}:{i}" for i in range(8)]

    asyncio.run(main())


def test_a_large_item_delays_small_ones_no_longer_than_itself():
    """Ten large ones are queued first; small ones that come later wait for one at most."""

    async def main():
        run = Recorder()
        with batcher(run, max_weight=10_000) as queue:
            first = await hold_up(queue, run)
            large = [
                asyncio.create_task(queue.submit_prepared(Work(f"large{i}", i, 100)))
                for i in range(10)
            ]
            await until(lambda: queue.queued_weight == 1000)
            small = [
                asyncio.create_task(queue.submit_prepared(Work("small", i, 1))) for i in range(4)
            ]
            await until(lambda: queue.queued_weight == 1004)
            run.go.set()
            await asyncio.gather(first, *large, *small)
        order = [key for key, _ in run.batches[1:]]
        assert order.index("small") <= 1

    asyncio.run(main())


def test_a_stream_of_small_items_does_not_starve_a_large_one():
    """A large one is passed by small ones that add up to its own weight, and no more."""

    async def main():
        order = []
        loop = asyncio.get_running_loop()
        tasks = []

        def small():
            tasks.append(loop.create_task(queue.submit_prepared(Work("small", 0, 1))))

        def run(key, payloads):
            order.append(key)
            if key == "small" and len(order) < 60:
                # Before this one is done the next one waits, beside the large one.
                loop.call_soon_threadsafe(small)
                while not queue.queued_weight % 20:
                    time.sleep(0.001)
            return payloads

        with batcher(run) as queue:
            small()
            await until(lambda: order)
            await queue.submit_prepared(Work("large", 0, 20))
            await until(lambda: all(task.done() for task in tasks))
        assert order.index("large") <= 25

    asyncio.run(main())


def test_a_poisoned_item_fails_alone():
    """The failed batch is halved until the item is alone; its neighbours get their results."""

    async def main():
        run = Recorder()
        with batcher(run) as queue:
            first = await hold_up(queue, run)
            payloads = [1, 2, "poison", 4, 5]
            rest = [asyncio.create_task(queue.submit_prepared(Work("a", p, 1))) for p in payloads]
            await until(lambda: queue.queued_weight == 5)
            run.go.set()
            await first
            outcomes = await asyncio.gather(*rest, return_exceptions=True)
        assert isinstance(outcomes[2], RuntimeError)
        assert [o.result for i, o in enumerate(outcomes) if i != 2] == ["a:1", "a:2", "a:4", "a:5"]

    asyncio.run(main())


def test_a_result_that_is_an_exception_fails_its_item_alone():
    """A run may find single items bad without failing as a whole."""

    async def main():
        found_bad = [ValueError("bad")]
        with (
            batcher(lambda _key, _payloads: found_bad) as queue,
            pytest.raises(ValueError, match="bad"),
        ):
            await queue.submit_prepared(Work("a", 1, 1))

    asyncio.run(main())


def test_what_preparing_raises_reaches_who_waits():
    """A broken image is the image's fault, not the queue's."""

    async def main():
        def broken():
            raise TesseraError("broken")

        with batcher(Recorder()) as queue:
            with pytest.raises(TesseraError, match="broken"):
                await queue.submit(broken)
            assert (await queue.submit(lambda: Work("a", 1, 1))).result == "a:1"

    asyncio.run(main())


def test_what_was_half_prepared_is_let_go_in_its_thread():
    """Not once the event loop comes to it: meanwhile the pool prepares, and fails on, others."""

    class Picture:
        pass

    async def main():
        pictures = []

        def broken():
            picture = Picture()
            pictures.append(weakref.ref(picture))
            raise TesseraError("broken")

        with batcher(Recorder()) as queue:
            waiting = asyncio.create_task(queue.submit(broken))
            await asyncio.sleep(0)  # submitted; from here on the event loop stands still
            deadline = time.monotonic() + 60
            while not pictures or pictures[0]() is not None:
                assert time.monotonic() < deadline
                time.sleep(0.001)  # noqa: ASYNC251
            with pytest.raises(TesseraError, match="broken"):
                await waiting

    asyncio.run(main())


def test_items_nobody_waits_for_never_run():
    """An item whose client disconnected is dropped, and its weight is free at once."""

    async def main():
        run = Recorder()
        with batcher(run) as queue:
            first = await hold_up(queue, run)
            gone = asyncio.create_task(queue.submit_prepared(Work("gone", 1, 5)))
            await until(lambda: queue.queued_weight == 5)
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)
            assert queue.queued_weight == 0
            stays = asyncio.create_task(queue.submit_prepared(Work("stays", 1, 1)))
            await until(lambda: queue.queued_weight == 1)
            run.go.set()
            await asyncio.gather(first, stays)
        assert [key for key, _ in run.batches] == ["first", "stays"]

    asyncio.run(main())


def test_items_dropped_before_they_are_prepared_cost_nothing():
    """With the pool busy, a cancelled item is not even decoded."""

    async def main():
        prepared = []
        begun, release = threading.Event(), threading.Event()

        def slow():
            begun.set()
            release.wait(100)
            return Work("a", 1, 1)

        def noted():
            prepared.append(1)
            return Work("a", 2, 1)

        with batcher(Recorder(), prepare_threads=1) as queue:
            busy = asyncio.create_task(queue.submit(slow))
            await until(begun.is_set)
            gone = asyncio.create_task(queue.submit(noted))
            await asyncio.sleep(0.02)  # until it has been submitted
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)
            release.set()
            await busy
            await queue.submit(lambda: Work("a", 3, 1))
        assert not prepared

    asyncio.run(main())


def test_a_full_queue_refuses_at_once_and_says_when_to_return():
    """Retry-After is what is waiting, at the speed measured."""

    async def main():
        go = threading.Event()
        taken = []

        def slow(key, payloads):
            if len(taken) == 2:  # the speed is known: these only wait
                assert go.wait(100)
                return payloads
            started = time.monotonic()
            time.sleep(0.4)
            taken.append(time.monotonic() - started)
            return payloads

        with batcher(slow, max_items=10, max_batch_weight=1) as queue:

            async def one():
                async with queue.slots(1):
                    await queue.submit_prepared(Work("a", 1, 1))

            for _ in range(2):
                await one()
            started = time.monotonic()
            waiting = [asyncio.create_task(one()) for _ in range(10)]
            await until(lambda: queue.depth == 10)
            with pytest.raises(Overloaded) as refusal:
                queue.slots(1)
            # At once: not a single one of them can have run.
            assert queue.depth == 10
            # Ten at the speed of those two: right within a factor of two. What the present run has
            # taken up to now counts, and a machine may stall.
            quick, slow_s = sum(taken) / 2, (sum(taken) + time.monotonic() - started) / 2
            assert 10 * quick / 2 <= refusal.value.retry_after_s <= 10 * slow_s * 2 + 1
            go.set()
            await asyncio.gather(*waiting)
            async with queue.slots(10):
                assert queue.depth == 10
            assert queue.depth == 0

    asyncio.run(main())


def test_the_queue_is_bounded_by_weight_too():
    """Items whose weight is known only once prepared are refused then."""

    async def main():
        run = Recorder()
        with batcher(run, max_weight=10) as queue:
            first = await hold_up(queue, run)
            waiting = asyncio.create_task(queue.submit_prepared(Work("a", 1, 9)))
            await until(lambda: queue.queued_weight == 9)
            with pytest.raises(Overloaded):
                await queue.submit(lambda: Work("a", 2, 2))
            run.go.set()
            await asyncio.gather(first, waiting)
            alone = await queue.submit(lambda: Work("a", 3, 99))
            assert alone.result == "a:3"

    asyncio.run(main())


def test_what_would_time_out_in_the_queue_is_refused():
    """With a second of work queued, an item that may wait for half is not accepted."""

    async def main():
        def slow(key, payloads):
            time.sleep(0.1)
            return payloads

        with batcher(slow, max_batch_weight=1, max_wait_s=0.5) as queue:
            await queue.submit_prepared(Work("a", 1, 1))

            async def one():
                async with queue.slots(1):
                    await queue.submit_prepared(Work("a", 1, 1))

            await one()
            tasks = [asyncio.create_task(one()) for _ in range(20)]
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        refused = [o for o in outcomes if isinstance(o, Overloaded)]
        assert 0 < len(refused) < 20
        assert all(o is None for o in outcomes if not isinstance(o, Overloaded))

    asyncio.run(main())


def test_what_turns_out_too_heavy_to_be_run_in_time_is_refused():
    """Its weight is known once it is prepared: more than twice what may be queued is too much."""

    async def main():
        go = threading.Event()
        ran = []

        def slow(key, payloads):
            if ran:  # the speed is known: these only wait
                assert go.wait(100)
            time.sleep(0.1)
            ran.append(key)
            return payloads

        with batcher(slow, max_weight=10**9, max_batch_weight=1, max_wait_s=60) as queue:

            async def one(weight):
                async with queue.slots(1):
                    await queue.submit(lambda: Work(weight, weight, weight))

            await one(1)
            waiting = [asyncio.create_task(one(1)) for _ in range(3)]
            await until(lambda: queue.queued_weight == 2)
            with pytest.raises(Overloaded):
                await one(10**6)
            go.set()
            await asyncio.gather(*waiting)

    asyncio.run(main())


def test_closing_answers_everyone_and_ends_the_threads():
    """Nobody is left waiting, and what comes later is refused."""

    async def main():
        run = Recorder()
        queue = Batcher(run, max_items=8, max_weight=100, max_batch_weight=1)
        first = await hold_up(queue, run)
        waiting = asyncio.create_task(queue.submit_prepared(Work("a", 1, 1)))
        await until(lambda: queue.queued_weight == 1)
        assert queue.running_for_s() > 0
        queue.close(timeout_s=0)
        outcomes = await asyncio.gather(first, waiting, return_exceptions=True)
        assert all(isinstance(outcome, NotReady) for outcome in outcomes)
        with pytest.raises(NotReady):
            queue.slots(1)
        run.go.set()
        await until(lambda: not ours(before))

    before = set(threading.enumerate())
    asyncio.run(main())


def ours(before):
    """Threads that run batches and weren't there before."""
    return [t for t in set(threading.enumerate()) - before if t.name.startswith("tessera-run")]


def test_runs_go_side_by_side_only_where_several_wait():
    """An item alone gets `run` and all cores; several that wait run concurrently, one core each."""

    async def main():
        exclusive, concurrent = Recorder(), Recorder()
        with batcher(
            exclusive, run_concurrently=concurrent, runners=2, max_batch_weight=4
        ) as queue:
            first = await hold_up(queue, exclusive)
            concurrent.go.clear()
            more = [asyncio.create_task(queue.submit_prepared(Work("a", i, 1))) for i in range(8)]
            await until(lambda: queue.queued_weight == 8)
            assert not concurrent.batches  # the first has all cores for as long as it runs
            exclusive.go.set()
            await until(lambda: len(concurrent.batches) == 2)
            assert [len(payloads) for _, payloads in concurrent.batches] == [4, 2]
            concurrent.go.set()
            await asyncio.gather(first, *more)
            ran = len(exclusive.batches)  # the last of them may have been alone, or not
            await queue.submit_prepared(Work("a", 9, 1))
            assert len(exclusive.batches) == ran + 1

    asyncio.run(main())


def test_a_long_run_lets_others_in_beside_it():
    """An item heavier than a batch may be takes all cores, but nobody waits for its end."""

    async def main():
        exclusive, concurrent = Recorder(), Recorder()
        with batcher(
            exclusive, run_concurrently=concurrent, runners=2, max_batch_weight=4
        ) as queue:
            exclusive.go.clear()
            long = asyncio.create_task(queue.submit_prepared(Work("long", 0, 50)))
            await until(lambda: exclusive.batches)
            assert await queue.submit_prepared(Work("short", 1, 1))
            assert not long.done()
            exclusive.go.set()
            await long

    asyncio.run(main())


def test_what_comes_after_the_end_is_refused_as_such():
    """Not by whatever a closed pool of threads would raise."""

    async def main():
        with batcher(Recorder()) as queue:
            queue.close()
            with pytest.raises(NotReady):
                await queue.submit(lambda: Work("a", 1, 1))
            with pytest.raises(NotReady):
                await queue.offload(len, [])

    asyncio.run(main())
