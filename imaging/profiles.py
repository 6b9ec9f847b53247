"""Colour profiles: what a picture's samples mean, turned into sRGB with LittleCMS.

ICC.1 (profile version 4): https://www.color.org/specification/ICC.1-2022-05.pdf. The intent is
relative colorimetric without black point compensation: colours that sRGB has come out as they are,
others as the nearest, paper white as white.

A profile is a stranger's bytes as much as the picture is. LittleCMS gets only what is small, of a
kind that pictures have, and without the tags that hold programs of any length.
"""

from __future__ import annotations

import io
import struct
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

MAX_PROFILE_BYTES = 4 * 2**20  # those of printing presses have 0.5 to 2.7 MB

_MAX_TAGS = 100
_CLASSES = {b"scnr", b"mntr", b"prtr", b"spac"}
_MODES = {b"RGB ": "RGB", b"GRAY": "L", b"CMYK": "CMYK"}
_CONNECTION_SPACES = {b"XYZ ", b"Lab "}
# Chains of processing elements, as many as one likes; LittleCMS prefers them to tables.
_PROGRAMS = {b"D2B0", b"D2B1", b"D2B2", b"D2B3"}

# Of 255. What differs from sRGB by no more, over all of its colours, is sRGB with other rounding:
# such pictures stay as they are, bit for bit.
_SRGB_TOLERANCE = 2


class UnusableProfile(Exception):
    """A profile that is broken, too large, of an odd kind, or of another kind than the picture."""


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Turn a picture's colours into sRGB.

    Args:
        image: of mode `1`, `L`, `LA`, `P`, `PA`, `RGB`, `RGBA`, `YCbCr` or `CMYK`.
        profile: an ICC profile, or what the file has in its place.

    Returns:
        The picture as RGB or RGBA; `image` itself where the profile is that of sRGB.

    Raises:
        UnusableProfile: the profile is of no use for this picture.
    """
    mode = _mode_of(profile)
    if (mode == "CMYK") != (image.mode == "CMYK") or image.mode == "LAB":
        raise UnusableProfile("it is of another kind than the picture")
    if mode == "L" and image.mode not in {"1", "L", "LA"}:
        raise UnusableProfile("it is for grey pictures")
    transform = _transform(profile, mode)
    if transform is None:
        return image
    alpha = None
    if image.has_transparency_data:
        image = image.convert("LA" if mode == "L" else "RGBA")
        alpha = image.getchannel("A")
    converted = ImageCms.applyTransform(image.convert(mode), transform)
    if converted is None:  # only where it is asked to work in place
        raise UnusableProfile("it can't be applied")
    if alpha is not None:
        converted.putalpha(alpha)
    return converted


def _mode_of(profile: bytes) -> str:
    """Return the mode of pictures that a profile is for, after a look at its header and tags."""
    if len(profile) > MAX_PROFILE_BYTES:
        raise UnusableProfile(f"it has more than {MAX_PROFILE_BYTES:,} bytes")
    try:
        size, version, kind, space, connection, magic, count = struct.unpack_from(
            ">I4xB3x4s4s4s12x4s88xI", profile
        )
        tags = list(struct.iter_unpack(">4sII", profile[132 : 132 + 12 * min(count, _MAX_TAGS)]))
    except struct.error as error:
        raise UnusableProfile("it is broken") from error
    if magic != b"acsp" or size > len(profile) or count != len(tags):
        raise UnusableProfile("it is broken")
    if any(start + length > len(profile) for _, start, length in tags):
        raise UnusableProfile("it is broken")
    if (
        version not in {2, 4}
        or kind not in _CLASSES
        or space not in _MODES
        or connection not in _CONNECTION_SPACES
        or _PROGRAMS & {name for name, _, _ in tags}
    ):
        raise UnusableProfile("it is of a kind that is not read")
    return _MODES[space]


@lru_cache(maxsize=8)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return what turns a picture of that mode into sRGB; None where nothing has to be done."""
    try:
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
        )
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        raise UnusableProfile("it is broken") from error
    except ImportError as error:
        raise UnusableProfile("this installation's Pillow was built without LittleCMS") from error
    if mode == "CMYK":
        return transform
    levels = np.linspace(0, 255, 18, dtype=np.uint8)  # every fifteenth of 256
    if mode == "RGB":
        probe = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, -1, 3)
        expected = probe
    else:
        probe = levels[None]
        expected = probe[..., None].repeat(3, axis=2)
    made = np.asarray(ImageCms.applyTransform(Image.fromarray(probe), transform))
    off = np.abs(made.astype(int) - expected).max()
    return None if off <= _SRGB_TOLERANCE else transform
