"""A judged image file → uint8 RGB `[h, w, 3]`.

Whatever a file holds becomes 8-bit RGB the same way everywhere: the EXIF orientation is applied,
transparency is laid over white, 16-bit samples are scaled down (never clipped), grey, palette,
CMYK, YCbCr and Lab are converted, and of an animation or a multi-page file the first picture is
taken. Colour profiles are ignored: samples are taken as sRGB.
"""

from __future__ import annotations

import ctypes
import io
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, _imaging

from imaging.completeness import load_jpeg
from imaging.errors import CorruptImage, ImageError
from imaging.resize import Fit, resize_image, whole_size

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from imaging.headers import ImageFile

# Pillow warns above 89 megapixels and fails above 179, whatever limit is configured here, and
# the warning fails too where warnings are errors. Sizes are judged by `inspect_image` before Pillow
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


@dataclass(frozen=True, slots=True, eq=False)
class DecodedImage:
    """A picture, decoded.

    Attributes:
        pixels: RGB uint8 `[h, w, 3]`, upright.
        warnings: what of the picture may look wrong although it was decoded as it stands, each a
            sentence for people; none of most.
    """

    pixels: NDArray[np.uint8]
    warnings: tuple[str, ...] = ()


def decode_image(
    file: ImageFile, size: tuple[int, int] | None = None, fit: Fit = "cover"
) -> DecodedImage:
    """Decode the picture of a file that `inspect_image` has judged.

    Args:
        file: as `imaging.headers.inspect_image` returns it.
        size: `(width, height)` in pixels to resize to, as `resize` does; a JPEG much larger than
            that is decoded at 1/2, 1/4 or 1/8 of its size, which is several times faster.
        fit: how `size` is filled, as in `resize`.

    Raises:
        CorruptImage: the image is truncated, broken, or hostile.
    """
    try:
        image = _decode(file, size, fit)
    except ImageError:
        raise
    except Exception as error:
        # Decoders fail with whatever their parsing trips over: OSError, SyntaxError, ValueError,
        # struct.error, EOFError, TypeError, ZeroDivisionError, MemoryError … To the caller they
        # are all one thing. The message is ours, since Pillow's may quote the file.
        raise CorruptImage(f"the {file.format} image is truncated or broken") from error
    return DecodedImage(np.asarray(image if size is None else resize_image(image, size, fit)))


def _decode(file: ImageFile, size: tuple[int, int] | None, fit: Fit) -> Image.Image:
    def prepare(image: Image.Image) -> None:
        if image.size != (file.width, file.height):
            # Pillow reads another size than was judged: the file is made to fool one of us.
            raise CorruptImage(f"the {file.format} header contradicts itself")
        if size is not None and file.format == "JPEG":
            # Twice the target leaves Lanczos all it needs: the result differs from that of a full
            # decode by less than JPEG's own error.
            width, height = whole_size(file.displayed_size, size, fit)
            image.draft(None, file.turned((2 * width, 2 * height)))

    if file.format == "JPEG":
        picture = _rgb_over_white(load_jpeg(file.data, file.completeness, prepare), file)
    else:
        # `formats` keeps every other plugin, Ghostscript's among them, away from the bytes.
        with Image.open(io.BytesIO(file.data), formats=(file.format,)) as image:
            prepare(image)
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
        raise CorruptImage("the image has samples of more than 16 bits")
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
