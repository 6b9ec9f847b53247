"""The OpenAPI document: everything of the HTTP contract that the code itself doesn't say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi.openapi.utils import get_openapi

from app import errors
from app.api import schemas
from app.api.compat import schemas as protocols
from app.api.parsing import CODE_BODIES, IMAGE_BODIES, JSON, MULTIPART, NPY, RAW_IMAGES
from app.api.problems import MEDIA_TYPE as PROBLEM
from app.api.responses import CODED, PICTURES, ZIP
from app.codecs.tess import MEDIA_TYPE as PACKED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastapi import FastAPI
    from pydantic import BaseModel

MODEL = "name of a loaded model; the default model if absent"
SIZE = "WxH in pixels: resize with Lanczos before encoding; without it the image keeps its own"
FIT = (
    "how `size` is filled: `cover` cuts what hangs over, `contain` leaves white bars, "
    "`stretch` ignores the aspect"
)
SAMPLE_BITS = (
    "how many bits samples that are stored in 16 really have, such as 12; larger ones become "
    "white. Without it the file is believed, and an image that then is nearly black has a warning"
)
RECOGNIZER = "which of the bundle's recognizers; the first by name if absent"
MAP = "add the activation map of the first label, and the box around its main region"

BITS_MAP = "add what each code costs, in bits: rows of the code grid"

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
_WARNING = {
    "Tessera-Warning": {
        "description": "codes of what may look wrong about images, and which items they are of; "
        "absent of most requests",
        "schema": {"type": "string"},
        "example": "dark_samples;item=0, profile_ignored;item=2",
    },
}
_NEARNESS = {
    "Tessera-PSNR": {
        "description": "dB over all samples, of one image; `inf` if equal",
        "schema": {"type": "string"},
        "example": "27.4312",
    },
    "Tessera-Bits-Per-Pixel": {
        "description": "of the codes at fixed length, of one image",
        "schema": {"type": "number"},
        "example": 0.1875,
    },
    "Tessera-Code-Space": {"description": "of the model", "schema": {"type": "string"}},
}

_BINARY = {"schema": {"type": "string", "format": "binary"}}


def _errors_by_status() -> dict[int, list[type[errors.TesseraError]]]:
    """The error tree by status, its inner nodes left out that are never raised themselves."""
    found: dict[int, list[type[errors.TesseraError]]] = {}
    left_out = {errors.TesseraError, errors.LimitExceeded, errors.Unprocessable}
    waiting = [errors.TesseraError]
    while waiting:
        kind = waiting.pop(0)
        waiting += kind.__subclasses__()
        if kind not in left_out:
            found.setdefault(kind.status, []).append(kind)
    return found


def responses(statuses: Iterable[int], codes: Iterable[str] | None = None) -> dict[int, Any]:
    """The errors of these statuses, or those of them that `codes` names, as the document has it."""
    by_status = _errors_by_status()
    responses: dict[int, Any] = {}
    for status in statuses:
        kinds = [k for k in by_status[status] if codes is None or k.code in codes]
        names = ", ".join(f"`{kind.code}`" for kind in kinds)
        doc = "; ".join((kind.__doc__ or "").strip().splitlines()[0].rstrip(".") for kind in kinds)
        responses[status] = {
            "description": f"{names}: {doc}",
            "content": {
                PROBLEM: {
                    "schema": {"$ref": "#/components/schemas/Problem"},
                    "example": {
                        "type": f"urn:tessera:problem:{kinds[0].code}",
                        "title": kinds[0].title,
                        "status": status,
                        "detail": kinds[0].title,
                        "code": kinds[0].code,
                        "request_id": "4bf92f3577b34da6a3ce929d0e0e4736",
                    },
                }
            },
        }
    return responses


def _operation(
    summary: str,
    tag: str,
    *,
    answers: dict[str, Any],
    answer: str,
    statuses: tuple[int, ...],
    codes: tuple[str, ...] | None = None,
    bodies: dict[str, Any] | None = None,
    headers: dict[str, Any] | None = None,
    open_to_all: bool = False,
) -> dict[str, Any]:
    extra: dict[str, Any] = {}
    if bodies is not None:
        extra["requestBody"] = {"required": True, "content": bodies}
    if open_to_all:
        extra["security"] = []
    good = {"description": answer, "headers": headers or {}, "content": answers}
    return {
        "summary": summary,
        "tags": [tag],
        "responses": {200: good, **responses(statuses, codes)},
        "openapi_extra": extra,
    }


def reference(model: type[BaseModel]) -> dict[str, str]:
    """A reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def _schema(model: type[BaseModel], example: Any = None) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": reference(model)}
    if example is not None:
        content["example"] = example
    return content


