"""What logs, metrics and traces say of one request: its id, and the times of its stages."""

from __future__ import annotations

import asyncio
import itertools
import re
import secrets
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping
    from contextlib import AbstractContextManager

    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

# The stages of a request, in their order, as `Server-Timing`, metrics and traces name them.
STAGES = ("decode", "queue", "infer", "encode")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._~:/+=@-]{1,128}")

_ID_PREFIX = secrets.token_hex(10)
_ids = itertools.count()


class RequestContext:
    """One request and its answer.

    Attributes:
        id: of the request, the client's or ours.
        stages: milliseconds by stage.
        images: images or grids in the request.
        codes: that were made or read for it.
        held_bytes: of its body, counted as held by the service.
        place: in the queue, from its body's arrival to its answer.
        spans: start and end of each stage over all items, by `time.perf_counter`; kept only
            where traces are on.
    """

    __slots__ = (
        "_departed",
        "_task",
        "_watcher",
        "codes",
        "held_bytes",
        "id",
        "images",
        "place",
        "spans",
        "stages",
        "started",
        "traced",
    )

    def __init__(self, asked_id: str | None) -> None:
        self.id = request_id(asked_id)
        self.started = time.perf_counter()
        self.stages = dict.fromkeys(STAGES, 0.0)
        self.images = 0
        self.codes = 0
        self.held_bytes = 0
        self.place: AbstractContextManager[Any] | None = None
        self.spans: dict[str, tuple[float, float]] = {}
        self.traced = False
        self._departed = False
        self._task = asyncio.current_task()
        self._watcher: asyncio.Task[None] | None = None

    def staged(self, stage: str, start: float, end: float) -> None:
        """A stage of an item went from start to end, by `time.perf_counter`."""
        self.stages[stage] = max(self.stages[stage], (end - start) * 1000)
        if self.traced:
            first, last = self.spans.get(stage, (start, end))
            self.spans[stage] = min(first, start), max(last, end)

    def watch(self, receive: Receive) -> None:
        """From now on cancel the request when its client leaves. Call it with the body read.

        Nothing but a disconnect can be received then, so one task may wait for it.
        """
        self._watcher = asyncio.get_running_loop().create_task(self._wait_for_departure(receive))

    async def _wait_for_departure(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        if self._task is not None:
            self._departed = True
            self._task.cancel()

    def answered(self) -> None:
        """Stop watching."""
        if self._watcher is not None:
            self._watcher.cancel()
            self._watcher = None

    def departed(self) -> bool:
        """Whether the client left; takes back the cancellation that came of it."""
        if self._departed and self._task is not None:
            self._task.uncancel()
        return self._departed


def request_id(sent: str | None) -> str:
    """Return the request id that the client sent if it is well-formed, else a new one.

    Args:
        sent: value of the header `X-Request-ID`; well-formed are 1–128 letters, digits and
            `._~:/+=@-`.
    """
    if sent is not None and _REQUEST_ID.fullmatch(sent):
        return sent
    # Unique, not secret: asking the system for randomness costs a tenth of a small request.
    return f"{_ID_PREFIX}{next(_ids):012x}"
