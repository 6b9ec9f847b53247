"""Errors as `application/problem+json` (RFC 9457)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from starlette.responses import Response

from app.errors import (
    InvalidParameter,
    MalformedRequest,
    MethodNotAllowed,
    NotFound,
    NotReady,
    Overloaded,
    TesseraError,
    Unauthorized,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi.exceptions import RequestValidationError
    from starlette.exceptions import HTTPException

MEDIA_TYPE = "application/problem+json"


def problem(
    error: TesseraError, request_id: str, headers: Mapping[str, str] | None = None
) -> Response:
    """The answer to a request that failed.

    Args:
        error: why it failed.
        request_id: id of the request.
        headers: headers of the answer besides those that the error brings.
    """
    body = {
        "type": f"urn:tessera:problem:{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        "request_id": request_id,
    }
    made = dict(headers or {})
    if isinstance(error, Overloaded | NotReady):
        made["retry-after"] = str(error.retry_after_s)
    if isinstance(error, Unauthorized):
        made["www-authenticate"] = "Bearer"
    return Response(orjson.dumps(body), error.status, made, MEDIA_TYPE)


def item_problem(error: TesseraError) -> dict[str, Any]:
    """The `error` of one item among several."""
    return {"code": error.code, "status": error.status, "detail": error.detail}


def from_framework(error: HTTPException) -> TesseraError:
    """Our error for one of Starlette's: no such path, no such method, or what it couldn't read."""
    if error.status_code == 404:
        return NotFound("there is nothing at this path; GET /openapi.json lists what there is")
    if error.status_code == 405:
        return MethodNotAllowed("this path doesn't take this method; the Allow header says which")
    return MalformedRequest("the request could not be read")


def from_validation(error: RequestValidationError) -> TesseraError:
    """Our error for parameters that FastAPI refused; names them, never repeats their values."""
    faults = []
    for fault in error.errors():
        name = fault["loc"][-1]
        faults.append(f"{name}: {fault['msg'][0].lower()}{fault['msg'][1:]}")
    return InvalidParameter("; ".join(faults))
