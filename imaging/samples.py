"""Pictures of other samples than three of 8 bits: 1 to 16 channels, and up to 16 bits.

A model says how many channels its pixels have and which sample is white (`SampleFormat`). Files are
read for 1, 3 and 4 channels: grey, RGB and RGBA. Samples of 16 bits stay as they are stored, so
that a file whose samples have 12 bits suits a maximum of 4095; samples of 8 bits are scaled, so
that white is white. Other channels come as arrays.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from imaging.convert import ImageWarning, low_bytes
from imaging.decode import DecodedImage, decode_image
from imaging.errors import CorruptImage, ImageError, UnsupportedFormat
from imaging.resize import Fit, resize, resize_samples

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from imaging.image_file import ImageFile

MAX_CHANNELS = 16

# Of RGB in luma, ITU-R BT.601, in thousandths: what Pillow's conversion to grey takes.
_LUMA = np.array([299, 587, 114], np.uint32)
_ORIENTATIONS: dict[int, Any] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: pixels[::-1].swapaxes(0, 1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: pixels[:, ::-1].swapaxes(0, 1),
}


@dataclass(frozen=True, slots=True)
class SampleFormat:
    """What the pixels of a model are.

    Attributes:
        channels: 1…16.
        maximum: the sample that is white, 1…65535; samples above 255 need 16 bits.
    """

    channels: int = 3
    maximum: int = 255

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint8, or uint16 where a sample may be above 255."""
        return np.dtype(np.uint8 if self.maximum <= 255 else np.uint16)

    @property
    def is_rgb(self) -> bool:
        """Whether it is three samples of 8 bits, as nearly all pictures have."""
        return self == RGB


RGB = SampleFormat()


def decode_samples(
    file: ImageFile,
    form: SampleFormat,
    size: tuple[int, int] | None = None,
    fit: Fit = "cover",
    *,
    sample_bits: int | None = None,
) -> DecodedImage:
    """Decode the picture of a file that `inspect_image` has judged, to samples of a format.

    Args:
        file: as `imaging.headers.inspect_image` returns it.
        form: what the pixels are to be.
        size: `(width, height)` in pixels to resize to.
        fit: how `size` is filled, as in `imaging.resize.resize`.
        sample_bits: as in `decode_image`, for formats of 8 bits; others don't heed it.

    Returns:
        Pixels uint8 or uint16 `[h, w, channels]`.

    Raises:
        UnsupportedFormat: the format has channels that no file has, or 16-bit samples of this
            kind of file can't be read.
        CorruptImage: the image is truncated, broken, or hostile.
    """
    if form.is_rgb:
        return decode_image(file, size, fit, sample_bits=sample_bits)
    if form.channels not in (1, 3, 4):
        raise UnsupportedFormat(
            f"files have 1, 3 or 4 channels: send {form.channels} as an array, .npy"
        )
    if form.maximum > 255 and file.sample_bits > 8:
        decoded = _decoded_deep(file)
        pixels = np.minimum(_with_channels(decoded.pixels, form.channels, 65535), form.maximum)
    else:
        decoded = decode_image(file, sample_bits=sample_bits)
        pixels = decoded.pixels
        if form.channels == 4 and file.frame is None:  # a GIF that covers its canvas in part is RGB
            pixels = np.dstack([pixels, _alpha(file)])
        pixels = _with_channels(pixels, form.channels, 255)
        if form.maximum != 255:
            pixels = (pixels * (form.maximum / 255)).round()
    pixels = np.ascontiguousarray(pixels, form.dtype)
    if size is not None:
        pixels = resize_samples(pixels, size, fit, form.maximum)
    return DecodedImage(pixels, decoded.warnings)


def check_samples(pixels: NDArray[Any], form: SampleFormat) -> NDArray[Any]:
    """An array as pixels of a format.

    Args:
        pixels: `[h, w, channels]`, or `[h, w]` for one channel.
        form: what they should be.

    Returns:
        Contiguous, `[h, w, channels]`.

    Raises:
        CorruptImage: another dtype or another number of channels, or a sample above the maximum.
    """
    if pixels.dtype != form.dtype:
        raise CorruptImage(
            f"the array is {pixels.dtype.str}, not {form.dtype.name}: scale the samples to "
            f"0…{form.maximum}, then .astype(numpy.{form.dtype.name})"
        )
    if pixels.ndim == 2 and form.channels == 1:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[2] != form.channels:
        raise CorruptImage(
            f"the array must have the shape [h, w, {form.channels}] or [n, h, w, {form.channels}]"
        )
    if form.maximum not in (255, 65535) and pixels.size and int(pixels.max()) > form.maximum:
        raise CorruptImage(f"a sample is above {form.maximum}, which is white")
    return np.ascontiguousarray(pixels)


