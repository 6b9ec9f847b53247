"""Where images are decoded: what is tiny where it arrives, everything else in the pool.

And which sizes may be asked for.
"""

from __future__ import annotations

import io
import threading

import numpy as np
import pytest
from PIL import Image

from app.errors import InvalidParameter
from app.service import preprocessing
from app.service.preprocessing import parse_size

ANY = {"content-type": "application/octet-stream"}


@pytest.fixture
def decoded_in(client, monkeypatch):
    """Names of the threads that decode; the service runs in this process."""
    names = []

    def noted(inspected, options, samples, decode=preprocessing.decode):
        names.append(threading.current_thread().name)
        return decode(inspected, options, samples)

    monkeypatch.setattr(preprocessing, "decode", noted)
    return names


def file(kind: str, side: int) -> bytes:
    """A grey picture, which takes few bytes whatever its size."""
    made = io.BytesIO()
    Image.fromarray(np.full((side, side, 3), 90, np.uint8)).save(made, kind)
    return made.getvalue()


def in_pool(name: str) -> bool:
    return name.startswith("tessera-prepare")


def test_one_tiny_jpeg_is_decoded_where_it_arrives(client, decoded_in):
    """On the event loop: a change of threads would take longer."""
    assert client.post("/v1/encode", content=file("JPEG", 128), headers=ANY).status_code == 200
    assert len(decoded_in) == 1
    assert not in_pool(decoded_in[0])


@pytest.mark.parametrize(
    ("kind", "side", "params"),
    [("JPEG", 136, {}), ("JPEG", 64, {"size": "256x256"}), ("PNG", 64, {}), ("WEBP", 64, {})],
    ids=["larger", "to be enlarged", "PNG", "WebP"],
)
def test_all_else_is_decoded_in_the_pool(client, decoded_in, kind, side, params):
    """However few bytes it has."""
    content = file(kind, side)
    assert len(content) < 8192
    assert client.post("/v1/encode", content=content, params=params, headers=ANY).status_code == 200
    assert [in_pool(name) for name in decoded_in] == [True]


def test_several_tiny_jpegs_are_decoded_in_the_pool(client, decoded_in):
    """Together they would hold up the event loop."""
    files = [("images", ("a.jpg", file("JPEG", 64)))] * 3
    assert client.post("/v1/encode", files=files).status_code == 200
    assert [in_pool(name) for name in decoded_in] == [True] * 3


@pytest.mark.parametrize(("text", "size"), [("1x1", (1, 1)), ("256x192", (256, 192))])
def test_sizes_are_width_then_height(text, size):
    """WxH is width, then height."""
    assert parse_size(text, max_pixels=256 * 192) == size


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "256", "256x", "x256", "0x8", "8x0", "08x8", "-8x8", "8.0x8", "8X8", "8x8x8"),
        *(" 8x8", "8x8\n", "1e2x8", "٨x٨", "8×8", "65536x1", "100000x1", "99999999999x1"),
        "256x193",
    ],
)
def test_sizes_that_make_no_sense_are_refused(text):
    """Anything but two plain positive numbers within the limits is an invalid parameter."""
    with pytest.raises(InvalidParameter):
        parse_size(text, max_pixels=256 * 192)


def test_the_limit_of_a_size_is_named():
    """A size beyond the pixel limit is refused by the limit's name."""
    with pytest.raises(InvalidParameter, match="TESSERA_MAX_PIXELS"):
        parse_size("257x192", max_pixels=256 * 192)
