"""What the OpenAPI document says of routes of other protocols."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.api.compat import schemas
from app.api.openapi import error_responses

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import BaseModel

_PROBLEMS: dict[str, type[BaseModel]] = {
    "OpenAI": schemas.OpenAIProblem,
    "Open Inference Protocol": schemas.V2Problem,
}


def operation(
    protocol: str,
    summary: str,
    answer: Any,
    errors: Iterable[str] = (),
    *,
    bodies: dict[str, Any] | None = None,
    open_to_all: bool = False,
) -> dict[str, Any]:
    """Arguments of FastAPI's route decorators.

    Args:
        protocol: name of the protocol, `OpenAI` or `Open Inference Protocol`.
        summary: what the route does.
        answer: schema of its answer, such as a model or a list of one.
        errors: codes of the errors that it may answer with.
        bodies: what it takes: media type → OpenAPI media type object.
        open_to_all: whether it needs no key.
    """
    extra: dict[str, Any] = {"security": []} if open_to_all else {}
    if bodies is not None:
        extra["requestBody"] = {"required": True, "content": bodies}
    problem = _PROBLEMS[protocol]
    return {
        "summary": summary,
        "tags": [protocol],
        "response_model": answer,
        "responses": {
            200: {"description": "as the protocol says"},
            **{
                status: {"description": described["description"], "model": problem}
                for status, described in error_responses(errors).items()
            },
        },
        "openapi_extra": extra,
    }
