"""Any of Pillow's modes → RGB over white: samples of 16 bits, transparency, colour profiles."""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from imaging.errors import CorruptImage, UnsupportedFormat
from imaging.profiles import UnusableProfile, to_srgb

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from imaging.image_file import ImageFile

# A camera's samples of 12 bits that were put into 16 without being scaled.
_LOW_MAXIMUM = 4095

# Worked on at a time, so that no copy of a whole picture in 16 bits is made.
_ROWS = 64


@dataclass(frozen=True, slots=True)
class ImageWarning:
    """What may look wrong about a picture although it was decoded as its file says.

    Attributes:
        code: stable, for programs.
        detail: a sentence for people.
    """

    code: Literal["dark_samples", "profile_ignored"]
    detail: str


def rgb_over_white(
    image: Image.Image, file: ImageFile, sample_bits: int | None
) -> tuple[Image.Image, tuple[ImageWarning, ...]]:
    """Convert a decoded picture.

    Args:
        image: as Pillow decodes it.
        file: what it was decoded from.
        sample_bits: how many of 16 bits are in use; None for all of them.

    Raises:
        CorruptImage: samples have more than 16 bits.
        UnsupportedFormat: `sample_bits` is given and can't be honoured for this kind of picture.
    """
    warnings: list[ImageWarning] = []
    if file.sample_bits > 8:
        image = _to_8_bits(image, file, sample_bits, warnings)
    if image.mode == "La":  # premultiplied, which converts to nothing else
        image = image.convert("LA")
    if image.mode in {"I", "F"}:  # no format brings these here; convert() would clip them
        raise CorruptImage("the image has samples of more than 16 bits")
    if file.format == "BMP" and image.mode == "RGBA" and not image.getchannel("A").getbbox():
        # Programs that draw into 32-bit bitmaps often never fill the alpha plane.
        image = image.convert("RGB")
    if file.profile is not None:
        try:
            image = to_srgb(image, file.profile)
        except UnusableProfile as error:
            detail = f"the colour profile is ignored: {error}; colours are taken as sRGB"
            warnings.append(ImageWarning("profile_ignored", detail))
    elif file.cicp is not None and not _is_like_srgb(*file.cicp):
        detail = "its colours or brightness are not those of sRGB (CICP {}/{}), but taken as such"
        warnings.append(ImageWarning("profile_ignored", detail.format(*file.cicp)))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image.getchannel("A"))
        return white, tuple(warnings)
    if image.mode != "RGB":  # else it would be copied
        image = image.convert("RGB")
    return image, tuple(warnings)


def _is_like_srgb(primaries: int, transfer: int) -> bool:
    """Whether CICP says sRGB, nothing, or what viewers show as sRGB: video of ordinary range."""
    return primaries in {1, 2, 5, 6, 7} and transfer in {1, 2, 4, 5, 6, 7, 13, 14, 15}


def _to_8_bits(
    image: Image.Image, file: ImageFile, sample_bits: int | None, warnings: list[ImageWarning]
) -> Image.Image:
    """Reduce samples of more than 8 bits to their high bytes, as Pillow itself does for RGB."""
    grey = image.mode.startswith("I;16")
    if grey:
        # convert("L") would clip at 255.
        samples: NDArray[np.uint16] = np.asarray(image)
        largest = int(samples.max())
    else:
        largest = _largest(image, file)
    if file.sample_bits == 16 and sample_bits is None and 0 < largest <= _LOW_MAXIMUM:
        detail = (
            f"no sample is above {largest} of 65535, so the picture is nearly black: "
            "if its samples have 12 bits, ask for sample_bits=12"
        )
        warnings.append(ImageWarning("dark_samples", detail))
    bits = sample_bits if sample_bits is not None and file.sample_bits == 16 else file.sample_bits
    if grey:
        return _grey(samples, image.info.get("transparency"), bits, white=file.white_is_zero)
    if image.mode in {"RGB", "RGBA"} and (bits != file.sample_bits or file.transparent is not None):
        return _deep_colours(image, file, bits)
    return image


def _deep_colours(image: Image.Image, file: ImageFile, bits: int) -> Image.Image:
    """Scale samples of 16 bits, and find the transparent colour by all of them."""
    try:
        low = low_bytes(file)
    except ValueError as error:
        raise UnsupportedFormat("sample_bits is not honoured for grey with alpha") from error
    high = np.array(image)
    opaque = np.full(high.shape[:2], 255, np.uint8)
    for top in range(0, len(high), _ROWS):
        rows = slice(top, top + _ROWS)
        samples: NDArray[np.uint16] = high[rows].astype(np.uint16) << np.uint16(8) | low[rows]
        if file.transparent is not None:
            opaque[rows][(samples == file.transparent).all(axis=-1)] = 0
        high[rows] = _scaled(samples, bits)
    made = Image.fromarray(high)
    if file.transparent is not None:
        made.putalpha(Image.fromarray(opaque))
    return made


def _grey(
    samples: NDArray[np.uint16], transparent: int | None, bits: int, *, white: bool
) -> Image.Image:
    grey = _scaled(samples, bits)
    image = Image.fromarray(255 - grey if white else grey)
    if transparent is not None:
        opaque = np.where(samples == transparent, 0, 255).astype(np.uint8)
        image.putalpha(Image.fromarray(opaque))
    return image


def _scaled(samples: NDArray[np.uint16], bits: int) -> NDArray[np.uint8]:
    high: NDArray[np.uint16] = np.minimum(samples, 2**bits - 1) >> (bits - 8)
    return high.astype(np.uint8)


def _largest(image: Image.Image, file: ImageFile) -> int:
    """Return the largest sample of a colour picture, or, in the last 8 bits, something near it."""
    if image.mode not in {"RGB", "RGBA"}:
        return 65535  # large values aren't light
    colours: Any = image.getextrema()
    high = max(int(most) for _, most in colours[:3])
    if high or file.sample_bits < 16:
        return high << 8 | 255
    try:
        return int(low_bytes(file)[..., :3].max())
    except ValueError:
        return 0  # black, as far as we can see


def low_bytes(file: ImageFile) -> NDArray[np.uint8]:
    """Return the low bytes of samples of 16 bits, of which Pillow keeps the high ones.

    Returns:
        uint8 `[h, w, channels]`.

    Raises:
        ValueError: Pillow knows no way to unpack the low bytes of this kind of picture.
    """
    with Image.open(io.BytesIO(file.data), formats=(file.format,)) as image:
        image.tile = [tile._replace(args=_of_other_order(tile.args)) for tile in image.tile]
        image.load()
        low: NDArray[np.uint8] = np.asarray(image)
    return low


def _of_other_order(unpacking: Any) -> Any:
    """The raw mode of the other byte order: what it takes for high bytes are the low ones."""
    if isinstance(unpacking, tuple):
        return (_of_other_order(unpacking[0]), *unpacking[1:])
    order = unpacking[-1:]
    if not unpacking.endswith((";16B", ";16L", ";16N")):
        raise ValueError("not of 16 bits")
    if order == "N":
        order = "L" if sys.byteorder == "little" else "B"
    return unpacking[:-1] + ("L" if order == "B" else "B")
