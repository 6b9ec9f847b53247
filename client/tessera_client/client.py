"""The two clients. What they send, and when again, is in `tessera_client.flows`."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

import httpx
import numpy as np

from tessera_client import flows
from tessera_client.codes import MEDIA_TYPE, Codes
from tessera_client.images import sources

if TYPE_CHECKING:
    from collections.abc import Iterable, MutableMapping

    from numpy.typing import NDArray

    from tessera_client.errors import ServerError
    from tessera_client.flows import Answers, Flow, Reconstruction
    from tessera_client.images import Image

Fit = Literal["cover", "contain", "stretch"]
_T = TypeVar("_T")


class _Base:
    """What both clients are told, and the flows of each operation."""

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        model: str | None = None,
        timeout_s: float = 60.0,
        patience_s: float = 120.0,
        batch_images: int = 16,
        batch_bytes: int = 8 * 2**20,
        concurrency: int = 4,
        transport: Any = None,
    ) -> None:
        self._policy = flows.Policy(batch_images, batch_bytes, patience_s)
        self._model = model
        self._concurrency = concurrency
        options: dict[str, Any] = {
            "base_url": base_url,
            "headers": {"authorization": f"Bearer {api_key}"} if api_key is not None else {},
            "timeout": timeout_s,
            "transport": transport,
            "limits": httpx.Limits(
                max_connections=concurrency, max_keepalive_connections=concurrency
            ),
        }
        self._open(options)

    def _open(self, options: dict[str, Any]) -> None:
        raise NotImplementedError

    def _images(
        self,
        path: str,
        accept: str,
        images: Image | Iterable[Image],
        size: tuple[int, int] | None,
        fit: Fit,
        failed: MutableMapping[int, ServerError] | None,
        *,
        alone: bool = False,
    ) -> list[Flow[Answers]]:
        params = {} if self._model is None else {"model": self._model}
        if size is not None:
            params |= {"size": f"{size[0]}x{size[1]}", "fit": fit}
        call = flows.Call(path, accept, params, failed)
        policy = replace(self._policy, batch_images=1) if alone else self._policy
        return [
            flows.run_images(call, batch, policy)
            for batch in flows.batches(sources(images), policy)
        ]

    def _codes(
        self,
        path: str,
        codes: Codes,
        failed: MutableMapping[int, ServerError] | None,
        *,
        same_size: bool,
    ) -> list[Flow[Answers]]:
        call = flows.Call(path, flows.NPY, {}, failed)
        return [
            flows.run_codes(call, codes, batch, self._policy)
            for batch in flows.grid_batches(codes, self._policy, same_size=same_size)
        ]

    def _embeddings(
        self,
        given: Codes | Image | Iterable[Image],
        size: tuple[int, int] | None,
        fit: Fit,
        failed: MutableMapping[int, ServerError] | None,
    ) -> list[Flow[Answers]]:
        if isinstance(given, Codes):
            return self._codes("/v1/embed", given, failed, same_size=False)
        return self._images("/v1/embed", flows.NPY, given, size, fit, failed)


def _read(step: flows.Read) -> list[bytes]:
    return [source.read() for source in step.sources]


def _in_order(answers: list[Answers]) -> list[NDArray[np.uint8]]:
    rows = flows.rows_of(answers)
    return [rows[index] for index in sorted(rows)]


def _matrix(answers: list[Answers]) -> NDArray[np.float32]:
    rows = flows.rows_of(answers)
    if not rows:
        return np.empty((0, 0), np.float32)
    return np.stack([rows[index] for index in sorted(rows)])


class Client(_Base):
    """A client of the service; close it, or use it in a `with` statement.

    Args:
        base_url: of the service.
        api_key: sent as `Authorization: Bearer`.
        model: for images; None takes the server's default. Codes find theirs by code space.
        timeout_s: of one attempt.
        patience_s: for a request, all its attempts and pauses together.
        batch_images, batch_bytes: most of one request.
        concurrency: requests at once.
        transport: an httpx transport of your own.
    """

    def _open(self, options: dict[str, Any]) -> None:
        self._http = httpx.Client(**options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def encode(
        self,
        images: Image | Iterable[Image],
        *,
        size: tuple[int, int] | None = None,
        fit: Fit = "cover",
        failed: MutableMapping[int, ServerError] | None = None,
    ) -> Codes:
        """Images → codes, in order.

        Args:
            images: one or several: paths, bytes of files, pixels uint8 `[h, w, 3]`, PIL images.
            size: (width, height) to resize to first; None keeps each image's own.
            fit: how `size` is filled.
            failed: where failures go, by index of the image; the result then leaves them out.

        Raises:
            ServerError: refused; its `index` says which image.
            Unreachable: no answer.
            CodesError: no image could be encoded, or the model was replaced meanwhile.
        """
        return flows.codes_of(
            self._all(self._images("/v1/encode", MEDIA_TYPE, images, size, fit, failed))
        )

    def decode(
        self, codes: Codes, *, failed: MutableMapping[int, ServerError] | None = None
    ) -> list[NDArray[np.uint8]]:
        """Codes → images, uint8 `[h, w, 3]` each, by whichever model has their code space.

        Raises:
            ServerError: refused; `code_space_mismatch` if no model has it.
            Unreachable: no answer.
        """
        return _in_order(self._all(self._codes("/v1/decode", codes, failed, same_size=True)))

    def embed(
        self,
        given: Codes | Image | Iterable[Image],
        *,
        size: tuple[int, int] | None = None,
        fit: Fit = "cover",
        failed: MutableMapping[int, ServerError] | None = None,
    ) -> NDArray[np.float32]:
        """Images or codes → vectors of length 1, float32 `[n, e]`; the same for both.

        Raises:
            ServerError, Unreachable: as `encode`.
        """
        return _matrix(self._all(self._embeddings(given, size, fit, failed)))

    def reconstruct(
        self,
        images: Image | Iterable[Image],
        *,
        size: tuple[int, int] | None = None,
        fit: Fit = "cover",
        failed: MutableMapping[int, ServerError] | None = None,
    ) -> list[Reconstruction]:
        """Images → what encoding and decoding makes of them, and how near it is.

        Raises:
            ServerError, Unreachable: as `encode`.
        """
        made = self._images("/v1/reconstruct", flows.NPY, images, size, fit, failed, alone=True)
        return flows.reconstructions_of(self._all(made))

    def models(self) -> list[dict[str, Any]]:
        """What the loaded models' manifests say."""
        found: list[dict[str, Any]] = self._run(flows.get("/v1/models", self._policy))["data"]
        return found

    def is_ready(self) -> bool:
        """Whether the service is ready now; asked once."""
        try:
            return self._http.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def _all(self, made: list[Flow[_T]]) -> list[_T]:
        if len(made) == 1:
            return [self._run(made[0])]
        with ThreadPoolExecutor(self._concurrency) as pool:
            waiting = [pool.submit(self._run, flow) for flow in made]
            try:
                return [one.result() for one in waiting]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _run(self, flow: Flow[_T]) -> _T:
        answer: Any = None
        while True:
            try:
                step = flow.send(answer)
            except StopIteration as end:
                result: _T = end.value
                return result
            if isinstance(step, flows.Read):
                answer = _read(step)
            elif isinstance(step, flows.Pause):
                time.sleep(step.seconds)
                answer = None
            else:
                try:
                    answer = self._http.request(step.method, step.path, **step.options)
                except httpx.TransportError as error:
                    answer = error


