"""What the image reader refuses becomes the service's own errors, in one place."""

from __future__ import annotations

import inspect
import struct
import zlib

import pytest

import imaging.errors
from app.errors import (
    ImageCorrupt,
    ImageTooLarge,
    MalformedRequest,
    NotAcceptable,
    UnsupportedMediaType,
    imaging_errors_translated,
    without_traceback,
)
from app.service.preprocessing import ImageInput, PreprocessingOptions, decode


def png(width: int, height: int) -> bytes:
    """A grey PNG whose rows are missing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        named = kind + body
        return struct.pack(">I", len(body)) + named + struct.pack(">I", zlib.crc32(named))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = chunk(b"IDAT", zlib.compress(bytes(64)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + rows + chunk(b"IEND", b"")


TRANSLATIONS = {
    "EmptyFile": MalformedRequest,
    "UnsupportedFormat": UnsupportedMediaType,
    "ImageTooLarge": ImageTooLarge,
    "TooManyPixels": ImageTooLarge,
    "CorruptImage": ImageCorrupt,
    "SideTooLong": NotAcceptable,
}


def test_every_error_of_the_reader_is_known():
    """A new error of `imaging` fails here until the service says what it answers with."""
    raised = {
        name
        for name, kind in inspect.getmembers(imaging.errors, inspect.isclass)
        if issubclass(kind, imaging.errors.ImageError)
    }
    assert raised - {"ImageError"} == set(TRANSLATIONS)


@pytest.mark.parametrize("name", TRANSLATIONS)
def test_an_error_of_the_reader_becomes_ours(name):
    """Each has its own code and status; the text is kept."""

    @imaging_errors_translated
    def fail():
        raise getattr(imaging.errors, name)("why")

    with pytest.raises(TRANSLATIONS[name], match=r"^why") as caught:
        fail()
    assert type(caught.value) is TRANSLATIONS[name]


def test_the_limit_of_pixels_is_named():
    """Whoever runs the service learns which setting to change."""
    with pytest.raises(ImageTooLarge, match=r"the limit is 9 \(TESSERA_MAX_PIXELS\)$"):
        ImageInput(png(5, 2)).inspect(9)


def test_a_kept_failure_keeps_no_picture_alive():
    """Its traceback, cause and context are gone: their frames hold the half-decoded picture."""
    with pytest.raises(ImageCorrupt) as caught:
        decode(ImageInput(png(64, 64)).inspect(4096), PreprocessingOptions(4096))
    assert caught.value.__cause__ is not None
    kept = without_traceback(caught.value)
    assert kept is caught.value
    assert (kept.__traceback__, kept.__cause__, kept.__context__) == (None, None, None)
