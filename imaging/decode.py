"""A judged image file → uint8 RGB `[h, w, 3]`.

Whatever a file holds becomes 8-bit RGB the same way everywhere: the EXIF orientation is applied,
transparency is laid over white, 16-bit samples are scaled down (never clipped), grey, palette,
CMYK, YCbCr and Lab are converted, and of an animation or a multi-page file the first picture is
taken. Colours are turned into sRGB where the file has a colour profile, and are sRGB elsewhere.
"""

from __future__ import annotations

import ctypes
import io
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import AvifImagePlugin, Image, _imaging

from imaging.completeness import load_jpeg
from imaging.convert import ImageWarning, rgb_over_white
from imaging.errors import CorruptImage, ImageError
from imaging.resize import Fit, resize_image, whole_size

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from imaging.image_file import ImageFile

# Pillow warns above 89 megapixels and fails above 179, whatever limit is configured here, and
# the warning fails too where warnings are errors. Sizes are judged by `inspect_image` before Pillow
# sees any byte.
Image.MAX_IMAGE_PIXELS = None

# One thread for an image: as many images are decoded at once as there are CPUs.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1

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
        pixels: RGB uint8 `[h, w, 3]`, upright; or samples of another format
            (`imaging.samples`).
        warnings: what may look wrong about it although it was decoded as its file says.
    """

    pixels: NDArray[Any]
    warnings: tuple[ImageWarning, ...] = ()


def decode_image(
    file: ImageFile,
    size: tuple[int, int] | None = None,
    fit: Fit = "cover",
    *,
    sample_bits: int | None = None,
) -> DecodedImage:
    """Decode the picture of a file that `inspect_image` has judged.

    Args:
        file: as `imaging.headers.inspect_image` returns it.
        size: `(width, height)` in pixels to resize to, as `resize` does; a JPEG of three times
            that or more is decoded at 1/2, 1/4 or 1/8 of its size, which is several times faster.
        fit: how `size` is filled, as in `resize`.
        sample_bits: how many bits, 9…16, samples that are stored in 16 really have, such as 12 of
            many cameras and microscopes; larger samples become white. None for what the file
            says. Other pictures don't heed it.

    Raises:
        ValueError: `sample_bits` is not within 9…16.
        UnsupportedFormat: `sample_bits` is given, for a PNG of 16-bit grey with alpha.
        CorruptImage: the image is truncated, broken, or hostile.
    """
    if sample_bits is not None and not 9 <= sample_bits <= 16:
        raise ValueError("sample_bits must be within 9…16")
    failure: ImageError | None = None
    try:
        image, warnings = _decode(file, size, fit, sample_bits)
    except ImageError as error:
        failure = error.with_traceback(None)
        failure.__cause__ = failure.__context__ = None
    except Exception:  # noqa: BLE001
        # Decoders fail with whatever their parsing trips over: OSError, SyntaxError, ValueError,
        # struct.error, EOFError, TypeError, ZeroDivisionError, MemoryError … To the caller they
        # are all one thing. The message is ours, since Pillow's may quote the file.
        failure = CorruptImage(f"the {file.format} image is truncated or broken")
    if failure is not None:
        # Raised here, so that it has no cause and no traceback in which the half-decoded picture
        # would live on: two threads that fail at once would hold twice as much.
        raise failure
    pixels = np.asarray(image if size is None else resize_image(image, size, fit))
    return DecodedImage(pixels, warnings)


def _decode(
    file: ImageFile, size: tuple[int, int] | None, fit: Fit, sample_bits: int | None
) -> tuple[Image.Image, tuple[ImageWarning, ...]]:
    def prepare(image: Image.Image) -> None:
        if image.size != (file.width, file.height):
            # Pillow reads another size than was judged: the file is made to fool one of us.
            raise CorruptImage(f"the {file.format} header contradicts itself")
        if size is not None and file.format == "JPEG":
            # libjpeg leaves the high frequencies of each block out. At half as large again as the
            # target, Lanczos has all it needs: 96 of 100 codes are those of a full decode.
            width, height = whole_size(file.displayed_size, size, fit)
            image.draft(None, file.turned((width * 3 // 2, height * 3 // 2)))

    if file.format == "JPEG":
        loaded = load_jpeg(file.data, file.completeness, prepare)
        picture, warnings = rgb_over_white(loaded, file, sample_bits)
    else:
        # `formats` keeps every other plugin, Ghostscript's among them, away from the bytes.
        with Image.open(io.BytesIO(file.data), formats=(file.format,)) as image:
            prepare(image)
            image.load()
            if image.size != (file.width, file.height):  # HEIC's is known once it is decoded
                raise CorruptImage(f"the {file.format} header contradicts itself")
            picture, warnings = rgb_over_white(image, file, sample_bits)
    if file.frame is not None:
        # Pillow paints what a GIF's first picture leaves uncovered with its first colour;
        # browsers leave it transparent.
        canvas = Image.new("RGB", picture.size, "white")
        canvas.paste(picture.crop(file.frame), file.frame)
        picture = canvas
    if file.orientation != 1:
        picture = picture.transpose(_TRANSPOSITIONS[file.orientation])
    return picture, warnings
