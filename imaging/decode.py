"""Untrusted bytes → uint8 RGB `[h, w, 3]`, and uint8 RGB → PNG, WebP, JPEG; every image limit.

Whatever a file holds becomes 8-bit RGB the same way everywhere: the EXIF orientation is applied,
transparency is laid over white, 16-bit samples are scaled down (never clipped), grey, palette,
CMYK, YCbCr and Lab are converted, and of an animation or a multi-page file the first picture is
taken. Colour profiles are ignored: samples are taken as sRGB.
"""

from __future__ import annotations

import ctypes
import io
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image, _imaging

from app.codecs.npy import read_npy
from app.errors import (
    ImageCorrupt,
    ImageTooLarge,
    InvalidParameter,
    MalformedRequest,
    NotAcceptable,
    TesseraError,
    TooManyImages,
)
from imaging.headers import ImageFile, open_image_file
from imaging.resize import MAX_SIDE, Fit, resize_image, whole_size

if TYPE_CHECKING:
    from numpy.typing import NDArray

MediaType = Literal["image/png", "image/webp", "image/jpeg"]

# Pillow warns above 89 megapixels and fails above 179, whatever limit is configured here, and
# the warning fails too where warnings are errors. Sizes are judged by `_check_size` before Pillow
# sees any byte.
Image.MAX_IMAGE_PIXELS = None

# libtiff writes what it thinks of a file to standard error, past every logger, and for a fax up
# to a line a row: a stranger could fill a disk. Pillow gives no way to stop it, so it is told
# here. Symbols are looked up through Pillow's own module; where libtiff is inside it, none is
# found, and it goes on writing.
with suppress(OSError, AttributeError):
    _libtiff = ctypes.CDLL(_imaging.__file__)
    for _set_handler in (_libtiff.TIFFSetErrorHandler, _libtiff.TIFFSetWarningHandler):
        _set_handler.argtypes = [ctypes.c_void_p]
        _set_handler.restype = ctypes.c_void_p
        _set_handler(None)

_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode_image(
    data: bytes, *, max_pixels: int, size: tuple[int, int] | None = None, fit: Fit = "cover"
) -> NDArray[np.uint8]:
    """Decode one PNG, JPEG, WebP, GIF, BMP or TIFF image, told apart by content.

    Args:
        data: the file as uploaded; nothing about it is trusted.
        max_pixels: most pixels (width × height) of the stored image, judged from the header.
        size: `(width, height)` in pixels to resize to, as `resize` does; a JPEG much larger than
            that is decoded at 1/2, 1/4 or 1/8 of its size, which is several times faster.
        fit: how `size` is filled, as in `resize`.

    Returns:
        RGB uint8 `[h, w, 3]`, upright.

    Raises:
        MalformedRequest: `data` is empty.
        UnsupportedMediaType: the format is not one of the six, or a TIFF variant not supported.
        ImageTooLarge: more than `max_pixels`, or a side above 65,535 pixels.
        ImageCorrupt: the image is truncated, broken, or hostile.
    """
    return decode_opened(open_image(data, max_pixels), size, fit)


def open_image(data: bytes, max_pixels: int) -> ImageFile:
    """Judge an image by its header, as `decode_image` does before it decodes.

    Raises:
        TesseraError: as `decode_image`, as far as the header shows it.
    """
    file = open_image_file(data)
    _check_size(file.width, file.height, max_pixels)
    if file.cut_short:
        raise ImageCorrupt(f"the {file.format} image is truncated: it has fewer bits than blocks")
    return file


def decode_opened(
    file: ImageFile, size: tuple[int, int] | None, fit: Fit = "cover"
) -> NDArray[np.uint8]:
    """Decode what `open_image` has judged, as `decode_image` does.

    Raises:
        ImageCorrupt: the image is truncated, broken, or hostile.
    """
    failure: TesseraError | None = None
    try:
        image = _decode(file, size, fit)
    except TesseraError as error:
        failure = error.with_traceback(None)
    except Exception:  # noqa: BLE001
        # Decoders fail with whatever their parsing trips over: OSError, SyntaxError, ValueError,
        # struct.error, EOFError, TypeError, ZeroDivisionError, MemoryError … To the client they
        # are all one thing. The message is ours, since Pillow's may quote the file.
        failure = ImageCorrupt(f"the {file.format} image is truncated or broken")
    if failure is not None:
        # Raised here, so that it has no cause and no traceback in which the half-decoded picture
        # would live on: an item's failure is kept until its whole request is answered.
        raise failure
    return np.asarray(image if size is None else resize_image(image, size, fit))


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width < 1 or height < 1:
        raise ImageCorrupt("the image has no pixels: its width or height is not positive")
    if max(width, height) > MAX_SIDE:
        raise ImageTooLarge(
            f"the image is {width} × {height} pixels; no side may be above {MAX_SIDE}"
        )
    if width * height > max_pixels:
        raise ImageTooLarge(
            f"the image has {width} × {height} = {width * height} pixels; "
            f"the limit is {max_pixels} (TESSERA_MAX_PIXELS)"
        )


