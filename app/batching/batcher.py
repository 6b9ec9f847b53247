"""One queue and few runners: all concurrency of the service.

An item passes two stages. `prepare`, such as decoding an image, runs in a small pool of threads
and says what the item is: a key, a payload, a weight. Items of one key may run together; runners,
as many threads as the device can use, take them from the queue, as many of a key as fit, and hand
them to `run`. Nothing waits for a timer: an item that finds a runner idle runs at once, and while
one batch runs the next one gathers.

::

    slots(n) ─▶ prepare (pool) ─▶ queue ─▶ run(key, payloads) (runners) ─▶ result
       │              │             │               │
       └ Overloaded   └ its error   └ dropped if    └ a failed batch is halved until
         at once                      nobody waits    the failing item is by itself

On a CPU of several cores one exclusive run on all of them is the fastest way for a single item;
for many items, one run on each core is: nobody waits for the slower half of another's run. So the
first item takes all cores, and items that come while others wait or run take one core each.

This module is generic: it doesn't know what a key, a payload or a run is.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

from app.batching.admission import Admission, Slots
from app.batching.fair_pool import FairPool
from app.batching.fair_queue import FairQueue
from app.batching.work import Done, Entry, Heavy, Work, deliver
from app.errors import Internal, NotReady, without_traceback

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class Batcher:
    """The queue, its runners, and the pool of threads that prepares items.

    Args:
        run: `run(key, payloads)` → one result per payload, in order; a result that is an
            exception fails only its own item. It is called while nothing else runs, or by the only
            runner.
        max_items: most items admitted and not yet answered.
        max_weight: most weight that waits in the queue; a single item may weigh more.
        max_batch_weight: most weight of one run; a single item may weigh more.
        max_wait_s: when what is queued takes longer than this, new items are refused rather than
            queued to time out; an item that has waited for as long goes before younger ones. So
            no item waits for longer than twice this, and one that would is refused too, once its
            weight is known.
        prepare_threads: number of threads of the pool.
        on_batch: called after every run with its number of items and the seconds it took.
        run_concurrently: like `run`, called where other runs go on at the same time; None if
            `run` suits.
        runners: most runs at the same time.
    """

    def __init__(
        self,
        run: Callable[[Any, list[Any]], Sequence[Any]],
        *,
        max_items: int,
        max_weight: int,
        max_batch_weight: int,
        max_wait_s: float = math.inf,
        prepare_threads: int = 2,
        on_batch: Callable[[int, float], None] | None = None,
        run_concurrently: Callable[[Any, list[Any]], Sequence[Any]] | None = None,
        runners: int = 1,
    ) -> None:
        self._run = run
        self._run_concurrently = run_concurrently or run
        self._runners = runners
        self._max_batch_weight = max_batch_weight
        self._on_batch = on_batch
        self._pool = FairPool(prepare_threads, "tessera-prepare")
        self._lock = threading.Lock()
        self._filled = threading.Condition(self._lock)
        # Everything below is guarded by the lock.
        self._queue: FairQueue[Entry] = FairQueue(max_wait_s)
        self._admission = Admission(
            self._queue, max_items=max_items, max_weight=max_weight, max_wait_s=max_wait_s
        )
        self._running: dict[int, tuple[list[Entry], float]] = {}
        self._exclusive = False
        self._closed: Exception | None = None
        self._threads = [
            threading.Thread(target=self._consume, args=(i,), name=f"tessera-run_{i}", daemon=True)
            for i in range(runners)
        ]
        for thread in self._threads:
            thread.start()

    # --- on the event loop --------------------------------------------------------------------

    def slots(self, items: int = 1) -> Slots:
        """Take slots for that many items, to be left as a context once they are answered.

        Raises:
            Overloaded: as `Slots.take`.
            NotReady: closed.
        """
        self._check_open()
        slots = Slots(self._admission, self._lock)
        slots.take(items)
        return slots

    def check_room(self) -> None:
        """Refuse early, before anything is known of the items, if there is no slot for one.

        Raises:
            Overloaded, NotReady: as `slots`.
        """
        self._check_open()
        with self._lock:
            self._admission.check_items(1)

    async def submit(self, prepare: Callable[[], Work | Heavy], *, at_once: bool = False) -> Done:
        """Prepare an item in the pool, queue it, and wait until it has run.

        An item that turns out to be heavy waits for its turn to be prepared; if the queue is too
        full for it, it is refused at once.

        Cancelling this drops the item at its next step: before it is prepared, or before it
        runs. Call it with a slot for the item.

        Args:
            prepare: makes the item's work of what was sent.
            at_once: prepare it on the event loop, for what takes less time than changing threads.

        Raises:
            Exception: whatever `prepare` or `run` raised for this item.
            Overloaded: the queue is full by weight.
            NotReady: closed.
        """
        self._check_open()
        entry = _entry()
        if at_once:
            self._prepare(entry, prepare)
        else:
            preparing = self._pool.submit(self._prepare, entry, prepare)
            entry.future.add_done_callback(lambda _: preparing.cancel())
        return await self._outcome(entry)

    async def submit_prepared(self, work: Work) -> Done:
        """Like `submit`, for an item that needs no preparation."""
        entry = _entry()
        self._put(entry, work)
        return await self._outcome(entry)

    async def offload(self, function: Callable[..., _T], *arguments: Any) -> _T:
        """Run a function in the pool, for what takes longer than the event loop may stand still.

        Raises:
            NotReady: closed.
            Exception: whatever the function raises.
        """
        self._check_open()
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)

    @property
    def depth(self) -> int:
        """Items admitted and not yet answered."""
        return self._admission.throughput.items

    @property
    def queued_weight(self) -> int:
        """Weight of the items that wait in the queue."""
        return self._queue.weight

    def running_for_s(self) -> float:
        """Seconds since the oldest present run began; 0 while nothing runs."""
        with self._lock:
            began = [started for _, started in self._running.values()]
        return time.monotonic() - min(began) if began else 0.0

    def close(self, error: Exception | None = None, timeout_s: float = 2.0) -> None:
        """Refuse new items, fail those that wait or run, and end the threads.

        Args:
            error: what they fail with; NotReady if None.
            timeout_s: how long to wait for the present runs; hung ones are left behind.
        """
        error = error or NotReady("the service is stopping")
        with self._lock:
            self._closed = error
            left = self._queue.clear()
            left += [entry for batch, _ in self._running.values() for entry in batch]
            self._filled.notify_all()
        deliver([(entry, error) for entry in left])
        self._pool.shutdown(wait=False, cancel_futures=True)
        until = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _check_open(self) -> None:
        if self._closed is not None:
            raise self._closed

    async def _outcome(self, entry: Entry) -> Done:
        try:
            return await entry.future
        finally:
            if entry.future.cancelled():
                # Nobody waits for it any more: its weight in the queue is free at once.
                with self._lock:
                    self._queue.discard(entry.work.key, entry)

    # --- in the pool --------------------------------------------------------------------------

    def _prepare(self, entry: Entry, prepare: Callable[[], Work | Heavy]) -> None:
        if entry.abandoned:
            return
        try:
            work = prepare()
            if isinstance(work, Heavy):
                self._check_open()
                with self._lock:
                    self._admission.check_weight(work.weight)
                self._pool.submit_weighed(work.cost, self._prepare, entry, work.prepare)
            else:
                self._put(entry, work)
        except Exception as error:  # noqa: BLE001  (it belongs to whoever waits for the item)
            # Here and not where it arrives: what was half prepared would be held until the event
            # loop comes to it, while the next items are prepared already.
            deliver([(entry, without_traceback(error))])

    def _put(self, entry: Entry, work: Work) -> None:
        entry.work = work
        entry.prepared = time.monotonic()
        with self._lock:
            self._check_open()
            self._admission.check_weight(work.weight)
            self._queue.add(work.key, entry, work.weight, entry.submitted)
            self._filled.notify()

    # --- in the runners' threads --------------------------------------------------------------

    def _consume(self, me: int) -> None:
        while True:
            with self._lock:
                while self._exclusive or not self._queue:
                    if self._closed is not None:
                        return
                    self._filled.wait()
                # What waits is shared among the runners, or one would take it all.
                share = -(-self._queue.weight // self._runners)
                most = min(self._max_batch_weight, share)
                batch = self._queue.take(most, _is_wanted, time.monotonic())
                if not batch:
                    continue
                exclusive = not self._running and not self._queue
                # Nobody waits for a run that is longer than a batch may be.
                self._exclusive = exclusive and batch[0].work.weight <= self._max_batch_weight
                started = time.monotonic()
                self._running[me] = batch, started
            outcomes = self._attempt(batch, self._run if exclusive else self._run_concurrently)
            seconds = time.monotonic() - started
            with self._lock:
                del self._running[me]
                self._exclusive = False
                weights = [entry.work.weight for entry in batch]
                self._admission.throughput.finish(weights, started + seconds)
                if self._queue:
                    self._filled.notify_all()
            deliver(
                [
                    (entry, outcome)
                    if isinstance(outcome, Exception)
                    else (entry, entry.done(outcome, started, seconds, len(batch)))
                    for entry, outcome in zip(batch, outcomes, strict=True)
                ]
            )
            if self._on_batch is not None:
                self._on_batch(len(batch), seconds)
            # A frame of this loop would otherwise hold the last batch's pixels until the next.
            del batch, outcomes

    def _attempt(
        self, batch: list[Entry], run: Callable[[Any, list[Any]], Sequence[Any]]
    ) -> list[Any]:
        """Run a batch; one that fails is halved until the item that fails is by itself."""
        try:
            outcomes = list(run(batch[0].work.key, [entry.work.payload for entry in batch]))
            if len(outcomes) != len(batch):
                raise Internal(f"{len(outcomes)} results for {len(batch)} items")  # noqa: TRY301
        except Exception as error:  # noqa: BLE001  (the thread must outlive whatever a run raises)
            if len(batch) == 1:
                _log.exception("an item failed")
                return [error]
            _log.warning("a batch of %d failed and is halved: %s", len(batch), type(error).__name__)
            middle = len(batch) // 2
            return self._attempt(batch[:middle], run) + self._attempt(batch[middle:], run)
        return outcomes


def _entry() -> Entry:
    loop = asyncio.get_running_loop()
    return Entry(loop, loop.create_future())


def _is_wanted(entry: Entry) -> bool:
    return not entry.abandoned
