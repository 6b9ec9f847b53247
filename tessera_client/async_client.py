"""The client for asyncio. What it sends, and when again, is in `tessera_client.flows`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self, TypeVar

import httpx
import numpy as np

from tessera_client import flows
from tessera_client.base import Base, Coding, Fit, Preprocessing, in_order, matrix, named, read
from tessera_client.codes import Codes
from tessera_client.labels import classifications_of
from tessera_client.tess import MEDIA_TYPE

if TYPE_CHECKING:
    from collections.abc import Iterable, MutableMapping

    from numpy.typing import NDArray

    from tessera_client.errors import ServerError
    from tessera_client.flows import Flow, Reconstruction
    from tessera_client.images import Image
    from tessera_client.labels import Classification

_T = TypeVar("_T")


class AsyncClient(Base):
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
        sample_bits: int | None = None,
        stages: int | None = None,
        failed: MutableMapping[int, ServerError] | None = None,
        warnings: MutableMapping[int, list[str]] | None = None,
    ) -> Codes:
        """As `Client.encode`."""
        how = Preprocessing(size, fit, sample_bits)
        params = named(stages=stages)
        made = self._images("/v1/encode", MEDIA_TYPE, images, how, failed, warnings, params=params)
        return flows.codes_of(await self._all(made))

    async def decode(
        self,
        codes: Codes,
        *,
        decoder: str | None = None,
        failed: MutableMapping[int, ServerError] | None = None,
    ) -> list[NDArray[np.uint8]]:
        """As `Client.decode`."""
        params = named(decoder=decoder)
        made = self._codes("/v1/decode", codes, failed, same_size=True, params=params)
        return in_order(await self._all(made))

    async def embed(
        self,
        given: Codes | Image | Iterable[Image],
        *,
        size: tuple[int, int] | None = None,
        fit: Fit = "cover",
        sample_bits: int | None = None,
        failed: MutableMapping[int, ServerError] | None = None,
        warnings: MutableMapping[int, list[str]] | None = None,
    ) -> NDArray[np.float32]:
        """As `Client.embed`."""
        how = Preprocessing(size, fit, sample_bits)
        return matrix(await self._all(self._embeddings(given, how, failed, warnings)))

    async def classify(
        self,
        given: Codes | Image | Iterable[Image],
        *,
        recognizer: str | None = None,
        k: int = 5,
        with_map: bool = False,
        size: tuple[int, int] | None = None,
        fit: Fit = "cover",
        sample_bits: int | None = None,
        failed: MutableMapping[int, ServerError] | None = None,
        warnings: MutableMapping[int, list[str]] | None = None,
    ) -> list[Classification]:
        """As `Client.classify`."""
        how = Preprocessing(size, fit, sample_bits)
        made = self._classifications(given, recognizer, k, with_map, how, failed, warnings)
        return classifications_of(await self._all(made), failed)

    async def recode(
        self, data: bytes, coding: Coding = "context", stages: int | None = None
    ) -> bytes:
        """As `Client.recode`."""
        return await self._run(self._recoding(data, coding, stages))

    async def reconstruct(
        self,
        images: Image | Iterable[Image],
        *,
        size: tuple[int, int] | None = None,
        fit: Fit = "cover",
        sample_bits: int | None = None,
        decoder: str | None = None,
        stages: int | None = None,
        failed: MutableMapping[int, ServerError] | None = None,
        warnings: MutableMapping[int, list[str]] | None = None,
    ) -> list[Reconstruction]:
        """As `Client.reconstruct`."""
        how = Preprocessing(size, fit, sample_bits)
        made = self._images(
            *("/v1/reconstruct", flows.NPY, images, how, failed, warnings),
            one_per_request=True,
            params=named(decoder=decoder, stages=stages),
        )
        return flows.reconstructions_of(await self._all(made))

    async def models(self) -> list[dict[str, Any]]:
        """As `Client.models`."""
        found: list[dict[str, Any]] = (await self.request("GET", "/v1/models")).json()["data"]
        return found

    async def is_ready(self) -> bool:
        """As `Client.is_ready`."""
        try:
            return (await self._http.get("/readyz")).status_code == 200
        except httpx.TransportError:
            return False

    async def request(
        self, method: str, path: str, *, retry_for_s: float | None = None, **options: Any
    ) -> httpx.Response:
        """As `Client.request`."""
        return await self._run(
            flows.accepted(flows.Send(method, path, options), self._policy_of(retry_for_s))
        )

    async def _all(self, made: list[Flow[_T]]) -> list[_T]:
        slots = asyncio.Semaphore(self._concurrency)

        async def one(flow: Flow[_T]) -> _T:
            async with slots:
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
                answer = await asyncio.to_thread(read, step)
            elif isinstance(step, flows.Pause):
                await asyncio.sleep(step.seconds)
                answer = None
            else:
                try:
                    answer = await self._http.request(step.method, step.path, **step.options)
                except httpx.TransportError as error:
                    answer = error
