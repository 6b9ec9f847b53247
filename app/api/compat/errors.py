"""Error bodies as each protocol's clients know them, told apart by path.

`/v2` answers as the Open Inference Protocol does, `/v1/embeddings` as OpenAI does, and everything
else as `app.api.problems` does. Status, `Retry-After` and the stable code are the same in all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from app.api.media_types import JSON
from app.api.problems import problem
from app.errors import (
    ImageCorrupt,
    LimitExceeded,
    MalformedRequest,
    ModelNotFound,
    UnsupportedMediaType,
)
from app.observability.request_context import context_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.responses import Response
    from starlette.types import Scope

    from app.errors import TesseraError

OPENAI_PATH = "/v1/embeddings"
V2_PATH = "/v2"

_OF_INPUT = (ImageCorrupt, LimitExceeded, MalformedRequest, UnsupportedMediaType)


def error_response(
    scope: Scope, error: TesseraError, headers: Mapping[str, str] | None = None
) -> Response:
    """The answer to a request that failed, as the protocol of its path has it.

    Args:
        scope: the request's ASGI scope, with its context in it.
        error: why it failed.
        headers: headers of the answer besides those that the error brings.
    """
    response = problem(error, context_of(scope).id, headers)
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
