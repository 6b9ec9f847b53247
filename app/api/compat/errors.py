"""Error bodies as each protocol's clients know them, told apart by path.

`/v2` answers as the Open Inference Protocol does, `/v1/embeddings` as OpenAI does, and everything
else as `app.api.problems` does. Status, `Retry-After` and the stable code are the same in all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from app.api import openapi
from app.api.compat import schemas as protocols
from app.api.parsing import JSON
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
    from collections.abc import Iterable, Mapping

    from pydantic import BaseModel
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


_PROBLEMS: dict[str, type[BaseModel]] = {
    "OpenAI": protocols.OpenAIProblem,
    "Open Inference Protocol": protocols.V2Problem,
}


def described(
    protocol: str,
    summary: str,
    answer: type[BaseModel],
    statuses: Iterable[int] = (),
    codes: Iterable[str] | None = None,
    *,
    bodies: dict[str, Any] | None = None,
    many: bool = False,
    open_to_all: bool = False,
) -> dict[str, Any]:
    """What the OpenAPI document says of a route of another protocol.

    Args:
        protocol: name of the protocol, `OpenAI` or `Open Inference Protocol`.
        summary: summary of the route.
        answer: schema of its answer.
        statuses: statuses that it may fail with.
        codes: codes of the errors that it raises, among those of these statuses; all if None.
        bodies: what it takes: media type → OpenAPI media type object.
        many: whether it answers with a list of such answers.
        open_to_all: whether it needs no key.
    """
    found = openapi.responses(statuses, codes)
    for response in found.values():
        response["content"] = {JSON: {"schema": openapi.reference(_PROBLEMS[protocol])}}
    schema = openapi.reference(answer)
    content = {JSON: {"schema": {"type": "array", "items": schema} if many else schema}}
    extra: dict[str, Any] = {"security": []} if open_to_all else {}
    if bodies is not None:
        extra["requestBody"] = {"required": True, "content": bodies}
    return {
        "summary": summary,
        "tags": [protocol],
        "responses": {200: {"description": "as the protocol says", "content": content}, **found},
        "openapi_extra": extra,
    }
