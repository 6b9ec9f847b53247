"""What both clients have in common: their options, and the flows of each operation."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import httpx
import numpy as np

from tessera_client import flows, labels
from tessera_client.codes import Codes
from tessera_client.errors import SetupError
from tessera_client.images import sources
from tessera_client.tess import MEDIA_TYPE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, MutableMapping

    from numpy.typing import NDArray

    from tessera_client.errors import ServerError
    from tessera_client.flows import Answers, Flow
    from tessera_client.images import Image

Fit = Literal["cover", "contain", "stretch"]
# Of a .tess file: as many bits for each code, or each by its context, in about a third fewer bytes.
Coding = Literal["fixed", "context"]


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What the server does to images before it encodes them.

    Attributes:
        size: (width, height) to resize to; None keeps each image's own.
        fit: how `size` is filled.
        sample_bits: bits that samples stored in 16 really have; None for all of them.
    """

    size: tuple[int, int] | None
    fit: Fit
    sample_bits: int | None

    @property
    def params(self) -> dict[str, str]:
        """The same as query parameters."""
        params: dict[str, str] = {}
        if self.size is not None:
            params |= {"size": f"{self.size[0]}x{self.size[1]}", "fit": self.fit}
        if self.sample_bits is not None:
            params["sample_bits"] = str(self.sample_bits)
        return params


# What httpx reads of the environment.
_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
_VARIABLES_OF_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


def _variables_set() -> str:
    """Which variables of certificates and proxies are set, in either case; for a message."""
    known = (*_VARIABLES, *_VARIABLES_OF_PROXIES, *map(str.lower, _VARIABLES_OF_PROXIES))
    found = [name for name in known if os.environ.get(name)]
    return f"; these variables are set: {', '.join(found)}" if found else ""


class Base(ABC):
    """What both clients are told, and the flows of each operation."""

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        model: str | None = None,
        timeout_s: float = 60.0,
        retry_for_s: float = 120.0,
        batch_images: int = 16,
        batch_bytes: int = 8 * 2**20,
        concurrency: int = 4,
        transport: Any = None,
    ) -> None:
        self._policy = flows.Policy(batch_images, batch_bytes, retry_for_s)
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
        try:
            self._open(options)
        # What httpx makes of an address or a proxy, and of files of certificates.
        except (httpx.InvalidURL, ValueError, ImportError, OSError) as error:
            raise SetupError(
                f"no client can be made for {base_url}: {str(error) or type(error).__name__}"
                f"{_variables_set()}"
            ) from error

    @abstractmethod
    def _open(self, options: dict[str, Any]) -> None:
        """Make the httpx client, asynchronous or not, with these options."""

    def _policy_of(self, retry_for_s: float | None) -> flows.Policy:
        if retry_for_s is None:
            return self._policy
        return replace(self._policy, retry_for_s=retry_for_s)

    def _with_model(self, params: Mapping[str, str] | None) -> dict[str, str]:
        named = {} if self._model is None else {"model": self._model}
        return {**named, **(params or {})}

    def _recoding(self, data: bytes, coding: Coding, stages: int | None) -> Flow[bytes]:
        accept = MEDIA_TYPE if coding == "fixed" else f"{MEDIA_TYPE};coding={coding}"
        params = self._with_model(named(stages=stages))
        call = flows.Call("/v1/recode", accept, params, None)
        return flows.run_recoding(call, data, self._policy)

    def _images(
        self,
        path: str,
        accept: str,
        images: Image | Iterable[Image],
        how: Preprocessing,
        failed: MutableMapping[int, ServerError] | None,
        warnings: MutableMapping[int, list[str]] | None,
        *,
        one_per_request: bool = False,
        params: Mapping[str, str] | None = None,
    ) -> list[Flow[Answers]]:
        params = self._with_model(params) | how.params
        call = flows.Call(path, accept, params, failed, warnings)
        policy = replace(self._policy, batch_images=1) if one_per_request else self._policy
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
        accept: str = flows.NPY,
        params: Mapping[str, str] | None = None,
    ) -> list[Flow[Answers]]:
        call = flows.Call(path, accept, self._with_model(params), failed)
        return [
            flows.run_codes(call, codes, batch, self._policy)
            for batch in flows.grid_batches(codes, self._policy, same_size=same_size)
        ]

    def _embeddings(
        self,
        given: Codes | Image | Iterable[Image],
        how: Preprocessing,
        failed: MutableMapping[int, ServerError] | None,
        warnings: MutableMapping[int, list[str]] | None,
    ) -> list[Flow[Answers]]:
        if isinstance(given, Codes):
            return self._codes("/v1/embed", given, failed, same_size=False)
        return self._images("/v1/embed", flows.NPY, given, how, failed, warnings)

    def _classifications(
        self,
        given: Codes | Image | Iterable[Image],
        recognizer: str | None,
        k: int,
        with_map: bool,
        how: Preprocessing,
        failed: MutableMapping[int, ServerError] | None,
        warnings: MutableMapping[int, list[str]] | None,
    ) -> list[Flow[Answers]]:
        path, params = "/v1/classify", {"k": str(k)}
        if recognizer is not None:
            params["recognizer"] = recognizer
        if with_map:
            params["map"] = "true"
        if isinstance(given, Codes):
            return self._codes(
                path, given, failed, same_size=False, accept=labels.JSON, params=params
            )
        return self._images(path, labels.JSON, given, how, failed, warnings, params=params)


def named(**values: str | int | None) -> dict[str, str]:
    """Query parameters of those that were said."""
    return {name: str(value) for name, value in values.items() if value is not None}


def read(step: flows.Read) -> list[bytes]:
    """Do what a `Read` wants."""
    return [source.read() for source in step.sources]


def in_order(answers: list[Answers]) -> list[NDArray[np.uint8]]:
    """One array for each item."""
    rows = flows.rows_of(answers)
    return [rows[index] for index in sorted(rows)]


def matrix(answers: list[Answers]) -> NDArray[np.float32]:
    """One row for each item."""
    rows = flows.rows_of(answers)
    if not rows:
        return np.empty((0, 0), np.float32)
    return np.stack([rows[index] for index in sorted(rows)])
