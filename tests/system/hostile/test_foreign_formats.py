"""Formats beyond the six: refused by their first bytes, whatever the request calls them."""

from __future__ import annotations

import base64
import gzip
import io
import json
import subprocess
import zipfile

import pytest
from PIL import Image

EPS = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 8 8
%%EndComments
(/etc/passwd) (r) file closefile showpage
%%EOF
"""


def saved(kind: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (32, 32), "red").save(file, kind)
    return file.getvalue()


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("image.png", saved("PNG"))
    return file.getvalue()


FOREIGN = {
    **{kind: saved(kind) for kind in ("EPS", "PPM", "ICO", "SGI", "TGA", "PCX", "DDS", "PDF")},
    **{kind: saved(kind) for kind in ("JPEG2000", "QOI")},
    "EPS with a call for a file": EPS,
    "EPS in a DOS wrapper": b"\xc5\xd0\xd3\xc6" + (30).to_bytes(4, "little") + bytes(22) + EPS,
    "PSD": b"8BPS\0\1" + bytes(6) + b"\0\3\0\0\0\1\0\0\0\1\0\x08\0\3" + bytes(12) + b"\0\0\xff\0\0",
    "WMF": b"\xd7\xcd\xc6\x9a\0\0" + bytes(8) + b"\xe8\x03" + bytes(6) + b"\1\0\t\0" + bytes(60),
    "EMF": b"\1\0\0\0l\0\0\0" + bytes(32) + b" EMF" + bytes(64),
    "XPM": b'/* XPM */ static char *x[] = {"1 1 1 1", "a c red", "a"};',
    "XBM": b"#define x_width 8\n#define x_height 1\nstatic char x_bits[] = {0x00};",
    "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "MVG": b"push graphic-context\nfill 'url(https://localhost/|touch x)'\npop graphic-context",
    "FITS": b"SIMPLE  =                    T" + bytes(2880),
    "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(64),
    "FPX": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512),
    "HEIC": b"\0\0\0\x18ftypheic" + bytes(64),
    "FLI": bytes(4) + b"\x11\xaf" + bytes(122),
    "ICNS": b"icns\0\0\0\x10ic07\0\0\0\x08",
    "GD": b"\xff\xfe" + bytes(64),
    "ZIP": zipped(),
    "gzip": gzip.compress(saved("PNG")),
    "HTML": b"<html><script>alert(1)</script></html>",
    "a script": b"#!/bin/sh\ntouch called\n",
    "a program": b"\x7fELF" + bytes(60),
    "pickle": b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00N.",
    "nothing but zeros": bytes(4096),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_formats_are_refused_and_call_no_program(server, refused, name):
    """As raw body, file and base64: 415 each time, and neither Ghostscript nor a shell runs."""
    data = FOREIGN[name]
    part = b'--b\r\ncontent-disposition: form-data; name="f"; filename="a.png"\r\n\r\n'
    many = {"images": [f"data:image/png;base64,{base64.b64encode(data).decode()}"]}
    for body, kind in (
        (data, "image/png"),
        (data, "image/tiff"),
        (part + data + b"\r\n--b--\r\n", "multipart/form-data; boundary=b"),
        (json.dumps(many).encode(), "application/json"),
    ):
        refused(server.post("/v1/encode", body, kind), "unsupported_media_type")
    assert not server.called.exists()


@pytest.mark.parametrize(
    "magic", [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"BM", b"II*\0"]
)
def test_a_foreign_file_behind_the_right_first_bytes_is_no_image(server, refused, magic):
    """What follows is read as what it claims to be, never as what it is."""
    refused(server.post("/v1/encode", magic + EPS), "image_corrupt", "image_too_large")
    assert not server.called.exists()


def test_a_program_that_is_called_is_noticed(server):
    """The tests above prove something: the programs found first are those that leave a trace."""
    path = server.called.parent / "bin" / "gs"
    subprocess.run([path], check=False)
    assert server.called.exists()
    server.called.unlink()
