"""Request bodies: read up to a cap as they arrive, then told apart by `Content-Type`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from app.api.multipart import plain_name, read_files
from app.codecs.grids import CodeGrid, check_count, grid_from_rows, grids_from_npy
from app.codecs.npy import read_npy, read_npy_images
from app.codecs.tess import MEDIA_TYPE as PACKED
from app.codecs.tess import CodedFile, CodedGrid, read_tess
from app.errors import (
    BodyTooLarge,
    CodesInvalid,
    MalformedRequest,
    TesseraError,
    TooManyImages,
    UnsupportedMediaType,
)
from app.service.preprocessing import ImageInput, Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.requests import Request

    from app.runtime.registry import Model, Models

JSON = "application/json"
NPY = "application/x-npy"
MULTIPART = "multipart/form-data"
RAW_IMAGES = (
    "image/png",
    "image/jpeg",
    "image/webp",
    "image/gif",
    "image/bmp",
    "image/tiff",
    "application/octet-stream",
)
IMAGE_BODIES = (MULTIPART, *RAW_IMAGES, JSON, NPY)
CODE_BODIES = (JSON, PACKED, NPY)


@dataclass(frozen=True, slots=True)
class Codes:
    """Code grids as they came, checked against the model that has their code space.

    Attributes:
        model: which will decode them.
        grids: by position in the request; an error where a grid is wrong.
        precision: what they were made in, as far as the form says.
    """

    model: Model
    grids: Sequence[tuple[int, CodeGrid | CodedGrid | TesseraError]]
    precision: str


async def read_body(request: Request, max_bytes: int, hold: Callable[[int], None]) -> bytes:
    """Read a body, counting while it arrives.

    Args:
        request: whose body has not been read.
        max_bytes: of the body.
        hold: told how many more bytes are held; may refuse by raising.

    Raises:
        BodyTooLarge: declared or turned out to be too large.
        UnsupportedMediaType: compressed: it could unfold to anything.
        ClientDisconnect: the client left.
    """
    # A header may come in several lines, which mean one list.
    encoding = ", ".join(request.headers.getlist("content-encoding")).strip().lower()
    if encoding not in {"", "identity"}:
        raise UnsupportedMediaType(
            "compressed bodies are not read: send it without Content-Encoding"
        )
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal():
        raise MalformedRequest("Content-Length is not a number")
    if int(declared) > max_bytes:
        raise _too_large(max_bytes)
    chunks = []
    total = 0
    async for chunk in request.stream():
        total += len(chunk)
        if total > max_bytes:
            raise _too_large(max_bytes)
        if chunk:
            hold(len(chunk))
            chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _too_large(max_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body is larger than {max_bytes} bytes (TESSERA_MAX_BODY_BYTES)")


def media_type(content_type: str) -> str:
    """The media type that the header names: lower case, without parameters."""
    return content_type.partition(";")[0].strip().lower()


# --- images --------------------------------------------------------------------------------


def read_uploads(body: bytes, content_type: str, limits: Limits) -> list[ImageInput]:
    """The images of a body, at least one.

    Args:
        body: all of it.
        content_type: of the request, with its parameters.
        limits: of the request.

    Raises:
        UnsupportedMediaType: the media type is not one that images come in.
        MalformedRequest: the body isn't what its type says, or holds no image.
        TooManyImages: more than the limit.
        ImageTooLarge, ImageCorrupt: an npy array of too large or no images.
    """
    kind = media_type(content_type)
    if kind in RAW_IMAGES:
        uploads = [ImageInput(body)] if body else []
    elif kind == MULTIPART:
        files = read_files(body, content_type, max_files=limits.images)
        uploads = [ImageInput(content, name) for name, content in files]
    elif kind == JSON:
        uploads = _uploads_of_json(json_object(body), limits)
    elif kind == NPY:
        images = read_npy_images(body, max_pixels=limits.pixels, max_images=limits.images)
        uploads = [ImageInput(pixels) for pixels in images]
    else:
        raise UnsupportedMediaType(f"images come as {', '.join(IMAGE_BODIES)}")
    if not uploads:
        raise MalformedRequest("the request holds no image")
    return uploads


def _uploads_of_json(values: dict[str, Any], limits: Limits) -> list[ImageInput]:
    images = values.get("images")
    if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
        raise MalformedRequest('the JSON body must be {"images": ["<base64 or data: URI>", …]}')
    if len(images) > limits.images:
        raise TooManyImages(
            f"{len(images)} images; the limit is {limits.images} (TESSERA_MAX_IMAGES)"
        )
    return [ImageInput(image) for image in images]


def json_object(body: bytes) -> dict[str, Any]:
    """A body that must be a JSON object.

    Raises:
        MalformedRequest: it is not.
    """
    try:
        values = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedRequest("the body is not valid JSON") from error
    if not isinstance(values, dict):
        raise MalformedRequest("the body is not a JSON object")
    return values


# --- codes ---------------------------------------------------------------------------------


def holds_codes(body: bytes, content_type: str) -> bool:
    """Whether a body that may hold images or codes holds codes.

    JSON with `images` and npy of uint8 are images; other JSON and npy are codes.

    Raises:
        MalformedRequest: JSON or npy that can't be read.
    """
    kind = media_type(content_type)
    if kind == PACKED:
        return True
    if kind == NPY:
        return read_npy(body).dtype != np.uint8
    return kind == JSON and "images" not in json_object(body)


def read_codes(
    body: bytes, content_type: str, models: Models, name: str | None, limits: Limits
) -> Codes:
    """The code grids of a body, at least one, in any form that encoding answers with.

    Args:
        body: all of it.
        content_type: of the request.
        models: among which the codes' space is looked up.
        name: the model that the request names; npy arrays need it, having no code space.
        limits: of the request.

    Raises:
        UnsupportedMediaType: the media type is not one that codes come in.
        MalformedRequest: the body isn't what its type says, or holds no codes.
        CodeSpaceMismatch: no loaded model, or not the named one, has the codes' space.
        PriorNotFound: the codes are coded with a prior that no such model has.
        CodesInvalid: a whole npy or packed body is wrong; of JSON, single items are.
        TooManyImages, ImageTooLarge: a limit was passed.
    """
    kind = media_type(content_type)
    if kind == PACKED:
        file = read_tess(body, max_images=limits.images, max_pixels=limits.pixels)
        prior = file.grids[0].prior if isinstance(file, CodedFile) else None
        model = models.of_code_space(file.code_space, name, prior)
        manifest = model.manifest
        if (file.codebook_size, file.stride) != (manifest.codebook_size, manifest.stride):
            raise CodesInvalid("the codebook size or stride isn't that of their code space")
        return Codes(model, list(enumerate(file.grids)), file.precision)
    if kind == NPY:
        if name is None:
            raise MalformedRequest("an npy array doesn't say whose codes it holds: add ?model=")
        model = models.get(name)
        grids = grids_from_npy(
            body,
            codebook_size=model.manifest.codebook_size,
            stride=model.manifest.stride,
            max_images=limits.images,
            max_pixels=limits.pixels,
        )
        return Codes(model, list(enumerate(grids)), "unknown")
    if kind == JSON:
        return _codes_of_json(json_object(body), models, name, limits)
    raise UnsupportedMediaType(f"codes come as {', '.join(CODE_BODIES)}")


def _codes_of_json(
    values: dict[str, Any], models: Models, name: str | None, limits: Limits
) -> Codes:
    code_space, items = values.get("code_space"), values.get("data")
    if not isinstance(code_space, str) or not isinstance(items, list):
        raise MalformedRequest(
            'the JSON body must be {"code_space": "…", "data": [{"codes": [[…], …]}, …]}'
        )
    check_count(len(items), limits.images)
    model = models.of_code_space(code_space, name)
    grids = [
        (index, _grid_of_item(item, model, limits))
        for index, item in enumerate(items)
        # What encoding couldn't do is passed over, so that its answer can be sent on unchanged.
        if not (isinstance(item, dict) and "error" in item and "codes" not in item)
    ]
    if not grids:
        raise MalformedRequest("the request holds no codes")
    precision = values.get("precision")
    return Codes(model, grids, precision if isinstance(precision, str) else "unknown")


def _grid_of_item(item: Any, model: Model, limits: Limits) -> CodeGrid | TesseraError:
    try:
        if not isinstance(item, dict):
            raise CodesInvalid("an item must be an object with codes")
        name = item.get("name")
        return grid_from_rows(
            item.get("codes"),
            width=_side(item, "width"),
            height=_side(item, "height"),
            name=plain_name(name) if isinstance(name, str) else None,
            codebook_size=model.manifest.codebook_size,
            stride=model.manifest.stride,
            max_pixels=limits.pixels,
        )
    except TesseraError as error:
        return error


def _side(item: dict[str, Any], name: str) -> int | None:
    side = item.get(name)
    if side is not None and type(side) is not int:
        raise CodesInvalid(f"{name} must be a whole number of pixels")
    return side
