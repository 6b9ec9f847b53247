"""What the OpenAPI document says of each route beyond what its signature says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi.responses import JSONResponse, PlainTextResponse, Response

from app.api import model_schemas, schemas
from app.api.media_types import CODE_BODIES, IMAGE_BODIES, JSON, MULTIPART, NPY, RAW_IMAGES
from app.api.openapi import error_responses, reference
from app.api.picture_responses import PICTURES, ZIP
from app.api.responses import CODED
from app.codecs.tess import MEDIA_TYPE as PACKED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import BaseModel

# --- parameters ----------------------------------------------------------------------------

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
STAGES = (
    "how many stages of codes, each of which makes the picture better, from the first one on; "
    "what the model's manifest says if absent"
)
FIRST_STAGES = "use the first so many stages of the codes alone; all that they have if absent"
DECODER = "which of the model's decoders; `default`, the one for the least squared error, if absent"
STAGE = "of which stage, counted from 1"
QUALITY = "quality of WebP and JPEG answers"
ENCODING = "how vectors are written in JSON: numbers, or base64 of little-endian float32"
RECOGNIZER = "which of the bundle's recognizers; the first by name if absent"
LABELS = "most labels of each item"
MAP = "add the activation map of the first label, and the box around its main region"
BITS_MAP = "add what each code costs, in bits: rows of the code grid"
MODEL_NAME = "name of the model"

# --- bodies --------------------------------------------------------------------------------

_BINARY = {"schema": {"type": "string", "format": "binary"}}

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
    JSON: {"schema": reference(schemas.ImagesBody)},
    NPY: _BINARY,
}
_CODE_BODIES: dict[str, Any] = {
    JSON: {"schema": reference(schemas.CodesBody)},
    PACKED: _BINARY,
    NPY: _BINARY,
}
_EITHER: dict[str, Any] = {
    **_IMAGE_BODIES,
    PACKED: _BINARY,
    JSON: {"schema": {"oneOf": [reference(schemas.ImagesBody), reference(schemas.CodesBody)]}},
}
assert set(_IMAGE_BODIES) == set(IMAGE_BODIES)  # noqa: S101
assert set(_CODE_BODIES) == set(CODE_BODIES)  # noqa: S101

# --- answers -------------------------------------------------------------------------------

_PICTURES: dict[str, Any] = dict.fromkeys((*PICTURES, NPY, ZIP), _BINARY)
_CODE_FORMS: dict[str, Any] = dict.fromkeys((PACKED, CODED, NPY), _BINARY)
_WARNING = {
    "Tessera-Warning": {
        "description": "codes of what may look wrong about images, and which items they are of; "
        "absent from most answers",
        "schema": {"type": "string"},
        "example": "dark_samples;item=0, profile_ignored;item=2",
    },
}
_MEASURES = {
    "Tessera-PSNR": {
        "description": "dB over all samples, of one image; `inf` if equal",
        "schema": {"type": "string"},
        "example": "27.4312",
    },
    "Tessera-Bits-Per-Pixel": {
        "description": "bits of the codes at fixed length for each pixel, of one image",
        "schema": {"type": "number"},
        "example": 0.1875,
    },
    "Tessera-Code-Space": {
        "description": "code space of the model",
        "schema": {"type": "string"},
    },
}
_ENCODED_EXAMPLE = {
    "model": "photo-f8",
    "code_space": "4f0c" + "0" * 60,
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

# --- errors --------------------------------------------------------------------------------

_READING = ("unauthorized", "internal", "not_ready")
_OF_MODEL = (*_READING, "model_not_found", "not_acceptable")
_IMAGE_ERRORS = (
    *("malformed_request", "unauthorized", "model_not_found", "not_acceptable"),
    *("body_too_large", "too_many_images", "image_too_large", "unsupported_media_type"),
    *("image_corrupt", "invalid_parameter", "overloaded", "internal", "not_ready"),
    "deadline_exceeded",
)
_OF_CODES = ("codes_invalid", "code_space_mismatch", "prior_not_found")
_RECODE_ERRORS = tuple({*_IMAGE_ERRORS, *_OF_CODES} - {"image_corrupt"})
_DECODE_ERRORS = (*_RECODE_ERRORS, "decoder_not_found")
_EITHER_ERRORS = (*_IMAGE_ERRORS, *_OF_CODES)


def _operation(
    summary: str,
    tag: str,
    *,
    answer: str,
    model: type[BaseModel] | None = None,
    forms: dict[str, Any] | None = None,
    errors: Iterable[str] = (),
    bodies: dict[str, Any] | None = None,
    headers: dict[str, Any] | None = None,
    open_to_all: bool = False,
) -> dict[str, Any]:
    """Arguments of FastAPI's route decorators.

    Args:
        summary: what the route does.
        tag: group that it belongs to.
        answer: what it answers with.
        model: schema of the answer in JSON; None if there is none.
        forms: what else the answer comes as: media type → OpenAPI media type object.
        errors: codes of the errors that it may answer with.
        bodies: what it takes: media type → OpenAPI media type object.
        headers: headers of its answer besides those of all answers.
        open_to_all: whether it needs no key.
    """
    extra: dict[str, Any] = {}
    if bodies is not None:
        extra["requestBody"] = {"required": True, "content": bodies}
    if open_to_all:
        extra["security"] = []
    good = {"description": answer, "headers": headers or {}, "content": forms or {}}
    return {
        "summary": summary,
        "tags": [tag],
        "response_model": model,
        "response_class": Response if model is None else JSONResponse,
        "responses": {200: good, **error_responses(errors)},
        "openapi_extra": extra,
    }


# --- routes --------------------------------------------------------------------------------

ENCODE = _operation(
    "Images to codes",
    "codes",
    answer="the codes of each image",
    model=schemas.Encoded,
    forms={JSON: {"example": _ENCODED_EXAMPLE}, **_CODE_FORMS},
    bodies=_IMAGE_BODIES,
    headers=_WARNING,
    errors=(*_IMAGE_ERRORS, "prior_not_found"),
)
DECODE = _operation(
    "Codes to images",
    "codes",
    answer="one grid: the picture itself, PNG by default; several: JSON, ZIP or npy",
    model=schemas.Pictures,
    forms=_PICTURES,
    bodies=_CODE_BODIES,
    errors=_DECODE_ERRORS,
)
RECODE = _operation(
    "Codes to the same codes in another form",
    "codes",
    answer="the codes, plain or coded by their context",
    model=schemas.Encoded,
    forms=_CODE_FORMS,
    bodies=_CODE_BODIES,
    errors=_RECODE_ERRORS,
)
RECONSTRUCT = _operation(
    "Images to their reconstructions",
    "codes",
    answer="what encoding and decoding gives; one image: the picture itself",
    model=schemas.Reconstructions,
    forms=_PICTURES,
    bodies=_IMAGE_BODIES,
    headers=_MEASURES | _WARNING,
    errors=(*_IMAGE_ERRORS, "decoder_not_found"),
)
EMBED = _operation(
    "Images or codes to vectors",
    "functions of codes",
    answer="a vector of length 1 for each",
    model=schemas.Embedded,
    forms={NPY: _BINARY},
    bodies=_EITHER,
    headers=_WARNING,
    errors=_EITHER_ERRORS,
)
CLASSIFY = _operation(
    "Images or codes to labels",
    "functions of codes",
    answer="the most probable labels of each",
    model=schemas.Classified,
    bodies=_EITHER,
    headers=_WARNING,
    errors=(*_EITHER_ERRORS, "recognizer_not_found"),
)
BITS = _operation(
    "Images or codes to bits",
    "functions of codes",
    answer="how many bits the codes of each take, coded by their context",
    model=schemas.Costs,
    bodies=_EITHER,
    errors=_EITHER_ERRORS,
)
MODELS = _operation(
    "The loaded models",
    "models",
    answer="facts of each",
    model=model_schemas.ModelList,
    errors=(*_READING, "not_acceptable"),
)
RELOAD = _operation(
    "Load the models anew",
    "models",
    answer="what is served from now on; requests in flight finish with what they began with",
    model=model_schemas.Reloaded,
    errors=(*_READING, "invalid_parameter", "deadline_exceeded"),
)
MODEL_OF_NAME = _operation(
    "One model", "models", answer="its facts", model=model_schemas.ModelFacts, errors=_OF_MODEL
)
CODEBOOK = _operation(
    "The code vectors of a model",
    "models",
    answer="float32, one row for each code",
    model=model_schemas.Codebook,
    forms={NPY: _BINARY},
    errors=(*_OF_MODEL, "codebook_too_large", "invalid_parameter"),
)
CARD = _operation(
    "The model card",
    "models",
    answer="what the model was trained on, how good it is and what it is not for, in Markdown",
    forms={form: {"schema": {"type": "string"}} for form in ("text/markdown", "text/plain")},
    errors=(*_OF_MODEL, "card_not_found"),
)
LIVEZ = _operation(
    "Is the process alive?", "health", answer="yes", model=schemas.Alive, open_to_all=True
)
READYZ = _operation(
    "Is the service ready?",
    "health",
    answer="yes: each loaded model has lately run on its device",
    model=schemas.Ready,
    errors=("not_ready",),
    open_to_all=True,
)
METRICS = _operation(
    "Metrics for Prometheus", "health", answer="text exposition format", open_to_all=True
) | {"response_class": PlainTextResponse}
