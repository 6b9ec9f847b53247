"""One queue, few runners: all concurrency of the service.

An item passes two stages. `prepare`, such as decoding an image, runs in a small pool of threads
and says what the item is: a key, a payload, a weight. Items of one key may run together; runners,
as many threads as the device can use, take them from the queue, as many of a key as fit, and hand
them to `run`. Nothing waits for a timer: an item that finds a runner idle runs at once, and while
one batch runs the next one gathers.

::

    admit(n) ─▶ prepare (pool) ─▶ queue ─▶ run(key, payloads) (runners) ─▶ result
       │              │             │               │
       └ Overloaded   └ its error   └ dropped if    └ a failed batch is halved until
         at once                      nobody waits    the failing item is alone

On a CPU of several cores one run on all of them is the fastest way for an item that is alone;
for many, one run on each core is: nobody waits for the other's slower half. So the first takes
all cores, and what comes while others wait or run takes one.

This module is generic: what a key, a payload or a run is, it doesn't know.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from app.batching.fair_pool import FairPool
from app.batching.fair_queue import FairQueue
from app.batching.throughput import Load
from app.errors import Internal, NotReady, Overloaded

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

_T = TypeVar("_T")
_log = logging.getLogger(__name__)

# Items below this part of the queue's greatest weight count as light.
_LIGHT = 64


@dataclass(frozen=True, slots=True)
class Work:
    """What an item is, once prepared.

    Attributes:
        key: items of equal keys may run together.
        payload: handed to `run`.
        weight: what it costs, ≥ 1, in a unit common to all items, such as pixels.
        aside: kept for whoever waits; `run` never sees it.
    """

    key: Hashable
    payload: Any
    weight: int
    aside: Any = None


@dataclass(frozen=True, slots=True)
class Heavy:
    """An item that takes long to prepare, so that others may have to go before it.

    Attributes:
        weight: as `Work` will have it.
        cost: of preparing it, in pixels to decode.
        prepare: does it.
    """

    weight: int
    cost: int
    prepare: Callable[[], Work]


@dataclass(frozen=True, slots=True)
class Done:
    """An item that has run.

    Attributes:
        result: what `run` made of it.
        aside: as `Work` had it.
        prepare_s, queue_s, run_s: seconds from submitting to prepared, from there to the start
            of its batch, and of its batch.
    """

    result: Any
    aside: Any
    prepare_s: float
    queue_s: float
    run_s: float


@dataclass(slots=True, eq=False)
class _Entry:
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Done]
    submitted: float
    prepared: float = 0.0
    work: Work = field(default=Work(None, None, 1))

    @property
    def abandoned(self) -> bool:
        # Read from other threads: one attribute of a C object, safe under the GIL.
        return self.future.done()


class Batcher:
    """The queue, its runners and the pool that prepares.

    Args:
        run: `run(key, payloads)` → one result per payload, in order; a result that is an
            exception fails its item alone. Called while nothing else runs, or by the only runner.
        max_items: most items admitted and not yet answered.
        max_weight: most weight that waits in the queue; one item alone may weigh more.
        max_batch_weight: most weight of one run; one item alone may weigh more.
        max_wait_s: when what is queued takes longer than this, new items are refused rather than
            queued to time out; one that has waited for as long goes before younger ones. So none
            waits for longer than twice this, and what would, found out once its weight is known,
            is refused too.
        prepare_threads: threads of the pool.
        on_batch: told of every run: number of items and seconds it took.
        beside: like `run`, called where other runs go on at the same time; None if `run` suits.
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
        beside: Callable[[Any, list[Any]], Sequence[Any]] | None = None,
        runners: int = 1,
    ) -> None:
        self._run = run
        self._beside = beside
        self._runners = runners
        self._max_items = max_items
        self._max_weight = max_weight
        self._max_batch_weight = max_batch_weight
        self._max_wait_s = max_wait_s
        self._on_batch = on_batch
        self._pool = FairPool(prepare_threads, "tessera-prepare")
        self._lock = threading.Lock()
        self._filled = threading.Condition(self._lock)
        # Everything below is guarded by the lock.
        self._queue: FairQueue[_Entry] = FairQueue(max_wait_s)
        self._running: dict[int, tuple[list[_Entry], float]] = {}
        self._alone = False
        self._closed: Exception | None = None
        self._load = Load()
        self._threads = [
            threading.Thread(target=self._consume, args=(i,), name=f"tessera-run_{i}", daemon=True)
            for i in range(runners)
        ]
        for thread in self._threads:
            thread.start()

    # --- on the event loop --------------------------------------------------------------------

    @contextmanager
    def admit(self, items: int) -> Iterator[None]:
        """Hold places for that many items, from before they are prepared until they are answered.

        Raises:
            Overloaded: there aren't that many, or what is already admitted takes too long; with
                the seconds until it is worked off, as measured.
            NotReady: closed.
        """
        with self._lock:
            self._check_room(items)
            self._load.arrive(items, time.monotonic())
        try:
            yield
        finally:
            with self._lock:
                self._load.leave(items, time.monotonic())

    def check_room(self) -> None:
        """Refuse early, before anything is known of the items: is there room for one?

        Raises:
            Overloaded, NotReady: as `admit`.
        """
        with self._lock:
            self._check_room(1)

    async def submit(self, prepare: Callable[[], Work | Heavy], *, at_once: bool = False) -> Done:
        """Prepare an item in the pool, queue it, and wait until it has run.

        What turns out to be heavy waits for its turn to be prepared; if the queue has no room for
        it, it is refused at once.

        Cancelling this drops the item at its next step: before it is prepared, or before it
        runs. Call it with a place held by `admit`.

        Args:
            prepare: makes the item's work of what was sent.
            at_once: prepare it on the event loop: for what takes less time than changing threads.

        Raises:
            Exception: whatever `prepare` or `run` raised for this item.
            Overloaded: the queue is full by weight.
            NotReady: closed.
        """
        self._check_open()
        entry = self._entry()
        if at_once:
            self._prepare(entry, prepare)
        else:
            preparing = self._pool.submit(self._prepare, entry, prepare)
            entry.future.add_done_callback(lambda _: preparing.cancel())
        try:
            return await entry.future
        finally:
            self._forget(entry)

    async def submit_prepared(self, work: Work) -> Done:
        """Like `submit`, for an item that needs no preparation."""
        entry = self._entry()
        self._put(entry, work)
        try:
            return await entry.future
        finally:
            self._forget(entry)

    async def offload(self, function: Callable[..., _T], *arguments: Any) -> _T:
        """Run a function in the pool: whatever takes longer than the event loop may stand still.

        Raises:
            NotReady: closed.
            Exception: whatever the function raises.
        """
        self._check_open()
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)

    @property
    def depth(self) -> int:
        """Items admitted and not yet answered."""
        return self._load.items

    @property
    def queued_weight(self) -> int:
        """Weight of what waits in the queue."""
        return self._queue.weight

    def running_for_s(self) -> float:
        """Seconds since the oldest present run began; 0 while nothing runs."""
        with self._lock:
            began = [started for _, started in self._running.values()]
        return time.monotonic() - min(began) if began else 0.0

    def close(self, error: Exception | None = None, timeout_s: float = 2.0) -> None:
        """Refuse what comes, fail what waits or runs, and end the threads.

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
        _deliver([(entry, error) for entry in left])
        self._pool.shutdown(wait=False, cancel_futures=True)
        until = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _check_open(self) -> None:
        if self._closed is not None:
            raise self._closed

    def _check_room(self, items: int) -> None:
        self._check_open()
        if self._load.items + items > self._max_items:
            raise self._overloaded("the queue is full")
        # By what waits in the queue alone: of items not yet prepared nobody knows the weight.
        if self._load.wait_s(self._queue.weight, 0) > self._max_wait_s:
            raise self._overloaded("what is queued takes longer than the deadline allows")

    def _forget(self, entry: _Entry) -> None:
        """Free the place of an item that nobody waits for any more, if it is still queued."""
        if not entry.future.cancelled():
            return
        with self._lock:
            self._queue.discard(entry.work.key, entry)

    def _overloaded(self, detail: str) -> Overloaded:
        """The refusal, with the seconds until all that is in the house now is worked off."""
        unknown = self._load.items - len(self._queue)
        return Overloaded(detail, math.ceil(self._load.wait_s(self._queue.weight, unknown)))

    def _entry(self) -> _Entry:
        loop = asyncio.get_running_loop()
        return _Entry(loop, loop.create_future(), time.monotonic())

    # --- in the pool --------------------------------------------------------------------------

    def _prepare(self, entry: _Entry, prepare: Callable[[], Work | Heavy]) -> None:
        if entry.abandoned:
            return
        try:
            work = prepare()
            if isinstance(work, Heavy):
                with self._lock:
                    self._check_queue(work.weight)
                self._pool.submit_weighed(work.cost, self._prepare, entry, work.prepare)
            else:
                self._put(entry, work)
        except Exception as error:  # noqa: BLE001  (it belongs to whoever waits for the item)
            _deliver([(entry, error)])

    def _put(self, entry: _Entry, work: Work) -> None:
        entry.work = work
        entry.prepared = time.monotonic()
        with self._lock:
            self._check_queue(work.weight)
            self._queue.add(work.key, entry, work.weight, entry.submitted)
            self._filled.notify()

    def _check_queue(self, weight: int) -> None:
        self._check_open()
        # Heavy items leave a quarter to light ones, which would otherwise be refused for as long as
        # heavy ones keep it full.
        light = weight <= self._max_weight // _LIGHT
        weight += self._queue.weight
        if self._queue and weight > self._max_weight * (1 if light else 0.75):
            raise self._overloaded("the queue is full")
        if self._queue and self._load.wait_s(weight, 0) > 2 * self._max_wait_s:
            raise self._overloaded("what is queued takes longer than the deadline allows")

    # --- in the runners' threads --------------------------------------------------------------

    def _consume(self, me: int) -> None:
        while True:
            with self._lock:
                while self._alone or not self._queue:
                    if self._closed is not None:
                        return
                    self._filled.wait()
                # What waits is shared among the runners, or one would take it all.
                share = -(-self._queue.weight // self._runners)
                most = min(self._max_batch_weight, share)
                batch = self._queue.take(most, _is_wanted, time.monotonic())
                if not batch:
                    continue
                alone = not self._running and not self._queue
                # Nobody waits for a run that is longer than a batch may be.
                self._alone = alone and batch[0].work.weight <= self._max_batch_weight
                started = time.monotonic()
                self._running[me] = batch, started
            outcomes = self._attempt(batch, self._run if alone else self._beside or self._run)
            seconds = time.monotonic() - started
            with self._lock:
                del self._running[me]
                self._alone = False
                self._load.finish([entry.work.weight for entry in batch], started + seconds)
                if self._queue:
                    self._filled.notify_all()
            _deliver(
                [
                    (entry, outcome)
                    if isinstance(outcome, Exception)
                    else (
                        entry,
                        Done(
                            outcome,
                            entry.work.aside,
                            entry.prepared - entry.submitted,
                            started - entry.prepared,
                            seconds,
                        ),
                    )
                    for entry, outcome in zip(batch, outcomes, strict=True)
                ]
            )
            if self._on_batch is not None:
                self._on_batch(len(batch), seconds)
            # A frame of this loop would otherwise hold the last batch's pixels until the next.
            del batch, outcomes

    def _attempt(
        self, batch: list[_Entry], run: Callable[[Any, list[Any]], Sequence[Any]]
    ) -> list[Any]:
        """Run a batch; one that fails is halved until what fails is alone."""
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


def _is_wanted(entry: _Entry) -> bool:
    return not entry.abandoned


def _deliver(outcomes: list[tuple[_Entry, Done | Exception]]) -> None:
    """Hand results to the event loop, with one wake-up for all of them."""
    if outcomes:
        try:
            outcomes[0][0].loop.call_soon_threadsafe(_resolve, outcomes)
        except RuntimeError:
            _log.debug("the event loop is closed; nobody waits for these results")


def _resolve(outcomes: list[tuple[_Entry, Done | Exception]]) -> None:
    for entry, outcome in outcomes:
        if entry.future.done():
            continue
        if isinstance(outcome, Done):
            entry.future.set_result(outcome)
        else:
            entry.future.set_exception(outcome)
