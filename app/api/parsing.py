"""Request bodies, told apart by `Content-Type`: images, or code grids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from app.api.media_types import (
    CODE_BODIES,
    IMAGE_BODIES,
    JSON,
    MULTIPART,
    NPY,
    RAW_IMAGE,
    described,
    kind_of_body,
)
from app.api.multipart import plain_name, read_files
from app.codecs.code_file import CodedFile, CodedGrid, stated_precision
from app.codecs.grids import CodeGrid, check_count, grid_from_rows, grids_from_npy
from app.codecs.npy import read_npy, read_npy_images
from app.codecs.tess import MEDIA_TYPE as PACKED
from app.codecs.tess import read_tess
from app.errors import (
    CodesInvalid,
    MalformedRequest,
    TesseraError,
    TooManyImages,
    UnsupportedMediaType,
)
from app.service.preprocessing import ImageInput, Limits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.codecs.code_file import Precision
    from app.runtime.model import Model
    from app.runtime.registry import Models

_NO_IMAGE = "the request holds no image"


@dataclass(frozen=True, slots=True)
class Images:
    """Images as they were sent, and the model that they are for.

    Attributes:
        model: the model that the request names, or the default one.
        inputs: the images, in their order.
    """

    model: Model
    inputs: list[ImageInput]

    def __len__(self) -> int:
        """How many images there are."""
        return len(self.inputs)


@dataclass(frozen=True, slots=True)
class Codes:
    """Code grids, checked against the model that has their code space.

    Attributes:
        model: the model that has their code space.
        grids: each grid with its position in the request; an error in place of a wrong one.
        precision: precision that the codes were made in, as far as the body says.
    """

    model: Model
    grids: Sequence[tuple[int, CodeGrid | CodedGrid | TesseraError]]
    precision: Precision

    def __len__(self) -> int:
        """How many grids there are."""
        return len(self.grids)


# --- images --------------------------------------------------------------------------------


def parse_images(body: bytes, content_type: str, limits: Limits) -> list[ImageInput]:
    """The images of a body, at least one.

    Args:
        body: all of it.
        content_type: the request's `Content-Type`, with its parameters.
        limits: limits of one request.

    Raises:
        UnsupportedMediaType: the media type is not one that images come in.
        MalformedRequest: the body isn't what its type says, or holds no image.
        TooManyImages: more than the limit.
        ImageTooLarge, ImageCorrupt: an npy array of too large or no images.
    """
    kind = kind_of_body(content_type, body)
    if kind == RAW_IMAGE:
        images = [ImageInput(body)] if body else []
    elif kind == MULTIPART:
        files = read_files(body, content_type, max_files=limits.images)
        images = [ImageInput(content, name) for name, content in files]
    elif kind == JSON:
        images = _images_of_json(json_object(body), limits)
    elif kind == NPY:
        arrays = read_npy_images(body, max_pixels=limits.pixels, max_images=limits.images)
        images = [ImageInput(pixels) for pixels in arrays]
    else:
        raise UnsupportedMediaType(
            f"images come as {', '.join(IMAGE_BODIES)}; {described(content_type)}"
        )
    if not images:
        raise MalformedRequest(_NO_IMAGE)
    return images


def _images_of_json(values: dict[str, Any], limits: Limits) -> list[ImageInput]:
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
        # Some tools begin text with a byte order mark; RFC 8259 lets parsers ignore it.
        values = orjson.loads(body.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError as error:
        raise MalformedRequest("the body is not valid JSON") from error
    if not isinstance(values, dict):
        raise MalformedRequest("the body is not a JSON object")
    return values


# --- codes ---------------------------------------------------------------------------------


def parse_codes(
    body: bytes, content_type: str, models: Models, name: str | None, limits: Limits
) -> Codes:
    """The code grids of a body, at least one, in any form that encoding answers with.

    Args:
        body: all of it.
        content_type: the request's `Content-Type`.
        models: the loaded models, one of which has the codes' space.
        name: the model that the request names; npy arrays need it, having no code space.
        limits: limits of one request.

    Raises:
        UnsupportedMediaType: the media type is not one that codes come in.
        MalformedRequest: the body isn't what its type says, or holds no codes.
        CodeSpaceMismatch: no loaded model, or not the named one, has the codes' space.
        PriorNotFound: the codes are coded with a prior that no such model has.
        CodesInvalid: a whole npy or packed body is wrong; of JSON, single items are.
        TooManyImages, ImageTooLarge: a limit was passed.
    """
    kind = kind_of_body(content_type, body)
    if kind == PACKED:
        file = read_tess(body, max_images=limits.images, max_pixels=limits.pixels)
        prior = file.grids[0].prior if isinstance(file, CodedFile) else None
        model = models.of_code_space(file.code_space, name, prior)
        manifest = model.manifest
        sizes = (file.codebook_size, *file.residual_sizes)
        there = manifest.codebook_sizes[: len(sizes)]
        if (sizes, file.stride) != (there, manifest.stride):
            raise CodesInvalid("the codebook sizes or stride aren't those of their code space")
        return Codes(model, list(enumerate(file.grids)), file.precision)
    if kind == NPY:
        if name is None:
            raise MalformedRequest("an npy array doesn't say whose codes it holds: add ?model=")
        model = models.get(name)
        grids = grids_from_npy(
            body,
            codebook_size=model.manifest.codebook_size,
            residual_sizes=model.manifest.residual_sizes,
            stride=model.manifest.stride,
            max_images=limits.images,
            max_pixels=limits.pixels,
        )
        return Codes(model, list(enumerate(grids)), "unknown")
    if kind == JSON:
        return _codes_of_json(json_object(body), models, name, limits)
    raise UnsupportedMediaType(f"codes come as {', '.join(CODE_BODIES)}; {described(content_type)}")


def parse_images_or_codes(
    body: bytes, content_type: str, models: Models, name: str | None, limits: Limits
) -> Images | Codes:
    """What a body holds: code grids, or images for the model that the request names.

    JSON with `images` and npy of uint8 are images; other JSON and npy are codes.

    Args:
        body: all of it.
        content_type: the request's `Content-Type`.
        models: the loaded models.
        name: the model that the request names.
        limits: limits of one request.

    Raises:
        ModelNotFound: no such model is loaded.
        TesseraError: what `parse_images` and `parse_codes` refuse.
    """
    kind = kind_of_body(content_type, body)
    if kind == JSON:
        values = json_object(body)
        if "images" not in values:
            return _codes_of_json(values, models, name, limits)
        model = models.get(name)
        images = _images_of_json(values, limits)
        if not images:
            raise MalformedRequest(_NO_IMAGE)
        return Images(model, images)
    if kind == PACKED or (kind == NPY and read_npy(body).dtype != np.uint8):
        return parse_codes(body, content_type, models, name, limits)
    return Images(models.get(name), parse_images(body, content_type, limits))


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
        # Items that encoding failed on are skipped, so that its answer can be sent on unchanged.
        if not (isinstance(item, dict) and "error" in item and "codes" not in item)
    ]
    if not grids:
        raise MalformedRequest("the request holds no codes")
    precision = values.get("precision")
    return Codes(model, grids, stated_precision(precision))


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
            residual_sizes=model.manifest.residual_sizes,
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