_IMAGE_BODIES: dict[str, Any] = {
    MULTIPART: {
        "schema": {
            "type": "object",
            "properties": {
                "image": {
                    "type": "array",
                    "items": {"type": "string", "format": "binary"},
                    "description": "files, whatever their field is called",
                }
            },
        }
    },
    **dict.fromkeys(RAW_IMAGES, _BINARY),
    JSON: _schema(schemas.ImagesBody),
    NPY: _BINARY,
}
_CODE_BODIES: dict[str, Any] = {JSON: _schema(schemas.CodesBody), PACKED: _BINARY, NPY: _BINARY}
_EITHER: dict[str, Any] = {
    **_IMAGE_BODIES,
    PACKED: _BINARY,
    JSON: {
        "schema": {
            "oneOf": [
                {"$ref": "#/components/schemas/ImagesBody"},
                {"$ref": "#/components/schemas/CodesBody"},
            ]
        }
    },
}
assert set(_IMAGE_BODIES) == set(IMAGE_BODIES)  # noqa: S101
assert set(_CODE_BODIES) == set(CODE_BODIES)  # noqa: S101

_PICTURES: dict[str, Any] = dict.fromkeys((*PICTURES, NPY, ZIP), _BINARY)
_CODE_SPACE = "4f0c" + "0" * 60
_ENCODED_EXAMPLE = {
    "model": "photo-f8",
    "code_space": _CODE_SPACE,
    "precision": "fp32",
    "data": [
        {
            "index": 0,
            "name": "kodim01.png",
            "width": 16,
            "height": 9,
            "grid": [2, 2],
            "codes": [[17, 4], [203, 9]],
        },
        {
            "index": 1,
            "name": "broken.jpg",
            "error": {
                "code": "image_corrupt",
                "status": 422,
                "detail": "the JPEG image is truncated or broken",
            },
        },
    ],
}

_SHARED = (400, 401, 404, 406, 413, 415, 422, 429, 500, 503, 504)
_IMAGE_CODES = (
    *("malformed_request", "unauthorized", "model_not_found", "not_acceptable"),
    *("body_too_large", "too_many_images", "image_too_large", "unsupported_media_type"),
    *("image_corrupt", "invalid_parameter", "overloaded", "internal", "not_ready"),
    "deadline_exceeded",
)
_CODES_CODES = ("codes_invalid", "code_space_mismatch", "prior_not_found")
_DECODE_CODES = tuple({*_IMAGE_CODES, *_CODES_CODES} - {"image_corrupt"})
_EITHER_CODES = (*_IMAGE_CODES, *_CODES_CODES)

