"""A request to an operation: its body and its slots in the queue, and its answer timed.

Both are resources that a route has for as long as it works on the request: the bytes of the body,
which count as held in memory, and a slot in the queue for each image or code grid.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.requests import ClientDisconnect

from app.api.media_types import RAW_IMAGE, kind_of_body
from app.api.parsing import parse_codes, parse_images, parse_images_or_codes
from app.errors import BodyTooLarge, MalformedRequest, UnsupportedMediaType
from app.observability.request_context import context_of
from app.service.preprocessing import PreprocessingOptions, parse_size
from app.service.runner import Runner

if TYPE_CHECKING:
    from collections.abc import Callable, Sized

    from starlette.requests import Request
    from starlette.responses import Response

    from app.api.parsing import Codes, Images
    from app.batching.admission import Slots
    from app.batching.batcher import Batcher
    from app.runtime.model import Model
    from app.runtime.registry import Models
    from app.service.body_memory import BodyMemory
    from app.service.lifecycle import Service
    from app.service.preprocessing import ImageInput
    from imaging.resize import Fit

_T = TypeVar("_T")
_S = TypeVar("_S", bound="Sized")

# Codes or numbers from which on making JSON of them leaves the event loop: about a millisecond.
HEAVY_NUMBERS = 50_000

# Bodies up to this size are parsed on the event loop: it is faster than changing threads.
_SMALL_BODY_BYTES = 64 * 1024


class Call:
    """A request to one of the operations.

    Args:
        request: the request, its body not yet read.

    Raises:
        NotReady: the service is starting, draining or stuck.
        Overloaded: there is no slot for even one image; found out before the body is read.

    Attributes:
        models: the snapshot this request works with, whatever is loaded meanwhile.
        accept: the `Accept` header.
        context: the request's context.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._service: Service = request.app.state.service
        self._content_type = request.headers.get("content-type", "")
        self.context = context_of(request.scope)
        self.models: Models = self._service.models
        self._batcher: Batcher = self._service.batcher
        self._batcher.check_room()
        # A header may come in several lines, which mean one list.
        self.accept = ", ".join(request.headers.getlist("accept"))

    def preprocessing(
        self, size: str | None, fit: Fit, sample_bits: int | None = None
    ) -> PreprocessingOptions:
        """How this request's images become model input.

        Raises:
            InvalidParameter: `size` is not WxH, or too large.
        """
        most = self._service.limits.pixels
        wanted = None if size is None else parse_size(size, max_pixels=most)
        return PreprocessingOptions(most, wanted, fit, sample_bits)

    def body(self) -> Body:
        """The body, to be read by entering it as a context."""
        return Body(self._request, self._service.limits.body_bytes, self._service.body_memory)

    def slots(self) -> Slots:
        """The request's slots in the queue, as a context; one for its first item.

        The slot comes before anything is done with the body: a request that waited for a thread
        to parse its JSON, and was refused then, would have been refused seconds too late.

        Raises:
            Overloaded: there is no slot.
        """
        return self._batcher.slots()

    async def images(self, body: bytes, slots: Slots) -> list[ImageInput]:
        """The images of the body, as `parse_images` returns them; takes a slot for each."""
        return await self._parsed(slots, parse_images, body, self._service.limits)

    async def codes(self, body: bytes, slots: Slots, model: str | None) -> Codes:
        """The code grids of the body, as `parse_codes` returns them; takes a slot for each."""
        limits = self._service.limits
        return await self._parsed(slots, parse_codes, body, self.models, model, limits)

    async def images_or_codes(self, body: bytes, slots: Slots, model: str | None) -> Images | Codes:
        """What the body holds, as `parse_images_or_codes` returns it; takes a slot for each."""
        limits = self._service.limits
        return await self._parsed(slots, parse_images_or_codes, body, self.models, model, limits)

    async def _parsed(
        self, slots: Slots, parse: Callable[..., _S], body: bytes, *arguments: Any
    ) -> _S:
        raw = kind_of_body(self._content_type, body) == RAW_IMAGE
        size = 0 if raw else len(body)
        parsed = await self.parse(size, parse, body, self._content_type, *arguments)
        slots.take_up_to(len(parsed))
        return parsed

    async def parse(self, size: int, parse: Callable[..., _T], *arguments: Any) -> _T:
        """Parse something of `size` bytes; what is large, off the event loop."""
        if size <= _SMALL_BODY_BYTES:
            return parse(*arguments)
        return await self._batcher.offload(parse, *arguments)

    def runner(self, model: Model) -> Runner:
        """What runs this request's items on that model."""
        return Runner(self._batcher, model, self.context)

    async def reply(
        self, make: Callable[..., Response], *arguments: Any, heavy: bool = True
    ) -> Response:
        """Make the answer, and time it as the stage `encode`.

        Args:
            make: makes the answer of the arguments.
            arguments: arguments of `make`.
            heavy: whether it takes longer than the event loop may stand still.
        """
        started = time.perf_counter()
        made = await self._batcher.offload(make, *arguments) if heavy else make(*arguments)
        self.context.add_stage("encode", started, time.perf_counter())
        return made


