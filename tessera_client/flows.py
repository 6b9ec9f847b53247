"""How requests go, without sending them: what `Client` and `AsyncClient` have in common.

A flow is a generator. It yields what it wants done, a `Read`, `Send` or `Pause`, and is sent back
what came of it; the two clients differ only in how they do these three.
"""

from __future__ import annotations

import io
import random
import time
from collections import defaultdict
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import httpx
import numpy as np

from tessera_client.codes import Codes, Grid
from tessera_client.errors import ServerError, Unreachable
from tessera_client.images import Source
from tessera_client.tess import MEDIA_TYPE, joined_file, split_file

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, MutableMapping, Sequence

    from numpy.typing import NDArray

NPY = "application/x-npy"
_AGAIN = frozenset({429, 502, 503, 504})
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Read:
    """Wanted: the bytes of these images."""

    sources: list[Source]


@dataclass(frozen=True, slots=True)
class Send:
    """Wanted: the answer to this request, or the `httpx.TransportError` instead of one."""

    method: str
    path: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pause:
    """Wanted: so many seconds to pass."""

    seconds: float


Flow: TypeAlias = "Generator[Read | Send | Pause, Any, _T]"


@dataclass(frozen=True, slots=True)
class Policy:
    """How to split items into requests, and how long to repeat a request.

    Attributes:
        batch_images: most images or code grids of one request.
        batch_bytes: most bytes of one request, but for a single larger image.
        retry_for_s: most seconds from the first attempt of a request to the last.
    """

    batch_images: int
    batch_bytes: int
    retry_for_s: float


@dataclass(frozen=True, slots=True, eq=False)
class Reconstruction:
    """An image through encoder and decoder.

    Attributes:
        pixels: uint8 `[h, w, 3]`.
        psnr: PSNR in dB; infinite if the two are equal.
        bits_per_pixel: bits of the image's codes per pixel.
    """

    pixels: NDArray[np.uint8]
    psnr: float
    bits_per_pixel: float


@dataclass(frozen=True, slots=True)
class Call:
    """One operation on many items.

    Attributes:
        path, accept, params: what each of its requests has in common.
        failed: where failures go by index; None raises the first.
        warnings: where codes of warnings go by index.
    """

    path: str
    accept: str
    params: dict[str, str]
    failed: MutableMapping[int, ServerError] | None
    warnings: MutableMapping[int, list[str]] | None = None


Batch: TypeAlias = "list[tuple[int, Source]] | list[tuple[int, Grid]]"
Answers: TypeAlias = "list[tuple[list[int], httpx.Response]]"


def batches(found: Sequence[Source], policy: Policy) -> Iterator[list[tuple[int, Source]]]:
    """Images in requests of bounded number and size, each with its index."""
    batch: list[tuple[int, Source]] = []
    size = 0
    for index, source in enumerate(found):
        if batch and (len(batch) == policy.batch_images or size + source.size > policy.batch_bytes):
            yield batch
            batch, size = [], 0
        batch.append((index, source))
        size += source.size
    if batch:
        yield batch


def grid_batches(
    codes: Codes, policy: Policy, *, same_size: bool
) -> Iterator[list[tuple[int, Grid]]]:
    """Grids in requests of bounded number; only those of one size together if asked for."""
    groups: dict[tuple[int, int] | None, list[tuple[int, Grid]]] = defaultdict(list)
    for index, grid in enumerate(codes):
        groups[(grid.width, grid.height) if same_size else None].append((index, grid))
    for group in groups.values():
        for start in range(0, len(group), policy.batch_images):
            yield group[start : start + policy.batch_images]


def run_images(call: Call, batch: list[tuple[int, Source]], policy: Policy) -> Flow[Answers]:
    """Send images; a batch that is refused for one of them, or is too large, is halved."""
    contents = yield Read([source for _, source in batch])
    # A type of its own makes a part a file, also where there is no name; but without a name and
    # content the server would take it for a field that was left blank.
    files = [
        ("images", (source.name or ("" if content else "empty"), content, "image/*"))
        for (_, source), content in zip(batch, contents, strict=True)
    ]
    response = yield from answered(_post(call, {"files": files}), policy)
    if response.status_code == 200:
        indices = [index for index, _ in batch]
        if call.warnings is not None:
            _take_warnings(response, indices, call.warnings)
        return [(indices, response)]
    del contents, files
    halves = _halves(call, response, batch)
    answers: Answers = []
    for half in halves:
        answers += yield from run_images(call, half, policy)
    return answers


def _take_warnings(
    response: httpx.Response, indices: list[int], warnings: MutableMapping[int, list[str]]
) -> None:
    """Read `Tessera-Warning`, such as `dark_samples;item=0, profile_ignored;item=2`."""
    for entry in response.headers.get("tessera-warning", "").split(","):
        code, _, item = entry.strip().partition(";item=")
        if item.isdecimal() and int(item) < len(indices):
            warnings.setdefault(indices[int(item)], []).append(code)