class AsyncClient(_Base):
    """`Client` for asyncio: the same arguments, and the same methods to be awaited."""

    def _open(self, options: dict[str, Any]) -> None:
        self._http = httpx.AsyncClient(**options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def encode(
        self,
        images: Image | Iterable[Image],
        *,
        size: tuple[int, int] | None = None,
        fit: Fit = "cover",
        failed: MutableMapping[int, ServerError] | None = None,
    ) -> Codes:
        """As `Client.encode`."""
        made = self._images("/v1/encode", MEDIA_TYPE, images, size, fit, failed)
        return flows.codes_of(await self._all(made))

    async def decode(
        self, codes: Codes, *, failed: MutableMapping[int, ServerError] | None = None
    ) -> list[NDArray[np.uint8]]:
        """As `Client.decode`."""
        return _in_order(await self._all(self._codes("/v1/decode", codes, failed, same_size=True)))

    async def embed(
        self,
        given: Codes | Image | Iterable[Image],
        *,
        size: tuple[int, int] | None = None,
        fit: Fit = "cover",
        failed: MutableMapping[int, ServerError] | None = None,
    ) -> NDArray[np.float32]:
        """As `Client.embed`."""
        return _matrix(await self._all(self._embeddings(given, size, fit, failed)))

    async def reconstruct(
        self,
        images: Image | Iterable[Image],
        *,
        size: tuple[int, int] | None = None,
        fit: Fit = "cover",
        failed: MutableMapping[int, ServerError] | None = None,
    ) -> list[Reconstruction]:
        """As `Client.reconstruct`."""
        made = self._images("/v1/reconstruct", flows.NPY, images, size, fit, failed, alone=True)
        return flows.reconstructions_of(await self._all(made))

    async def models(self) -> list[dict[str, Any]]:
        """As `Client.models`."""
        answer = await self._run(flows.get("/v1/models", self._policy))
        found: list[dict[str, Any]] = answer["data"]
        return found

    async def is_ready(self) -> bool:
        """As `Client.is_ready`."""
        try:
            return (await self._http.get("/readyz")).status_code == 200
        except httpx.TransportError:
            return False

    async def _all(self, made: list[Flow[_T]]) -> list[_T]:
        places = asyncio.Semaphore(self._concurrency)

        async def one(flow: Flow[_T]) -> _T:
            async with places:
                return await self._run(flow)

        tasks = [asyncio.ensure_future(one(flow)) for flow in made]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _run(self, flow: Flow[_T]) -> _T:
        answer: Any = None
        while True:
            try:
                step = flow.send(answer)
            except StopIteration as end:
                result: _T = end.value
                return result
            if isinstance(step, flows.Read):
                answer = await asyncio.to_thread(_read, step)
            elif isinstance(step, flows.Pause):
                await asyncio.sleep(step.seconds)
                answer = None
            else:
                try:
                    answer = await self._http.request(step.method, step.path, **step.options)
                except httpx.TransportError as error:
                    answer = error
