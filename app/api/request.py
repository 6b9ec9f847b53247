"""One request seen from its route: what it sent, what it may use, and its answer timed."""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.requests import ClientDisconnect

from app.api.parsing import (
    RAW_IMAGES,
    holds_codes,
    media_type,
    read_body,
    read_codes,
    read_uploads,
)
from app.errors import MalformedRequest
from app.service.preprocessing import ImageInput, PreprocessingOptions, parse_size
from app.service.runner import Runner
from imaging.resize import Fit

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from starlette.requests import Request
    from starlette.responses import Response

    from app.api.parsing import Codes
    from app.batching.batcher import Batcher
    from app.observability.request_context import RequestContext
    from app.runtime.registry import Model, Models
    from app.service.lifecycle import Service

_T = TypeVar("_T")

# Codes or numbers from which on making JSON of them leaves the event loop: about a millisecond.
HEAVY_NUMBERS = 50_000

# Bodies up to this size are taken apart on the event loop: faster than changing threads.
_SMALL_BODY_BYTES = 64 * 1024


class Call:
    """A request to one of the operations.

    Args:
        request: its body not yet read.

    Raises:
        NotReady: starting, draining or stuck.
        Overloaded: there is no room for even one image; found out before the body is read.

    Attributes:
        models: the snapshot this request works with, whatever is loaded meanwhile.
        accept: the `Accept` header.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._service: Service = request.app.state.service
        self._context: RequestContext = request.scope["tessera"]
        self._content_type = request.headers.get("content-type", "")
        self.models: Models = self._service.models
        self._batcher: Batcher = self._service.batcher
        self._batcher.check_room()
        # A header may come in several lines, which mean one list.
        self.accept = ", ".join(request.headers.getlist("accept"))

    def preprocessing(self, size: str | None, fit: Fit) -> PreprocessingOptions:
        """How this request's images become model input.

        Raises:
            InvalidParameter: `size` is not WxH, or too large.
        """
        most = self._service.limits.pixels
        return PreprocessingOptions(
            most, None if size is None else parse_size(size, max_pixels=most), fit
        )

    async def body(self) -> bytes:
        """Read the body; from then on the request has a place, and ends when its client leaves.

        The place comes before anything is done with the body: a request that waited for a thread
        to take its JSON apart, and was refused then, would have been refused seconds too late.

        Raises:
            BodyTooLarge, UnsupportedMediaType, MalformedRequest, Overloaded: as `read_body`.
        """

        def hold(count: int) -> None:
            self._service.hold(count)
            self._context.held_bytes += count

        try:
            body = await read_body(self._request, self._service.limits.body_bytes, hold)
        except ClientDisconnect as error:
            raise MalformedRequest("the body ended before it was complete") from error
        self._context.watch(self._request.receive)
        place = self._batcher.slots()
        place.__enter__()
        self._context.place = place
        return body

    async def uploads(self, body: bytes) -> list[ImageInput]:
        """The images in a body, at least one, as `read_uploads`."""
        return await self._parse(body, read_uploads, body, self._content_type, self._service.limits)

    async def codes(self, body: bytes, model: str | None) -> Codes:
        """The code grids in a body, at least one, as `read_codes`."""
        return await self._parse(
            body, read_codes, body, self._content_type, self.models, model, self._service.limits
        )

    async def holds_codes(self, body: bytes) -> bool:
        """Whether the body holds codes rather than images, as `holds_codes`."""
        return await self._parse(body, holds_codes, body, self._content_type)

    def admit(self, items: int) -> AbstractContextManager[Any]:
        """Places for that many items, one of which the request has, as `Batcher.slots`."""
        return self._batcher.slots(items - 1) if items > 1 else nullcontext()

    def runner(self, model: Model) -> Runner:
        """What runs this request's items on that model."""
        return Runner(self._batcher, model, self._context)

    async def reply(
        self, make: Callable[..., Response], *arguments: Any, heavy: bool = True
    ) -> Response:
        """Make the answer, and time it as the stage `encode`.

        Args:
            make: makes it of the arguments.
            arguments: for `make`.
            heavy: whether it takes longer than the event loop may stand still.
        """
        started = time.perf_counter()
        made = await self._batcher.offload(make, *arguments) if heavy else make(*arguments)
        self._context.staged("encode", started, time.perf_counter())
        return made

    async def parse(self, size: int, parse: Callable[..., _T], *arguments: Any) -> _T:
        """Take something of `size` bytes apart; what is large, off the event loop."""
        if size <= _SMALL_BODY_BYTES:
            return parse(*arguments)
        return await self._batcher.offload(parse, *arguments)

    async def _parse(self, body: bytes, parse: Callable[..., _T], *arguments: Any) -> _T:
        raw = media_type(self._content_type) in RAW_IMAGES
        return await self.parse(0 if raw else len(body), parse, *arguments)
