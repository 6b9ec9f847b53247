"""Errors in the words that each protocol's clients know, told apart by path.

`/v2` answers as the Open Inference Protocol does, `/v1/embeddings` as OpenAI does, and everything
else as `app.problems` does. Status, `Retry-After` and the stable code are the same in all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from app.bodies import JSON
from app.errors import (
    ImageCorrupt,
    LimitExceeded,
    MalformedRequest,
    ModelNotFound,
    UnsupportedMediaType,
)
from app.problems import problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from starlette.responses import Response
    from starlette.types import Scope

    from app.errors import TesseraError

OPENAI_PATH = "/v1/embeddings"
V2_PATH = "/v2"

_OF_INPUT = (ImageCorrupt, LimitExceeded, MalformedRequest, UnsupportedMediaType)


def refusal(
    scope: Scope, error: TesseraError, headers: Mapping[str, str] | None = None
) -> Response:
    """The answer to a request that failed, in the dialect of its path.

    Args:
        scope: of the request, as the gate left it.
        error: why.
        headers: besides those that the error brings.
    """
    response = problem(error, scope["tessera"].id, headers)
    path = scope["path"]
    if path == OPENAI_PATH:
        body = _openai(error)
    elif path == V2_PATH or path.startswith(V2_PATH + "/"):
        body = {"error": f"{error.code}: {error.detail}"}
    else:
        return response
    response.body = orjson.dumps(body)
    response.headers["content-length"] = str(len(response.body))
    response.headers["content-type"] = JSON
    return response


def _openai(error: TesseraError) -> dict[str, Any]:
    if error.status >= 500:
        kind = "server_error"
    elif error.status == 429:
        kind = "rate_limit_error"
    else:
        kind = "invalid_request_error"
    param = None
    if isinstance(error, ModelNotFound):
        param = "model"
    elif isinstance(error, _OF_INPUT):
        param = "input"
    return {
        "error": {"message": error.detail, "type": kind, "param": param, "code": error.code},
    }


_STRING = {"type": "string"}
_ERRORS: dict[str, dict[str, Any]] = {
    "OpenAI": {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["message", "type", "param", "code"],
                "properties": {
                    "message": _STRING,
                    "type": _STRING,
                    "param": {"type": ["string", "null"]},
                    "code": _STRING,
                },
            }
        },
    },
    "Open Inference Protocol": {
        "type": "object",
        "required": ["error"],
        "properties": {"error": _STRING},
    },
}


def described(
    protocol: str,
    summary: str,
    answer: dict[str, Any],
    statuses: Iterable[int],
    body: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """What the OpenAPI document says of a route of another protocol.

    Args:
        protocol: `OpenAI` or `Open Inference Protocol`.
        summary: of the route.
        answer: JSON schema of its answer.
        statuses: that it may fail with.
        body: what it takes: media type → OpenAPI media type object.
    """
    errors = {
        status: {
            "description": f"as {protocol} says it",
            "content": {JSON: {"schema": _ERRORS[protocol]}},
        }
        for status in statuses
    }
    good = {"description": "as the protocol says", "content": {JSON: {"schema": answer}}}
    extra = {} if body is None else {"requestBody": {"required": True, "content": body}}
    return {
        "summary": summary,
        "tags": [protocol],
        "responses": {200: good, **errors},
        "openapi_extra": extra,
    }
