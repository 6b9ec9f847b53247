"""The OpenAPI document: what FastAPI can't know of the routes, and what all of them share.

FastAPI generates parameters, answers in JSON and their schemas, tags and summaries. What is added
by hand, and why:

- request bodies: a route takes several media types and reads the body itself, up to a cap;
- answers in other media types: no model describes them;
- errors: FastAPI would describe them as JSON, and they are `application/problem+json`;
- headers that every answer carries, which middlewares add.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi.openapi.utils import get_openapi

from app import errors
from app.api import schemas
from app.api.compat import schemas as protocols
from app.api.problems import MEDIA_TYPE as PROBLEM

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastapi import FastAPI
    from pydantic import BaseModel

_DESCRIPTION = """\
Images to grids of small integers and back. The codes are the truth: pictures, vectors and labels
are all functions of them, and each grid carries the **code space** it belongs to.

Several images in one request fail one by one: the answer is 200 with an `error` in each item that
failed, unless all did, which is the status of the first. Forms other than JSON can't say that an
item failed, so there the first such error is the status.

Every answer carries `X-Request-ID` (yours, if it is sane) and `Server-Timing` with the
milliseconds of `decode`, `queue`, `infer` and `encode`.
"""

_HEADERS = {
    "X-Request-ID": {
        "description": "the client's, if sane, else made here",
        "schema": {"type": "string"},
    },
    "Server-Timing": {
        "description": "milliseconds by stage",
        "schema": {"type": "string"},
        "example": "decode;dur=1.20, queue;dur=0.05, infer;dur=8.31, encode;dur=0.11",
    },
}
_RETRY_AFTER = {
    "Retry-After": {
        "description": "seconds, from the measured drain rate",
        "schema": {"type": "integer", "minimum": 1},
    }
}

# Schemas that only hand-written parts of the document refer to.
_MORE_SCHEMAS: tuple[type[BaseModel], ...] = (
    schemas.Problem,
    schemas.ImagesBody,
    schemas.CodesBody,
    protocols.OpenAIProblem,
    protocols.EmbeddingsBody,
    protocols.V2Problem,
    protocols.V2InferBody,
)


def reference(model: type[BaseModel]) -> dict[str, str]:
    """A reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def error_responses(codes: Iterable[str]) -> dict[int | str, dict[str, Any]]:
    """The errors of these codes by status, as the document describes them."""
    wanted = set(codes)
    by_status: dict[int, list[type[errors.TesseraError]]] = {}
    for kind in _errors():
        if kind.code in wanted:
            by_status.setdefault(kind.status, []).append(kind)
    described: dict[int | str, dict[str, Any]] = {}
    for status, kinds in sorted(by_status.items()):
        names = ", ".join(f"`{kind.code}`" for kind in kinds)
        doc = "; ".join((kind.__doc__ or "").strip().splitlines()[0].rstrip(".") for kind in kinds)
        example = {
            "type": f"urn:tessera:problem:{kinds[0].code}",
            "title": kinds[0].title,
            "status": status,
            "detail": kinds[0].title,
            "code": kinds[0].code,
            "request_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        }
        described[status] = {
            "description": f"{names}: {doc}",
            "content": {PROBLEM: {"schema": reference(schemas.Problem), "example": example}},
        }
    return described


def _errors() -> list[type[errors.TesseraError]]:
    """The error tree from top to bottom, without inner nodes that are never raised themselves."""
    left_out = {errors.TesseraError, errors.LimitExceeded, errors.Unprocessable}
    found = []
    waiting: list[type[errors.TesseraError]] = [errors.TesseraError]
    while waiting:
        kind = waiting.pop(0)
        waiting += kind.__subclasses__()
        if kind not in left_out:
            found.append(kind)
    return found


def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of the app's routes, with every schema in it."""
    made = get_openapi(
        title="Tessera",
        version=app.version,
        description=_DESCRIPTION,
        routes=app.routes,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    components = made["components"]
    for name in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(name, None)
    for model in _MORE_SCHEMAS:
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        components["schemas"].update(schema.pop("$defs", {}))
        components["schemas"][model.__name__] = schema
    for methods in made["paths"].values():
        for operation in methods.values():
            # FastAPI promises its own 422 wherever there is a parameter.
            responses = operation["responses"]
            if "ValidationError" in str(responses.get("422")):
                del responses["422"]
            for status, response in responses.items():
                headers = _HEADERS | (_RETRY_AFTER if status in {"429", "503"} else {})
                response["headers"] = headers | response.get("headers", {})
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    # An alternative of none: keys are needed only where they are configured.
    made["security"] = [{"key": []}, {}]
    return made
