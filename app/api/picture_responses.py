"""Answers that are images: one as itself, several as JSON, ZIP or npy."""

from __future__ import annotations

import base64
import io
import math
import zipfile
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from starlette.responses import Response

from app.api.media_types import JSON, NPY
from app.api.negotiation import choose
from app.api.responses import entry_of, json_response, whole
from app.codecs.grids import grid_shape
from app.codecs.npy import write_npy
from app.errors import NotAcceptable, TesseraError, imaging_errors_translated
from app.service.results import Item, Reconstruction
from imaging.encode import MediaType, encode_image
from imaging.samples import to_8_bits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from app.runtime.model import Model
    from imaging.samples import SampleFormat

ZIP = "application/zip"
# Of models whose samples have more than 8 bits.
DEEP_PNG = "image/png;depth=16"
PICTURES: tuple[MediaType, ...] = ("image/png", "image/webp", "image/jpeg")
ONE_PICTURE_FORMS = (*PICTURES, NPY, JSON, ZIP)
MANY_PICTURES_FORMS = (JSON, ZIP, NPY)
_SUFFIXES = {"image/png": "png", "image/webp": "webp", "image/jpeg": "jpg"}

_encoded = imaging_errors_translated(encode_image)


def picture_form(accept: str | None, n: int, samples: SampleFormat) -> str:
    """The form in which n images are answered.

    Args:
        accept: the request's `Accept` header.
        n: how many.
        samples: what their pixels are: of channels that no picture has there are arrays alone.

    Raises:
        NotAcceptable: none that they exist in is acceptable.
    """
    if samples.channels not in (1, 3, 4):
        return choose(accept, (NPY,))
    return choose(accept, (*ONE_PICTURE_FORMS, DEEP_PNG) if n == 1 else MANY_PICTURES_FORMS)


def pictures_reply(
    accept: str | None,
    items: Sequence[Item[NDArray[Any]]],
    samples: SampleFormat,
    quality: int,
    measures: Mapping[int, tuple[float, float]] | None = None,
) -> Response:
    """Images: one as itself, several as JSON, ZIP or npy.

    Where `Accept` names an image type as well as JSON or ZIP, the images inside are of that type;
    else they are PNG. Pictures have 8 bits a sample, but for PNG where `Accept` says `depth=16` and
    the model's samples have more; npy has them as they are.

    Args:
        accept: the request's `Accept` header.
        items: pixels `[h, w, channels]` each.
        samples: what the pixels are.
        quality: quality of WebP and JPEG, 1…100.
        measures: by index, PSNR in dB and bits per pixel, for the items of JSON.

    Raises:
        NotAcceptable: no such form, npy of images that differ in size, or an image too large for
            its type.
        TesseraError: of a failed item, in a form that can't hold it.
    """
    form = picture_form(accept, len(items), samples)
    if form in PICTURES or form == DEEP_PNG:
        file = _file(whole(items)[0], form, quality, samples)
        return Response(file, media_type=_media_type(form))
    if form == NPY:
        return Response(_stacked(whole(items), "images"), media_type=NPY)
    inner = _inner(accept)
    if form == ZIP:
        return Response(_zipped(items, inner, quality, samples), media_type=ZIP)
    data = [_picture_entry(item, inner, quality, samples) for item in items]
    for entry in data:
        if measures is not None and entry["index"] in measures:
            psnr, rate = measures[entry["index"]]
            # JSON has no infinity: equal images have a PSNR of null.
            entry |= {"psnr": psnr if math.isfinite(psnr) else None, "bits_per_pixel": rate}
    return json_response({"data": data})


def _inner(accept: str | None) -> str:
    try:
        return choose(accept, (*PICTURES, DEEP_PNG))
    except NotAcceptable:
        return PICTURES[0]


def _media_type(form: str) -> MediaType:
    return cast("MediaType", form.partition(";")[0])


def _file(pixels: NDArray[Any], form: str, quality: int, samples: SampleFormat) -> bytes:
    if form != DEEP_PNG:
        pixels = to_8_bits(pixels, samples.maximum)
    return _encoded(pixels, _media_type(form), quality)


def _picture_entry(
    item: Item[NDArray[Any]], form: str, quality: int, samples: SampleFormat
) -> dict[str, Any]:
    entry = entry_of(item)
    if isinstance(item.value, TesseraError):
        return entry
    height, width, _ = item.value.shape
    file = _file(item.value, form, quality, samples)
    return entry | {
        "width": width,
        "height": height,
        "media_type": _media_type(form),
        "image": base64.b64encode(file).decode(),
    }


def _zipped(
    items: Sequence[Item[NDArray[Any]]], form: str, quality: int, samples: SampleFormat
) -> bytes:
    """A ZIP of the images, stored, named by their index: `00.png`, `01.png` and so on."""
    archive = io.BytesIO()
    pixels = whole(items)
    digits = len(str(len(pixels) - 1))
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
        for item, image in zip(items, pixels, strict=True):
            # A date of its own, not of the day, so that equal answers are equal bytes.
            suffix = _SUFFIXES[_media_type(form)]
            entry = zipfile.ZipInfo(f"{item.index:0{digits}}.{suffix}")
            file.writestr(entry, _file(image, form, quality, samples))
    return archive.getvalue()


def _stacked(arrays: list[NDArray[Any]], what: str) -> bytes:
    if len({array.shape for array in arrays}) != 1:
        raise NotAcceptable(f"one npy array holds only {what} of one size: ask for another form")
    return write_npy(np.stack(arrays))


def reconstructions_reply(
    accept: str | None, model: Model, items: Sequence[Item[Reconstruction]], quality: int
) -> Response:
    """Reconstructed images, as `pictures_reply` gives them, with PSNR and bits per pixel.

    Of one image the measures are headers; of several, in JSON, fields of each item.
    """
    pictures = [
        Item(
            item.index,
            item.name,
            item.value if isinstance(item.value, TesseraError) else item.value.pixels,
            item.warnings,
        )
        for item in items
    ]
    measures = {
        item.index: measure(item.value, model)
        for item in items
        if not isinstance(item.value, TesseraError)
    }
    reply = pictures_reply(accept, pictures, model.samples, quality, measures)
    reply.headers["tessera-code-space"] = model.manifest.code_space
    if len(items) == 1 and not isinstance(items[0].value, TesseraError):
        psnr, rate = measures[items[0].index]
        reply.headers["tessera-psnr"] = f"{psnr:.4f}"
        reply.headers["tessera-bits-per-pixel"] = f"{rate:.6f}"
    return reply


def measure(value: Reconstruction, model: Model) -> tuple[float, float]:
    """PSNR in dB over all samples (infinite if equal), and bits of codes per pixel."""
    height, width, _ = value.original.shape
    difference = value.original.astype(np.float32) - value.pixels
    mse = float(np.mean(np.square(difference), dtype=np.float64))
    psnr = math.inf if mse == 0 else 10 * math.log10(model.manifest.sample_maximum**2 / mse)
    patches = math.prod(grid_shape(width, height, model.manifest.stride))
    bits = sum(model.manifest.stage_bits[: value.stages])
    return psnr, patches * bits / (width * height)