def run_codes(
    call: Call, codes: Codes, batch: list[tuple[int, Grid]], policy: Policy
) -> Flow[Answers]:
    """Send codes, as `run_images` sends images."""
    part = replace(codes, grids=tuple(grid for _, grid in batch))
    body = {"content": part.to_bytes(), "headers": {"content-type": MEDIA_TYPE}}
    response = yield from answered(_post(call, body), policy)
    if response.status_code == 200:
        return [([index for index, _ in batch], response)]
    halves = _halves(call, response, batch)
    answers: Answers = []
    for half in halves:
        answers += yield from run_codes(call, codes, half, policy)
    return answers


def run_recoding(call: Call, data: bytes, policy: Policy) -> Flow[bytes]:
    """Send a `.tess` file and get one; what is too much for one request is halved.

    Raises:
        CodesError: it is not such a file.
        ServerError: the server refused.
    """
    images = split_file(data)
    body = {"content": data, "headers": {"content-type": MEDIA_TYPE}}
    response = yield from answered(_post(call, body), policy)
    if response.status_code == 200:
        return response.content
    error = ServerError.of(response)
    if not error.about_an_item or len(images) == 1:
        raise error
    middle = len(images) // 2
    first = yield from run_recoding(call, joined_file(data, images[:middle]), policy)
    second = yield from run_recoding(call, joined_file(data, images[middle:]), policy)
    return joined_file(first, [*split_file(first), *split_file(second)])


def _post(call: Call, body: dict[str, Any]) -> Send:
    headers = {"accept": call.accept, **body.pop("headers", {})}
    return Send("POST", call.path, {"params": call.params, "headers": headers, **body})


def _halves(call: Call, response: httpx.Response, batch: list[Any]) -> list[list[Any]]:
    """What to send instead of a batch that was refused.

    Raises:
        ServerError: it is the only item's fault, or not the items' at all.
    """
    error = ServerError.of(response)
    if error.about_an_item and len(batch) > 1:
        middle = len(batch) // 2
        return [batch[:middle], batch[middle:]]
    if error.about_an_item:
        error.index = batch[0][0]
        if call.failed is not None:
            call.failed[error.index] = error
            return []
    raise error


def answered(send: Send, policy: Policy) -> Flow[httpx.Response]:
    """Send a request until it is answered, waiting as long as the server asks.

    Raises:
        Unreachable: there was no answer within the policy's time for retries.
    """
    began = time.monotonic()
    attempt = 0
    while True:
        answer: httpx.Response | httpx.TransportError = yield send
        attempt += 1
        if isinstance(answer, httpx.Response) and answer.status_code not in _AGAIN:
            return answer
        longest = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**attempt)
        # Random, or those who were refused together would come back together.
        pause = random.uniform(longest / 2, longest)  # noqa: S311  (no secret)
        if isinstance(answer, httpx.Response):
            pause = max(pause, _retry_after_s(answer))
        if time.monotonic() - began + pause > policy.retry_for_s:
            if isinstance(answer, httpx.Response):
                return answer
            raise Unreachable(f"no answer from the server: {answer!r}") from answer
        yield Pause(pause)


def _retry_after_s(response: httpx.Response) -> float:
    value = response.headers.get("retry-after", "")
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return 0.0


def accepted(send: Send, policy: Policy) -> Flow[httpx.Response]:
    """Send a request until it is answered, and return the answer if it is below 400.

    Raises:
        ServerError: the server refused.
        Unreachable: as `answered`.
    """
    response = yield from answered(send, policy)
    if response.status_code >= 400:
        raise ServerError.of(response)
    return response


# --- answers -------------------------------------------------------------------------------


def codes_of(answers: Sequence[Answers]) -> Codes:
    """The codes of all answers, in the order of their items."""
    found = sorted((pair for answer in answers for pair in answer), key=lambda pair: pair[0][0])
    return Codes.joined(Codes.from_bytes(response.content) for _, response in found)


def rows_of(answers: Sequence[Answers]) -> dict[int, NDArray[Any]]:
    """What the answers' arrays hold for each item, by its index."""
    return {
        index: row
        for answer in answers
        for indices, response in answer
        for index, row in zip(indices, _array(response), strict=True)
    }


def reconstructions_of(answers: Sequence[Answers]) -> list[Reconstruction]:
    """The one reconstruction of each answer, in order."""
    found = {
        indices[0]: Reconstruction(
            _array(response)[0],
            float(response.headers["tessera-psnr"]),
            float(response.headers["tessera-bits-per-pixel"]),
        )
        for answer in answers
        for indices, response in answer
    }
    return [found[index] for index in sorted(found)]


def _array(response: httpx.Response) -> NDArray[Any]:
    array: NDArray[Any] = np.load(io.BytesIO(response.content), allow_pickle=False)
    return array