ENCODE = _operation(
    "Images to codes",
    "codes",
    answer="the codes of each image",
    answers={
        JSON: _schema(schemas.Encoded, _ENCODED_EXAMPLE),
        PACKED: _BINARY,
        CODED: _BINARY,
        NPY: _BINARY,
    },
    bodies=_IMAGE_BODIES,
    headers=_WARNING,
    statuses=_SHARED,
    codes=(*_IMAGE_CODES, "prior_not_found"),
)
DECODE = _operation(
    "Codes to images",
    "codes",
    answer="one grid: the picture itself, PNG by default; several: JSON, ZIP or npy",
    answers={**_PICTURES, JSON: _schema(schemas.Pictures)},
    bodies=_CODE_BODIES,
    statuses=(*_SHARED, 409),
    codes=_DECODE_CODES,
)
RECODE = _operation(
    "Codes to the same codes in another form",
    "codes",
    answer="the codes, plain or coded by their context",
    answers={JSON: _schema(schemas.Encoded), PACKED: _BINARY, CODED: _BINARY, NPY: _BINARY},
    bodies=_CODE_BODIES,
    statuses=(*_SHARED, 409),
    codes=_DECODE_CODES,
)
RECONSTRUCT = _operation(
    "Images to their reconstructions",
    "codes",
    answer="what encoding and decoding gives; one image: the picture itself",
    answers={**_PICTURES, JSON: _schema(schemas.Reconstructions)},
    bodies=_IMAGE_BODIES,
    headers=_NEARNESS | _WARNING,
    statuses=_SHARED,
    codes=_IMAGE_CODES,
)
EMBED = _operation(
    "Images or codes to vectors",
    "functions of codes",
    answer="a vector of length 1 for each",
    answers={JSON: _schema(schemas.Embedded), NPY: _BINARY},
    bodies=_EITHER,
    headers=_WARNING,
    statuses=(*_SHARED, 409),
    codes=_EITHER_CODES,
)
CLASSIFY = _operation(
    "Images or codes to labels",
    "functions of codes",
    answer="the most probable labels of each",
    answers={JSON: _schema(schemas.Classified)},
    bodies=_EITHER,
    headers=_WARNING,
    statuses=(*_SHARED, 409),
    codes=(*_EITHER_CODES, "recognizer_not_found"),
)
BITS = _operation(
    "Images or codes to bits",
    "functions of codes",
    answer="how many bits the codes of each take, coded by their context",
    answers={JSON: _schema(schemas.Costs)},
    bodies=_EITHER,
    statuses=(*_SHARED, 409),
    codes=_EITHER_CODES,
)
MODELS = _operation(
    "The loaded models",
    "models",
    answer="facts of each",
    answers={JSON: _schema(schemas.ModelList)},
    statuses=(401, 406, 500, 503),
)
RELOAD = _operation(
    "Load the models anew",
    "models",
    answer="what is served from now on; requests in flight finish with what they began with",
    answers={JSON: _schema(schemas.Reloaded)},
    statuses=(401, 422, 500, 503, 504),
    codes=("unauthorized", "invalid_parameter", "internal", "not_ready", "deadline_exceeded"),
)
MODEL_OF_NAME = _operation(
    "One model",
    "models",
    answer="its facts",
    answers={JSON: _schema(schemas.ModelFacts)},
    statuses=(401, 404, 406, 500, 503),
    codes=("unauthorized", "model_not_found", "not_acceptable", "internal", "not_ready"),
)
CODEBOOK = _operation(
    "The code vectors of a model",
    "models",
    answer="float32, one row for each code",
    answers={JSON: _schema(schemas.Codebook), NPY: _BINARY},
    statuses=(401, 404, 406, 500, 503),
    codes=("unauthorized", "model_not_found", "not_acceptable", "internal", "not_ready"),
)
CARD = _operation(
    "The model card",
    "models",
    answer="what the model was trained on, how good it is and what it is not for, in Markdown",
    answers={form: {"schema": {"type": "string"}} for form in ("text/markdown", "text/plain")},
    statuses=(401, 404, 406, 500, 503),
    codes=(
        "unauthorized",
        "model_not_found",
        "card_not_found",
        "not_acceptable",
        "internal",
        "not_ready",
    ),
)
LIVEZ = _operation(
    "Is the process alive?",
    "health",
    answer="yes",
    answers={JSON: _schema(schemas.Alive)},
    statuses=(),
    open_to_all=True,
)
READYZ = _operation(
    "Is the service ready?",
    "health",
    answer="yes: each loaded model has lately run on its device",
    answers={JSON: _schema(schemas.Ready)},
    statuses=(503,),
    open_to_all=True,
)
METRICS = _operation(
    "Metrics for Prometheus",
    "health",
    answer="text exposition format",
    answers={"text/plain": {"schema": {"type": "string"}}},
    statuses=(),
    open_to_all=True,
)


def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of the app's routes, with every schema in it."""
    made = get_openapi(
        title="Tessera",
        version=app.version,
        description=_DESCRIPTION,
        routes=app.routes,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    components = made.setdefault("components", {})
    components["schemas"] = found = {}
    for model in (*schemas.BODIES, *protocols.BODIES):
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        found.update(schema.pop("$defs", {}))
        found[model.__name__] = schema
    for methods in made["paths"].values():
        for operation in methods.values():
            # FastAPI promises 422 wherever there is a parameter, and JSON wherever there is an
            # answer; what we declared has a reference to one of our schemas, or isn't JSON.
            responses = operation["responses"]
            if "ValidationError" in str(responses.get("422")):
                del responses["422"]
            for status, response in responses.items():
                headers = _HEADERS | (_RETRY_AFTER if status in {"429", "503"} else {})
                response["headers"] = headers | response.get("headers", {})
            good = responses["200"]["content"]
            if "$ref" not in str(good.get(JSON)):
                good.pop(JSON, None)
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    # An alternative of none: keys are needed only where they are configured.
    made["security"] = [{"key": []}, {}]
    return made
