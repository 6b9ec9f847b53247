"""Where images are decoded: what is tiny where it arrives, everything else in the pool."""

from __future__ import annotations

import io
import threading

import numpy as np
import pytest
from PIL import Image

from app.service import preprocessing as intake

ANY = {"content-type": "application/octet-stream"}


@pytest.fixture
def decoded_in(client, monkeypatch):
    """Names of the threads that decode; the service runs in this process."""
    names = []

    def noted(opened, size, fit, decode=intake.pixels_of):
        names.append(threading.current_thread().name)
        return decode(opened, size, fit)

    monkeypatch.setattr(intake, "pixels_of", noted)
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
