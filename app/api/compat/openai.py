"""`POST /v1/embeddings`: what `/v1/embed` does, as clients of OpenAI's embeddings ask for it.

An input is an image, as base64 or a data: URI. What OpenAI counts in tokens is counted in codes.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import numpy as np
from fastapi import APIRouter, Request, Response

from app.api.compat.errors import OPENAI_PATH
from app.api.compat.route_docs import operation
from app.api.compat.schemas import Embeddings, EmbeddingsBody
from app.api.media_types import JSON, described, kind_of_body
from app.api.openapi import reference
from app.api.parsing import json_object
from app.api.request import Call
from app.api.responses import json_response, whole
from app.errors import InvalidParameter, MalformedRequest, TooManyImages, UnsupportedMediaType
from app.runtime.operations import EMBED_IMAGES
from app.service.preprocessing import ImageInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from app.runtime.model import Model
    from app.service.results import Item

# Sizes of vectors besides a model's own, for those who store many.
_SHORTER = (32, 64, 128)

_DESCRIBED = operation(
    "OpenAI",
    "Images to vectors, for OpenAI's clients",
    Embeddings,
    (
        *("malformed_request", "unauthorized", "model_not_found", "body_too_large"),
        *("too_many_images", "image_too_large", "unsupported_media_type", "image_corrupt"),
        *("invalid_parameter", "overloaded", "internal", "not_ready", "deadline_exceeded"),
    ),
    bodies={JSON: {"schema": reference(EmbeddingsBody)}},
)

router = APIRouter()


@router.post(OPENAI_PATH, **_DESCRIBED)
async def embeddings(request: Request) -> Response:
    """Images → vectors of length 1. One bad input fails the request, as at OpenAI."""
    call = Call(request)
    async with call.body() as body, call.slots() as slots:
        content_type = request.headers.get("content-type", JSON)
        if kind_of_body(content_type, body) != JSON:
            raise UnsupportedMediaType(f"the body must be {JSON}; {described(content_type)}")
        asked = await call.parse(len(body), json_object, body)
        model = call.models.get(_string(asked, "model"))
        encoding = _string(asked, "encoding_format") or "float"
        if encoding not in {"float", "base64"}:
            raise InvalidParameter("encoding_format must be float or base64")
        size = _size(model, asked.get("dimensions"))
        images = _images(asked.get("input"), request.app.state.service.limits.images)
        slots.take_up_to(len(images))
        options = call.preprocessing(None, "cover")
        items = await call.runner(model).images(EMBED_IMAGES, images, options)
        codes = call.context.codes
        return await call.reply(_reply, model, items, size, encoding, codes, heavy=False)


def _size(model: Model, wanted: Any) -> int:
    """How many numbers the vectors are to have.

    Raises:
        InvalidParameter: another number than there is.
    """
    whole_size = model.manifest.embedding_size
    sizes = [*(size for size in _SHORTER if size < whole_size), whole_size]
    # Not a set, as what JSON holds may have no hash; and true is 1 there.
    if wanted is not None and (isinstance(wanted, bool) or wanted not in sizes):
        raise InvalidParameter(
            f"dimensions: vectors of {model.name} have {', '.join(map(str, sizes))} numbers"
        )
    return whole_size if wanted is None else int(wanted)


def shortened(vector: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """The first numbers of a vector, as a vector of length 1.

    An embedder ends in a projection on principal components, the strongest first
    (`training.embedding.embedder.fit_projection`): the first numbers say the most.
    """
    if size == len(vector):
        return vector
    first = vector[:size]
    length = max(float(np.linalg.norm(first)), float(np.finfo(np.float32).tiny))
    return (first / length).astype(np.float32)


def _string(asked: dict[str, Any], name: str) -> str | None:
    value = asked.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidParameter(f"{name} must be a string")
    return value


def _images(given: Any, most: int) -> list[ImageInput]:
    inputs = [given] if isinstance(given, str) else given
    if not (isinstance(inputs, list) and inputs and all(isinstance(text, str) for text in inputs)):
        raise MalformedRequest(
            "input must be an image, as base64 or a data: URI, or a list of such images"
        )
    if len(inputs) > most:
        raise TooManyImages(f"{len(inputs)} inputs; the limit is {most} (TESSERA_MAX_IMAGES)")
    return [ImageInput(text) for text in inputs]


def _reply(
    model: Model, items: Sequence[Item[Any]], size: int, encoding: str, codes: int
) -> Response:
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(vector.astype("<f4").tobytes()).decode()
            if encoding == "base64"
            else np.ascontiguousarray(vector),
        }
        for index, vector in enumerate(shortened(vector, size) for vector in whole(items))
    ]
    usage = {"prompt_tokens": codes, "total_tokens": codes}
    return json_response({"object": "list", "data": data, "model": model.name, "usage": usage})