def _decode(file: ImageFile, size: tuple[int, int] | None, fit: Fit) -> Image.Image:
    # `formats` keeps every other plugin, Ghostscript's among them, away from the bytes.
    with Image.open(io.BytesIO(file.data), formats=(file.format,)) as image:
        if image.size != (file.width, file.height):
            # Pillow reads another size than was judged: the file is made to fool one of us.
            raise ImageCorrupt(f"the {file.format} header contradicts itself")
        if size is not None and file.format == "JPEG":
            # Twice the target leaves Lanczos all it needs: the result differs from that of a full
            # decode by less than JPEG's own error.
            width, height = whole_size(_upright(image.size, file), size, fit)
            image.draft(None, _upright((2 * width, 2 * height), file))
        image.load()
        picture = _rgb_over_white(image, file)
    if file.frame is not None:
        # Pillow paints what a GIF's first picture leaves uncovered with its first colour;
        # browsers leave it transparent.
        canvas = Image.new("RGB", picture.size, "white")
        canvas.paste(picture.crop(file.frame), file.frame)
        picture = canvas
    if file.orientation != 1:
        picture = picture.transpose(_TRANSPOSITIONS[file.orientation])
    return picture


def _upright(size: tuple[int, int], file: ImageFile) -> tuple[int, int]:
    return size if file.orientation < 5 else (size[1], size[0])


def _rgb_over_white(image: Image.Image, file: ImageFile) -> Image.Image:
    if image.mode.startswith("I;16"):
        return _grey16_over_white(image, file)
    if image.mode == "La":  # premultiplied, which converts to nothing else
        image = image.convert("LA")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image.getchannel("A"))
        return white
    if image.mode in {"I", "F"}:  # no format brings these here; convert() would clip them
        raise ImageCorrupt("the image has samples of more than 16 bits")
    return image.convert("RGB")


def _grey16_over_white(image: Image.Image, file: ImageFile) -> Image.Image:
    samples = np.asarray(image)
    # The high byte, as Pillow itself reduces 16-bit RGB; convert("L") would clip at 255.
    grey = (samples >> (file.sample_bits - 8)).astype(np.uint8)
    if file.white_is_zero:
        grey = 255 - grey
    transparent = image.info.get("transparency")
    if transparent is not None:
        grey[samples == transparent] = 255
    return Image.fromarray(grey).convert("RGB")


def read_npy_images(data: bytes, *, max_pixels: int, max_images: int) -> list[NDArray[np.uint8]]:
    """Read images from a `.npy` file.

    Args:
        data: uint8 `[h, w, 3]`, one image, or `[n, h, w, 3]`, n images of one size.
        max_pixels: most pixels (width × height) of each image.
        max_images: most images.

    Returns:
        n RGB images, each uint8 `[h, w, 3]`, contiguous.

    Raises:
        MalformedRequest: not a readable `.npy` file, or it holds no image (n = 0).
        ImageCorrupt: readable, but of another dtype or shape.
        TooManyImages: n is above `max_images`.
        ImageTooLarge: more than `max_pixels`, or a side above 65,535 pixels.
    """
    array = read_npy(data)
    if array.dtype != np.uint8:
        raise ImageCorrupt(
            f"the array is {array.dtype.str}, not uint8: scale the samples to 0…255, "
            "then .astype(numpy.uint8)"
        )
    if array.ndim not in {3, 4} or array.shape[-1] != 3:
        raise ImageCorrupt("the array must have the shape [h, w, 3] or [n, h, w, 3]")
    images = array[None] if array.ndim == 3 else array
    n, height, width, _ = images.shape
    if n > max_images:
        raise TooManyImages(
            f"the array holds {n} images; the limit is {max_images} (TESSERA_MAX_IMAGES)"
        )
    if n == 0:
        raise MalformedRequest("the array holds no image: its first axis is 0")
    _check_size(width, height, max_pixels)
    return [np.ascontiguousarray(image) for image in images]


# Of PNG's ways, mean of 8 Kodak photographs (768 × 512, 1153 KiB raw), on one core:
#
#     strategy     level   time     size
#     default        1    35 ms   678 KiB
#     default        6    80 ms   657 KiB    (what zlib takes by default)
#     default        9   174 ms   654 KiB
#     filtered       1    34 ms   678 KiB
#     Huffman only   1    20 ms   695 KiB    (no repeats: bad for flat drawings)
#     run-length     1    24 ms   687 KiB    ← 3× as fast as the default for 5 % more bytes
#
# WebP at quality 90: method 0 14 ms and 107 KiB, 2 22 ms and 101 KiB, 4 (libwebp's default)
# 43 ms and 101 KiB, 6 122 ms and 98 KiB. JPEG takes 2 ms whatever one asks of it.
_PNG_RUN_LENGTH = 3  # zlib's Z_RLE
_WEBP_METHOD = 2

_LONGEST_SIDE = {"image/webp": 16_383, "image/jpeg": 65_500, "image/png": MAX_SIDE}


def encode_image(pixels: NDArray[np.uint8], media_type: MediaType, quality: int = 90) -> bytes:
    """Encode an image.

    Args:
        pixels: RGB uint8 `[h, w, 3]`.
        media_type: `image/png` (lossless), `image/webp` or `image/jpeg` (lossy).
        quality: 1 (worst) … 100 (best) of the lossy two; PNG has none.

    Raises:
        InvalidParameter: `quality` is not within 1…100.
        NotAcceptable: a side is longer than the format allows.
    """
    if not 1 <= quality <= 100:
        raise InvalidParameter("quality must be within 1…100")
    if max(pixels.shape[:2]) > _LONGEST_SIDE[media_type]:
        raise NotAcceptable(
            f"{media_type} allows at most {_LONGEST_SIDE[media_type]} pixels on a side; "
            "ask for image/png"
        )
    image = Image.fromarray(pixels)
    file = io.BytesIO()
    if media_type == "image/png":
        image.save(file, "PNG", compress_level=1, compress_type=_PNG_RUN_LENGTH)
    elif media_type == "image/webp":
        image.save(file, "WEBP", quality=quality, method=_WEBP_METHOD)
    else:
        image.save(file, "JPEG", quality=quality)
    return file.getvalue()
