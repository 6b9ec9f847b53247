"""The client. What it sends, and when again, is in `tessera_client.flows`."""

from __future__ import annotations

import threading
from concurrent.futures import FIRST_EXCEPTION, CancelledError, ThreadPoolExecutor, wait
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


class Client(Base):
    """A client of the service; close it, or use it in a `with` statement.

    Args:
        base_url: the address of the service.
        api_key: the key, sent as `Authorization: Bearer`.
        model: the model that every request names; None takes the server's default for images,
            and for codes the one that has their code space.
        timeout_s: most seconds that one attempt waits for the server.
        retry_for_s: most seconds for a request, with all its attempts and pauses.
        batch_images: most images or code grids of one request.
        batch_bytes: most bytes of one request, but for a single larger image.
        concurrency: most requests at once.
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
        sample_bits: int | None = None,
        stages: int | None = None,
        failed: MutableMapping[int, ServerError] | None = None,
        warnings: MutableMapping[int, list[str]] | None = None,
    ) -> Codes:
        """Images → codes, in order.

        Args:
            images: one or several: paths, bytes of files, PIL images, pixels uint8 `[h, w, 3]` or
                grey `[h, w]`, arrays of several.
            size: (width, height) to resize to first; None keeps each image's own.
            fit: how `size` is filled.
            sample_bits: bits, 9…16, that samples stored in 16 really have; None for all of them.
            stages: how many stages the codes have; None for what the model says.
            failed: where failures go, by index of the image; the result then leaves them out.
            warnings: where codes of what may look wrong about an image go, by its index.

        Raises:
            ServerError: the server refused; its `index` says which image.
            Unreachable: the server didn't answer.
            CodesError: no image could be encoded, or the model was replaced meanwhile.
        """
        how = Preprocessing(size, fit, sample_bits)
        params = named(stages=stages)
        made = self._images("/v1/encode", MEDIA_TYPE, images, how, failed, warnings, params=params)
        return flows.codes_of(self._all(made))

    def decode(
        self,
        codes: Codes,
        *,
        decoder: str | None = None,
        failed: MutableMapping[int, ServerError] | None = None,
    ) -> list[NDArray[np.uint8]]:
        """Codes → images, uint8 `[h, w, 3]` each, by whichever model has their code space.

        Args:
            codes: what to decode; of several stages, `codes.first(n)` decodes too.
            decoder: name of one of the model's decoders; None for the default one.
            failed: as for `encode`.

        Raises:
            ServerError: the server refused; `code_space_mismatch` if no model has it,
                `decoder_not_found` if that model has no such decoder.
            Unreachable: the server didn't answer.
        """
        params = named(decoder=decoder)
        made = self._codes("/v1/decode", codes, failed, same_size=True, params=params)
        return in_order(self._all(made))

    def embed(
        self,
        given: Codes | Image | Iterable[Image],
        *,
        size: tuple[int, int] | None = None,
        fit: Fit = "cover",
        sample_bits: int | None = None,
        failed: MutableMapping[int, ServerError] | None = None,
        warnings: MutableMapping[int, list[str]] | None = None,
    ) -> NDArray[np.float32]:
        """Images or codes → vectors of length 1, float32 `[n, e]`; the same for both.

        Raises:
            ServerError, Unreachable: as `encode`.
        """
        how = Preprocessing(size, fit, sample_bits)
        return matrix(self._all(self._embeddings(given, how, failed, warnings)))

    def classify(
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
        """Images or codes → labels, by a recognizer that the model carries; the same for both.

        Args:
            given: images, as `encode` takes them, or codes.
            recognizer: the name of one of the model's recognizers; None takes the first by name.
            k: most labels of each item.
            with_map: whether to say where the first label is seen.
            size: as for `encode`.
            fit: as for `encode`.
            sample_bits: as for `encode`.
            failed: as for `encode`.
            warnings: as for `encode`.

        Raises:
            ServerError: the server refused; `recognizer_not_found` if the model has none.
            Unreachable: the server didn't answer.
        """
        how = Preprocessing(size, fit, sample_bits)
        made = self._classifications(given, recognizer, k, with_map, how, failed, warnings)
        return classifications_of(self._all(made), failed)

    def recode(self, data: bytes, coding: Coding = "context", stages: int | None = None) -> bytes:
        """A `.tess` file in another coding; the codes in it stay the same.

        Coded by context they take about a third fewer bytes. Only a service whose model has the
        same prior can read them again; `Codes` is read from, and saved as, fixed.

        Args:
            data: the file.
            coding: `fixed` or `context`.
            stages: how many stages of the codes are kept; None for all of them.

        Raises:
            CodesError: it is not a `.tess` file.
            ServerError: the server refused; `prior_not_found` if the model lacks the prior.
            Unreachable: the server didn't answer.
        """
        return self._run(self._recoding(data, coding, stages), threading.Event())

    def reconstruct(
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
        """Images → what encoding and decoding makes of them, and how near it is.

        Args:
            images: as for `encode`.
            size: as for `encode`.
            fit: as for `encode`.
            sample_bits: as for `encode`.
            decoder: as for `decode`.
            stages: as for `encode`.
            failed: as for `encode`.
            warnings: as for `encode`.

        Raises:
            ServerError, Unreachable: as `encode`.
        """
        how = Preprocessing(size, fit, sample_bits)
        made = self._images(
            *("/v1/reconstruct", flows.NPY, images, how, failed, warnings),
            one_per_request=True,
            params=named(decoder=decoder, stages=stages),
        )
        return flows.reconstructions_of(self._all(made))

    def models(self) -> list[dict[str, Any]]:
        """What the loaded models' manifests say."""
        found: list[dict[str, Any]] = self.request("GET", "/v1/models").json()["data"]
        return found

    def is_ready(self) -> bool:
        """Whether the service is ready now; asked once."""
        try:
            return self._http.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def request(
        self, method: str, path: str, *, retry_for_s: float | None = None, **options: Any
    ) -> httpx.Response:
        """Send a request to any path of the API, and return its answer.

        Args:
            method: the HTTP method.
            path: the path, such as `/v1/reconstruct`.
            retry_for_s: as in the constructor, for this request alone.
            options: what `httpx.Client.request` takes: `params`, `headers`, `content`, `json` …

        Raises:
            ServerError: the server refused: its status is 400 or above.
            Unreachable: the server didn't answer.
        """
        flow = flows.accepted(flows.Send(method, path, options), self._policy_of(retry_for_s))
        return self._run(flow, threading.Event())

    def _all(self, made: list[Flow[_T]]) -> list[_T]:
        cancelled = threading.Event()
        if len(made) == 1:
            return [self._run(made[0], cancelled)]
        # Not as a context manager, which would wait for all of them after the first has failed.
        pool = ThreadPoolExecutor(self._concurrency)
        try:
            waiting = [pool.submit(self._run, flow, cancelled) for flow in made]
            ended, _ = wait(waiting, return_when=FIRST_EXCEPTION)
            for one in waiting:
                if one in ended:
                    one.result()  # raises what has failed
            return [one.result() for one in waiting]
        finally:
            cancelled.set()
            pool.shutdown(wait=False, cancel_futures=True)

    def _run(self, flow: Flow[_T], cancelled: threading.Event) -> _T:
        answer: Any = None
        while True:
            if cancelled.is_set():
                raise CancelledError
            try:
                step = flow.send(answer)
            except StopIteration as end:
                result: _T = end.value
                return result
            if isinstance(step, flows.Read):
                answer = read(step)
            elif isinstance(step, flows.Pause):
                cancelled.wait(step.seconds)
                answer = None
            else:
                try:
                    answer = self._http.request(step.method, step.path, **step.options)
                except httpx.TransportError as error:
                    answer = error