def resized(
    pixels: NDArray[Any], size: tuple[int, int], fit: Fit, form: SampleFormat
) -> NDArray[Any]:
    """Pixels of a format in another size, as `imaging.resize.resize` makes them."""
    if form.is_rgb:
        return resize(pixels, size, fit)
    return resize_samples(pixels, size, fit, form.maximum)


def to_8_bits(pixels: NDArray[Any], maximum: int) -> NDArray[np.uint8]:
    """Samples of 0…`maximum` as samples of 0…255, rounded; 8 bits already are left alone."""
    if maximum == 255:
        return pixels
    scaled: NDArray[np.uint8] = (pixels * (255 / maximum)).round().clip(0, 255).astype(np.uint8)
    return scaled


def _decoded_deep(file: ImageFile) -> DecodedImage:
    """Samples as they are stored in 16 bits: uint16 `[h, w, 1, 3 or 4]`, upright."""
    failure: ImageError | None = None
    try:
        pixels = _deep(file)
    except ImageError as error:
        failure = error
    except Exception:  # noqa: BLE001  (as in `imaging.decode`: decoders fail in every way)
        failure = CorruptImage(f"the {file.format} image is truncated or broken")
    if failure is not None:
        raise failure
    warnings: tuple[ImageWarning, ...] = ()
    if file.profile is not None:
        detail = "the colour profile is ignored: samples of 16 bits stay as they are stored"
        warnings = (ImageWarning("profile_ignored", detail),)
    if file.orientation != 1:
        pixels = _ORIENTATIONS[file.orientation](pixels)
    return DecodedImage(pixels, warnings)


def _deep(file: ImageFile) -> NDArray[np.uint16]:
    with Image.open(io.BytesIO(file.data), formats=(file.format,)) as image:
        if image.size != (file.width, file.height):
            raise CorruptImage(f"the {file.format} header contradicts itself")
        image.load()
        if image.mode.startswith("I;16"):
            grey = np.asarray(image).astype(np.uint16)
            return (2**file.sample_bits - 1 - grey if file.white_is_zero else grey)[..., None]
        if image.mode not in {"RGB", "RGBA"} or file.sample_bits != 16:
            raise UnsupportedFormat(
                "16-bit samples are read of grey, RGB and RGBA; send others as an array, .npy"
            )
        high = np.asarray(image).astype(np.uint16)
    try:
        samples: NDArray[np.uint16] = high << np.uint16(8) | low_bytes(file)
    except ValueError as error:
        raise UnsupportedFormat("16-bit samples of this kind of file are not read") from error
    return samples


def _with_channels(pixels: NDArray[Any], channels: int, opaque: int) -> NDArray[Any]:
    """Grey, RGB or RGBA as another of them; alpha is dropped, or opaque."""
    there = pixels.shape[2]
    if channels == there:
        return pixels
    if channels == 1:
        luma = pixels[..., :3].astype(np.uint32) @ _LUMA
        return ((luma + 500) // 1000)[..., None].astype(pixels.dtype)
    colours = np.repeat(pixels, 3, axis=2) if there == 1 else pixels[..., :3]
    if channels == 3:
        return colours
    alpha = np.full((*pixels.shape[:2], 1), opaque, pixels.dtype)
    return np.concatenate([colours, alpha], axis=2)


def _alpha(file: ImageFile) -> NDArray[np.uint8]:
    """How opaque each pixel of a file of 8 bits is: uint8 `[h, w]`, upright."""
    with Image.open(io.BytesIO(file.data), formats=(file.format,)) as image:
        alpha = np.asarray(image.convert("RGBA").getchannel("A"))
    if file.orientation != 1:
        alpha = _ORIENTATIONS[file.orientation](alpha)
    return alpha
