"""From an image as it was sent to work for the queue: limits, options, and where it is decoded."""

from __future__ import annotations

import base64
import binascii
import math
import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import numpy as np

from app.batching.work import Heavy, Work
from app.codecs.npy import is_npy, read_npy_images
from app.errors import InvalidParameter, MalformedRequest, imaging_errors_translated
from imaging.decode import DecodedImage
from imaging.headers import inspect_image
from imaging.resize import MAX_SIDE, Fit, pad_to_multiple
from imaging.samples import RGB, SampleFormat, check_samples, decode_samples, resized

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from app.runtime.model import Model
    from app.runtime.operations import Operation
    from imaging.image_file import ImageFile

# Images up to this many pixels are decoded in the order in which they come: it takes a
# millisecond or two.
LIGHT_PIXELS = 2**18
# A JPEG file up to this size, in bytes and in pixels, is decoded on the event loop if its request
# has no other image: that takes 0.1 ms of CPU, and handing it to another thread as much again.
_TINY_BYTES = 8 * 1024
TINY_PIXELS = 2**14

# Letters of the URL-safe alphabet (RFC 4648, section 5) to those of the standard one.
_STANDARD_LETTERS = bytes.maketrans(b"-_", b"+/")

_SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may hold.

    Attributes:
        body_bytes: most bytes of its body.
        images: most images or code grids.
        pixels: most pixels of each image.
    """

    body_bytes: int
    images: int
    pixels: int


@dataclass(frozen=True, slots=True)
class ImageInput:
    """An image as it was sent, not yet inspected.

    Attributes:
        content: a file's bytes, which may be those of an array `.npy`, base64 or a data: URI of
            them as text, or pixels `[h, w, channels]`.
        name: the client's name for the image, such as a file name; it is shown, never opened.
    """

    content: bytes | str | NDArray[Any]
    name: str | None = None

    @imaging_errors_translated
    def inspect(self, max_pixels: int) -> ImageFile | NDArray[Any]:
        """Judge the image by its header: an image file of known size, or pixels as they were sent.

        Raises:
            MalformedRequest: the content is empty, or not base64.
            TesseraError: what `inspect_image` refuses.
        """
        if isinstance(self.content, np.ndarray):
            return self.content
        data = self.content if isinstance(self.content, bytes) else _from_base64(self.content)
        if is_npy(data):
            return read_npy_images(data, max_pixels=max_pixels, max_images=1)[0]
        return inspect_image(data, max_pixels=max_pixels)


@dataclass(frozen=True, slots=True)
class PreprocessingOptions:
    """How the images of a request become model input.

    Attributes:
        max_pixels: most pixels of an image as it is stored.
        size: `(width, height)` in pixels to resize to; None keeps the image's own size.
        fit: how `size` is filled.
        sample_bits: bits, 9…16, that samples stored in 16 really have; None for what files say.
    """

    max_pixels: int
    size: tuple[int, int] | None = None
    fit: Fit = "cover"
    sample_bits: int | None = None


def parse_size(text: str, *, max_pixels: int) -> tuple[int, int]:
    """Read a `size` parameter, `WxH`, such as `256x192`.

    Returns:
        `(width, height)` in pixels, each 1…65,535.

    Raises:
        InvalidParameter: not of that form, or more than `max_pixels` pixels.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise InvalidParameter("size must be WxH in pixels, such as 256x192")
    width, height = int(match[1]), int(match[2])
    if max(width, height) > MAX_SIDE or width * height > max_pixels:
        raise InvalidParameter(
            f"size asks for {width * height} pixels; the limit is {max_pixels} "
            f"(TESSERA_MAX_PIXELS), and {MAX_SIDE} on a side"
        )
    return width, height


def is_small_jpeg(image: ImageInput) -> bool:
    """Whether it is a JPEG of so few bytes that it may be decoded on the event loop."""
    content = image.content
    return (
        isinstance(content, bytes)
        and len(content) <= _TINY_BYTES
        and content.startswith(b"\xff\xd8")
    )


@imaging_errors_translated
def decode(
    inspected: ImageFile | NDArray[Any],
    options: PreprocessingOptions,
    samples: SampleFormat = RGB,
) -> DecodedImage:
    """Decode what `ImageInput.inspect` returned: upright, resized.

    Args:
        inspected: the image.
        options: how it becomes model input.
        samples: what the model's pixels are.

    Raises:
        ImageCorrupt: the image is truncated or broken, or an array of another kind.
        UnsupportedMediaType: `sample_bits` can't be honoured for it, or no file has so many
            channels.
    """
    size, fit = options.size, options.fit
    if isinstance(inspected, np.ndarray):
        pixels = check_samples(inspected, samples)
        return DecodedImage(pixels if size is None else resized(pixels, size, fit, samples))
    return decode_samples(inspected, samples, size, fit, sample_bits=options.sample_bits)


def preprocess(
    model: Model,
    operation: Operation,
    image: ImageInput,
    options: PreprocessingOptions,
    light_pixels: int,
) -> Work | Heavy:
    """An image as work for the queue: decoded now, or when its turn comes if it is heavy.

    Args:
        model: the model whose stride the image is padded to.
        operation: what the model is to do with it.
        image: the image as it was sent.
        options: how it becomes model input.
        light_pixels: an image of more pixels, as stored or as wanted, is heavy.

    Raises:
        TesseraError: what `ImageInput.inspect` and `decode` refuse.
    """
    inspected = image.inspect(options.max_pixels)
    finish = partial(_decoded_work, model, operation, inspected, options)
    if isinstance(inspected, np.ndarray):
        cost = math.prod(inspected.shape[:2])
    else:
        cost = inspected.width * inspected.height
    weight = math.prod(options.size) if options.size else cost
    return finish() if max(cost, weight) <= light_pixels else Heavy(weight, cost, finish)


def _decoded_work(
    model: Model,
    operation: Operation,
    inspected: ImageFile | NDArray[Any],
    options: PreprocessingOptions,
) -> Work:
    decoded = decode(inspected, options, model.samples)
    padded = pad_to_multiple(decoded.pixels, model.manifest.stride)
    height, width, _ = padded.shape
    return Work((model, operation, padded.shape), padded, height * width, original=decoded)


def _from_base64(text: str) -> bytes:
    """Decode base64 in any of its forms: wrapped, URL-safe, unpadded, percent-encoded in a URI."""
    if text[:5].lower() == "data:":
        head, comma, text = text.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            raise MalformedRequest("a data: URI must hold base64")
        text = unquote(text) if "%" in text else text
    elif text[:8].lower().startswith(("http:", "https:", "file:", "ftp:", "s3:")):
        raise MalformedRequest("addresses are never fetched: send the image itself, as base64")
    try:
        letters = text.encode("ascii").translate(_STANDARD_LETTERS, b" \t\r\n").rstrip(b"=")
        return base64.b64decode(letters + b"=" * (-len(letters) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedRequest("an image is not valid base64") from error
