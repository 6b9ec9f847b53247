"""Media types of bodies: what is declared, and what the first bytes say where that says little."""

from __future__ import annotations

import re
from typing import Final

from app.codecs.tess import MEDIA_TYPE as PACKED

JSON: Final = "application/json"
NPY: Final = "application/x-npy"
MULTIPART: Final = "multipart/form-data"
# An image file, whichever type it was sent under: its format is judged from its content.
RAW_IMAGE: Final = "image/*"

RAW_IMAGES = (
    "image/png",
    "image/jpeg",
    "image/webp",
    "image/gif",
    "image/bmp",
    "image/tiff",
    "image/avif",
    "application/octet-stream",
)
IMAGE_BODIES = (MULTIPART, *RAW_IMAGES, JSON, NPY)
CODE_BODIES = (JSON, PACKED, NPY)

# Other names that are in use.
ALIASES = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/x-png": "image/png",
    "text/json": JSON,
    "application/npy": NPY,
    "application/x-numpy": NPY,
}
# Types that say nothing of the content: none, those of unknown files, and the one that
# `curl --data-binary` sends unless told otherwise.
_GENERIC = frozenset(
    {
        *("", "*/*", "application/octet-stream", "binary/octet-stream"),
        *("application/binary", "application/x-binary", "application/x-www-form-urlencoded"),
    }
)
_FIRST_BYTES = ((b"\x93NUMPY", NPY), (b"\x89TESS\r\n", PACKED))
_JSON_BEGINS = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*\{")

_WELL_FORMED = re.compile(r"[a-z0-9!#$&^_.+-]{1,64}/[a-z0-9!#$&^_.+*-]{1,64}")


def media_type(content_type: str) -> str:
    """The media type that the header names: lower case, without parameters."""
    return content_type.partition(";")[0].strip().lower()


def kind_of_body(content_type: str, body: bytes) -> str:
    """What a body is to be read as.

    A generic type, or none, is believed less than the first bytes; an image type says only that
    the body is an image.

    Args:
        content_type: the request's `Content-Type`.
        body: all of it.

    Returns:
        `MULTIPART`, `JSON`, `NPY`, `PACKED`, `RAW_IMAGE`, or the declared type if it is none that
        can be read.
    """
    declared = media_type(content_type)
    declared = ALIASES.get(declared, declared)
    if declared in _GENERIC:
        for beginning, kind in _FIRST_BYTES:
            if body.startswith(beginning):
                return kind
        return JSON if _JSON_BEGINS.match(body) else RAW_IMAGE
    return RAW_IMAGE if declared.startswith("image/") else declared


def described(content_type: str) -> str:
    """What arrived, for the detail of an error: the declared type, if it is well-formed."""
    declared = media_type(content_type)
    if not declared:
        return "this one has no Content-Type, and its first bytes tell nothing"
    if not _WELL_FORMED.fullmatch(declared):
        return "this one's Content-Type is not a media type"
    return f"this one was sent as {declared}"
