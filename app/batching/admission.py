"""What the queue takes in and what it refuses: slots, weight, and the time that it would wait."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, Self

from app.batching.throughput import Throughput
from app.errors import Overloaded

if TYPE_CHECKING:
    import threading

    from app.batching.fair_queue import FairQueue

# Items below this part of the queue's greatest weight count as light.
_LIGHT = 64
# Heavy items leave this share of the queue to light ones, which would otherwise be refused for as
# long as heavy ones keep it full.
_SHARE_OF_HEAVY = 0.75


class Admission:
    """The bounds of a queue, and how fast what is in it leaves.

    Not safe for threads: whoever shares one holds a lock.

    Args:
        queue: the queue that it guards.
        max_items: most items admitted and not yet answered.
        max_weight: most weight that waits in the queue; a single item may weigh more.
        max_wait_s: when what is queued takes longer than this, new items are refused rather than
            queued to time out; what turns out to be heavy, when it would wait for twice as long.

    Attributes:
        throughput: items admitted and not yet answered, and how fast they leave.
    """

    def __init__(
        self, queue: FairQueue[Any], *, max_items: int, max_weight: int, max_wait_s: float
    ) -> None:
        self.throughput = Throughput()
        self._queue = queue
        self._max_items = max_items
        self._max_weight = max_weight
        self._max_wait_s = max_wait_s

    def check_items(self, items: int) -> None:
        """Refuse items of which nothing is known but their number.

        Raises:
            Overloaded: there aren't that many slots, or what is queued takes too long.
        """
        if self.throughput.items + items > self._max_items:
            raise self._overloaded("the queue is full")
        # By what waits in the queue alone: of items not yet prepared nobody knows the weight.
        if self.throughput.wait_s(self._queue.weight, 0) > self._max_wait_s:
            raise self._overloaded("what is queued takes longer than the deadline allows")

    def check_weight(self, weight: int) -> None:
        """Refuse a prepared item.

        Raises:
            Overloaded: with it, the queue would weigh too much or take too long.
        """
        if not self._queue:
            return
        light = weight <= self._max_weight // _LIGHT
        weight += self._queue.weight
        if weight > self._max_weight * (1 if light else _SHARE_OF_HEAVY):
            raise self._overloaded("the queue is full")
        if self.throughput.wait_s(weight, 0) > 2 * self._max_wait_s:
            raise self._overloaded("what is queued takes longer than the deadline allows")

    def _overloaded(self, detail: str) -> Overloaded:
        """The refusal, with the seconds until all that is admitted now is worked off."""
        unknown = self.throughput.items - len(self._queue)
        return Overloaded(detail, math.ceil(self.throughput.wait_s(self._queue.weight, unknown)))


class Slots:
    """The slots that one request has in the queue; leaving them as a context gives them back.

    A request has one slot for each of its items, from before they are prepared until they are
    answered.

    Args:
        admission: the queue's bounds.
        lock: guards them.
    """

    def __init__(self, admission: Admission, lock: threading.Lock) -> None:
        self._admission = admission
        self._lock = lock
        self._held = 0

    def take(self, items: int) -> None:
        """Take slots for that many items more.

        Raises:
            Overloaded: there aren't that many, or what is queued takes too long; with the seconds
                until what is admitted now is worked off, as measured.
        """
        with self._lock:
            self._admission.check_items(items)
            self._admission.throughput.arrive(items, time.monotonic())
        self._held += items

    def take_up_to(self, items: int) -> None:
        """Take as many more slots as it needs to have one for each of so many items.

        Raises:
            Overloaded: as `take`.
        """
        if items > self._held:
            self.take(items - self._held)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        with self._lock:
            self._admission.throughput.leave(self._held, time.monotonic())
        self._held = 0