class Body:
    """A request's body as a context: its bytes count as held in memory until it is left.

    From the body's end on, a client that disconnects ends its request: what is done inside is
    cancelled.

    Args:
        request: the request, its body not yet read.
        max_bytes: most bytes of the body.
        memory: counts the bytes of all bodies.
    """

    def __init__(self, request: Request, max_bytes: int, memory: BodyMemory) -> None:
        self._request = request
        self._max_bytes = max_bytes
        self._memory = memory
        self._context = context_of(request.scope)
        self._disconnected = False

    async def __aenter__(self) -> bytes:
        """Read the body, counting while it arrives.

        Raises:
            BodyTooLarge: it is declared or turned out to be too large.
            UnsupportedMediaType: it is compressed, and could unfold to anything.
            MalformedRequest: its length is not a number.
            ClientDisconnect: the client disconnected before it had sent all of it.
            Overloaded: all bodies together have too many bytes.
        """
        try:
            body = await self._read()
        except BaseException:
            self._memory.free(self._context.body_bytes)
            raise
        self._task = asyncio.current_task()
        self._watcher = asyncio.get_running_loop().create_task(self._watch())
        return body

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Free the memory, and watch for a disconnect no longer.

        Raises:
            ClientDisconnect: the client disconnected, which has cancelled what was done inside.
        """
        self._memory.free(self._context.body_bytes)
        self._watcher.cancel()
        # It refers to this object: a cycle would keep the request until Python looks for cycles.
        del self._watcher
        # Other cancellations are the deadline's, or the end of the server.
        if self._disconnected and kind is asyncio.CancelledError and self._task is not None:
            self._task.uncancel()
            raise ClientDisconnect

    async def _read(self) -> bytes:
        headers = self._request.headers
        # A header may come in several lines, which mean one list.
        encoding = ", ".join(headers.getlist("content-encoding")).strip().lower()
        if encoding not in {"", "identity"}:
            raise UnsupportedMediaType(
                "compressed bodies are not read: send it without Content-Encoding"
            )
        declared = headers.get("content-length", "0")
        if not declared.isdecimal():
            raise MalformedRequest("Content-Length is not a number")
        if int(declared) > self._max_bytes:
            raise self._too_large()
        chunks = []
        async for chunk in self._request.stream():
            if not chunk:
                continue
            if self._context.body_bytes + len(chunk) > self._max_bytes:
                raise self._too_large()
            self._memory.reserve(len(chunk))
            self._context.body_bytes += len(chunk)
            chunks.append(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(
            f"the body is larger than {self._max_bytes} bytes (TESSERA_MAX_BODY_BYTES)"
        )

    async def _watch(self) -> None:
        # The body has been read: nothing but a disconnect can be received now.
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        self._disconnected = True
        if self._task is not None:
            self._task.cancel()
