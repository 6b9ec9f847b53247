"""What can go wrong.

::

    TesseraError
    ├── ServerError    the server refused; has its code
    ├── Unreachable    the server didn't answer, however often it was asked
    ├── SetupError     the address, or a variable of the environment, can't be used
    └── CodesError     not a good .tess file, or codes that don't belong together
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx


class TesseraError(Exception):
    """Base of all errors of this package."""


class Unreachable(TesseraError):
    """The server couldn't be reached, or broke off, for as long as was asked."""


class SetupError(TesseraError):
    """The address can't be used, or what the environment says of certificates and proxies."""


class CodesError(TesseraError):
    """A `.tess` file is not as its format says, or codes of different spaces are mixed."""


class ServerError(TesseraError):
    """The server refused.

    Attributes:
        code: stable name of the reason, such as `image_corrupt`.
        status: HTTP status of the answer, or of the item in it.
        detail: what happened and what to do.
        request_id: what finds the request in the server's log.
        index: the index of the image or grid that it is about; None if it is about all.
    """

    def __init__(self, code: str, status: int, detail: str, request_id: str | None) -> None:
        super().__init__(detail)
        self.code = code
        self.status = status
        self.detail = detail
        self.request_id = request_id
        self.index: int | None = None

    def __str__(self) -> str:
        place = "" if self.index is None else f"item {self.index}: "
        return f"{place}{self.detail} ({self.status} {self.code})"

    @classmethod
    def of(cls, response: httpx.Response) -> ServerError:
        """The error that an answer tells of; one that isn't Tessera's, such as a proxy's, too."""
        try:
            body = json.loads(response.content)
            code, detail = str(body["code"]), str(body["detail"])
        except (ValueError, KeyError, TypeError):
            code, detail = "unknown", f"the server answered {response.status_code}"
        return cls(code, response.status_code, detail, response.headers.get("x-request-id"))

    @property
    def about_an_item(self) -> bool:
        """Whether other items of the same request may be good, or a smaller request."""
        return self.status in {400, 413, 415, 422} and self.code != "invalid_parameter"
