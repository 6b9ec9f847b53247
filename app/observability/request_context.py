"""What logs, metrics and traces say of one request: its id, and the times of its stages."""

from __future__ import annotations

import itertools
import re
import secrets
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, MutableMapping

# The stages of a request, in their order, as `Server-Timing`, metrics and traces name them.
STAGES = ("decode", "queue", "infer", "encode")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._~:/+=@-]{1,128}")

_ID_PREFIX = secrets.token_hex(10)
_ids = itertools.count()

# So that the header stays short; JSON has the warnings of every item.
_MAX_WARNINGS = 32

_SCOPE_KEY = "tessera.context"


class RequestContext:
    """What is known of one request besides its content.

    Args:
        sent_id: the request id that the client sent; None without one.

    Attributes:
        id: the request's id, the client's or a new one.
        started: when the request began, by `time.perf_counter`.
        status: HTTP status of the answer; 0 until it begins, and for good if the client
            disconnected before.
        refusal: code of the error, if the service was too busy, not ready or too slow.
        stages: milliseconds that the request spent in each stage.
        images: images or code grids in the request.
        codes: codes that were made or read for it.
        body_bytes: bytes of its body that have been received.
        traced: whether `spans` are kept.
        spans: start and end of each stage over all items, by `time.perf_counter`.
        runs: items in each item's batch, and the seconds that the batch ran.
        warnings: about images, as the header `Tessera-Warning` lists them.
    """

    __slots__ = (
        "body_bytes",
        "codes",
        "id",
        "images",
        "refusal",
        "runs",
        "spans",
        "stages",
        "started",
        "status",
        "traced",
        "warnings",
    )

    def __init__(self, sent_id: str | None = None) -> None:
        self.id = request_id(sent_id)
        self.started = time.perf_counter()
        self.status = 0
        self.refusal: str | None = None
        self.stages = dict.fromkeys(STAGES, 0.0)
        self.images = 0
        self.codes = 0
        self.body_bytes = 0
        self.traced = False
        self.runs: list[tuple[int, float]] = []
        self.warnings: list[str] = []
        self.spans: dict[str, tuple[float, float]] = {}

    def add_stage(self, stage: str, start: float, end: float) -> None:
        """Note that a stage of an item went from start to end, by `time.perf_counter`.

        Of several items, the slowest tells the time of a stage.
        """
        self.stages[stage] = max(self.stages[stage], (end - start) * 1000)
        if self.traced:
            first, last = self.spans.get(stage, (start, end))
            self.spans[stage] = min(first, start), max(last, end)

    def warn(self, item: int, codes: Iterable[str]) -> None:
        """Have the answer's header say what may look wrong about an image of the request."""
        if len(self.warnings) < _MAX_WARNINGS:
            self.warnings += [f"{code};item={item}" for code in codes]

    def server_timing(self) -> str:
        """The value of the `Server-Timing` header."""
        return ", ".join([f"{stage};dur={ms:.2f}" for stage, ms in self.stages.items()])

    def store_in(self, scope: MutableMapping[str, Any]) -> None:
        """Store the context in the request's ASGI scope, where `context_of` finds it."""
        scope[_SCOPE_KEY] = self


def context_of(scope: Mapping[str, Any]) -> RequestContext:
    """The context that was stored in a request's ASGI scope."""
    context: RequestContext = scope[_SCOPE_KEY]
    return context


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
