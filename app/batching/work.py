"""What passes through the queue: an item's work, before and after it has run."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable


@dataclass(frozen=True, slots=True)
class Work:
    """What an item is once it is prepared.

    Attributes:
        key: items of equal keys may run together.
        payload: what `run` is given.
        weight: what running it costs, ≥ 1, in a unit common to all items, such as pixels.
        original: what it was made of, handed back with the result; `run` never sees it.
    """

    key: Hashable
    payload: Any
    weight: int
    original: Any = None


@dataclass(frozen=True, slots=True)
class Heavy:
    """An item that takes long to prepare, so that others may have to go before it.

    Attributes:
        weight: weight that its `Work` will have.
        cost: what preparing it costs, in pixels to decode.
        prepare: prepares it.
    """

    weight: int
    cost: int
    prepare: Callable[[], Work]


@dataclass(frozen=True, slots=True)
class Done:
    """An item that has run.

    Attributes:
        result: what `run` made of it.
        original: what its `Work` carried.
        prepare_s: seconds from submitting the item to the end of its preparation.
        queue_s: seconds from there to the start of its batch.
        run_s: seconds that its batch ran.
        batch_items: items in its batch.
    """

    result: Any
    original: Any
    prepare_s: float
    queue_s: float
    run_s: float
    batch_items: int


@dataclass(slots=True, eq=False)
class Entry:
    """An item and the task that waits for it.

    Attributes:
        loop: event loop of the task that waits.
        future: gets the outcome; done as soon as nobody waits any more.
        submitted: when the item was submitted, by `time.monotonic`.
        prepared: when it was prepared.
        work: what it is, once it is prepared.
    """

    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Done]
    submitted: float = field(default_factory=time.monotonic)
    prepared: float = 0.0
    work: Work = field(default=Work(None, None, 1))

    @property
    def abandoned(self) -> bool:
        """Whether nobody waits for the item any more."""
        # Read from other threads: one attribute of a C object, safe under the GIL.
        return self.future.done()

    def done(self, result: Any, started: float, seconds: float, items: int) -> Done:
        """The item's outcome.

        Args:
            result: what `run` made of it.
            started: when its batch started, by `time.monotonic`.
            seconds: how long its batch took.
            items: items in its batch.
        """
        return Done(
            result,
            self.work.original,
            self.prepared - self.submitted,
            started - self.prepared,
            seconds,
            items,
        )


def deliver(outcomes: list[tuple[Entry, Done | Exception]]) -> None:
    """Hand outcomes to their event loop from any thread, with one wake-up for all of them."""
    if not outcomes:
        return
    # A closed event loop has nobody who waits for them.
    with suppress(RuntimeError):
        outcomes[0][0].loop.call_soon_threadsafe(_resolve, outcomes)


def _resolve(outcomes: list[tuple[Entry, Done | Exception]]) -> None:
    for entry, outcome in outcomes:
        if entry.future.done():
            continue
        if isinstance(outcome, Done):
            entry.future.set_result(outcome)
        else:
            entry.future.set_exception(outcome)
