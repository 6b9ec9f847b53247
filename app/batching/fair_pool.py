"""A pool of threads in which much work of one kind doesn't hold up little of another."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from app.batching.fair_queue import FairQueue

if TYPE_CHECKING:
    from collections.abc import Callable

# What a call weighs that nobody weighed, in pixels to decode: about a tenth of a millisecond.
_UNWEIGHED = 2**14


class FairPool(ThreadPoolExecutor):
    """Threads that take calls of about one weight in order, and weights by turns.

    Calls of a power of two of weight stand in one line, and the lines are served by fair queuing
    (`app.batching.fair_queue`). So a call waits for those that run, for those of its own line,
    and for as much weight of each other line as stands before it in its own: not for a hundred
    large images that came before it.

    Args:
        threads: number of threads.
        name: prefix of the threads' names.
    """

    def __init__(self, threads: int, name: str) -> None:
        super().__init__(threads, thread_name_prefix=name)
        self._fair_lock = threading.Lock()
        self._waiting: FairQueue[tuple[Future[Any], Callable[[], Any]]] = FairQueue()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """See `concurrent.futures.Executor`; the call weighs little."""
        return self.submit_weighed(_UNWEIGHED, fn, *args, **kwargs)

    def submit_weighed(
        self, weight: int, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Future[Any]:
        """Like `submit`, for a call of known weight: pixels to decode."""
        future: Future[Any] = Future()
        with self._fair_lock:
            call = future, partial(fn, *args, **kwargs)
            self._waiting.add(weight.bit_length(), call, weight, time.monotonic())
        try:
            # As many turns as calls; whose turn it is shows when a thread is free.
            super().submit(self._turn)
        except RuntimeError:  # shut down
            future.cancel()
            raise
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """See `concurrent.futures.Executor`."""
        super().shutdown(wait, cancel_futures=cancel_futures)
        if cancel_futures:
            with self._fair_lock:
                left = self._waiting.clear()
            for future, _ in left:
                future.cancel()

    def _turn(self) -> None:
        with self._fair_lock:
            if not self._waiting:
                return
            calls = self._waiting.take(0, lambda call: not call[0].cancelled(), time.monotonic())
        while calls:
            _perform(*calls.pop())


def _perform(future: Future[Any], call: Callable[[], Any]) -> None:
    if future.set_running_or_notify_cancel():
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001  (it belongs to whoever waits)
            future.set_exception(error)
        finally:
            # The error holds this frame, which must not hold the error in turn.
            del future, call
