"""Arrays and packed codes made to lie."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

NPY, PACKED = "application/x-npy", "application/vnd.tessera.codes"


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npy_of(header: str, data: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header.encode() + data


def declaring(shape: str, descr: str = "'|u1'", order: str = "False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}}}"


class Touch:
    """An object whose unpickling leaves a trace."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_a_pickle_in_an_array_is_never_loaded(server, refused, tmp_path):
    """Neither as numpy.save writes it nor with a header that makes light of it."""
    trace = tmp_path / "trace"
    objects = np.empty(1, object)
    objects[0] = Touch(trace)
    file = io.BytesIO()
    np.save(file, objects, allow_pickle=True)
    pickled = pickle.dumps(objects)
    for body in (
        file.getvalue(),
        npy_of(declaring("(1,)", "'|O'"), pickled),
        npy_of(declaring("(1,)", "'O'"), pickled),
        npy_of(declaring("(1,)", "[('a', '|O')]"), pickled),
        pickled,
    ):
        for path in ("/v1/encode", "/v1/decode?model=tiny", "/v1/embed"):
            refused(server.post(path, body, NPY), "malformed_request")
    assert not trace.exists()
    np.load(io.BytesIO(file.getvalue()), allow_pickle=True)  # it would have left one
    assert trace.exists()


@pytest.mark.parametrize(
    "shape",
    [
        "(4294967296, 4294967296, 3)",
        "(18446744073709551616, 1, 3)",
        "(100000, 100000, 3)",
        "(0, 9223372036854775807, 3)",
        "(4294967296, 4294967296, 0)",
        "(-1, 16, 3)",
        "(-16, -16, 3)",
        "(16, 16, -3)",
        "(" + "1, " * 40 + ")",
        "(" + "9" * 900 + ",)",
        "(1e3, 16, 3)",
        "(16.0, 16, 3)",
        "(True, 16, 3)",
        "None",
        "()",
        "((16, 16, 3),)",
        "__import__('os').system('true')",
        "(lambda: (16, 16, 3))()",
    ],
)
def test_shapes_that_lie_cost_nothing(server, refused, shape):
    """Giant, negative, of too many axes, of no integers, or code: refused by the header alone."""
    for path in ("/v1/encode", "/v1/decode?model=tiny", "/v1/embed"):
        body = npy_of(declaring(shape), bytes(768))
        refused(server.post(path, body, NPY), "malformed_request", "image_corrupt", "codes_invalid")


@pytest.mark.parametrize(
    "descr",
    [
        *("'|O'", "'<U16'", "'|S16'", "'|V16'", "'<M8[s]'", "'<m8[ns]'", "[('a', '<i4')]"),
        *("'<i16'", "'object'", "'u1'", "'<f4,<f4'", "7", "None", "'|u1' * 99"),
    ],
)
def test_dtypes_that_are_no_numbers_are_refused(server, refused, descr):
    """Objects, texts, bytes, dates, records, and names that NumPy would make something of."""
    body = npy_of(declaring("(16, 16, 3)", descr), bytes(768))
    refused(server.post("/v1/encode", body, NPY), "malformed_request")


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<i2", ">u2", "<c8", "|b1", "|i1"])
def test_numbers_that_are_no_pixels_are_refused(server, refused, dtype):
    """Floats and wide integers have no definite white; the detail says what to do."""
    reply = server.post("/v1/encode", npy(np.ones((16, 16, 3), dtype)), NPY)
    refused(reply, "image_corrupt")
    assert b"uint8" in reply.body


def test_an_array_in_fortran_order_is_the_same_image(server):
    """The order of its bytes is not the order of its rows."""
    pixels = np.random.default_rng(1).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    plain, fortran = npy(pixels), npy(np.asfortranarray(pixels))
    assert plain != fortran
    answers = [json.loads(server.post("/v1/encode", body, NPY).body) for body in (plain, fortran)]
    assert answers[0] == answers[1]


def test_big_endian_codes_are_the_same_codes(server):
    """Of any width and byte order; codes out of range are refused in each."""
    codes = np.random.default_rng(2).integers(0, 200, (1, 3, 5))
    asked = [
        server.post("/v1/decode?model=tiny", npy(codes.astype(dtype)), NPY, accept="image/png")
        for dtype in ("<i8", ">i8", ">u4", "<u2", ">i2")
    ]
    assert {reply.status for reply in asked} == {200}
    pictures = [np.asarray(Image.open(io.BytesIO(reply.body))) for reply in asked]
    assert all(np.array_equal(pictures[0], picture) for picture in pictures)


@pytest.mark.parametrize("dtype", ["<i8", ">i8", "<u8", "<i2"])
def test_codes_out_of_range_are_refused_in_every_dtype(server, refused, dtype):
    """Largest and smallest values that the dtype has."""
    for value in {np.iinfo(dtype).max, np.iinfo(dtype).min} - {0}:
        body = npy(np.full((1, 2, 2), value, dtype))
        refused(server.post("/v1/decode?model=tiny", body, NPY), "codes_invalid")


# --- packed codes ------------------------------------------------------------------------------

HEADER = struct.Struct("<8sHBBIHHI32s")
IMAGE = struct.Struct("<IIIIIB")
_OF_FILE = {
    "version": ([0, 2, 65_535], "malformed_request"),
    "method": ([2, 255], "malformed_request"),
    "precision": ([4, 255], "malformed_request"),
    "codebook size": ([0, 1, 2**24 + 1, 2**32 - 1], "malformed_request"),
    "stride": ([0], "malformed_request"),
    "reserved": ([1, 65_535], "malformed_request"),
    "images": ([0, 2], "malformed_request"),
    "code space": ([bytes(32), b"\xff" * 32], "code_space_mismatch"),
}
_OF_IMAGE = {
    "width": ([0, 1, 2**31, 2**32 - 1], "codes_invalid"),
    "height": ([0, 1, 2**31, 2**32 - 1], "codes_invalid"),
    "rows": ([0, 1, 2**16, 2**32 - 1], "codes_invalid"),
    "columns": ([0, 1, 2**16, 2**32 - 1], "codes_invalid"),
    "payload": ([0, 1, 2**32 - 1], "malformed_request"),
    "name": ([255], "malformed_request"),
}


@pytest.fixture(scope="module")
def file(server, picture):
    """What encoding the honest picture answers, packed, without its CRC-32."""
    reply = server.post("/v1/encode", picture, accept=PACKED)
    assert reply.status == 200
    return reply.body[:-4]


def sealed(body: bytes) -> bytes:
    return body + struct.pack("<I", zlib.crc32(body))


@pytest.mark.parametrize("name", [*_OF_FILE, *_OF_IMAGE])
def test_each_wrong_field_is_refused_though_the_crc_is_right(server, refused, file, name):
    """Every field of the file and of an image, at the ends of its range and beside its value."""
    of_file = name in _OF_FILE
    values, code = (_OF_FILE if of_file else _OF_IMAGE)[name]
    layout, start = (HEADER, 0) if of_file else (IMAGE, HEADER.size)
    fields = list(layout.unpack_from(file, start))
    index = [*_OF_FILE].index(name) + 1 if of_file else [*_OF_IMAGE].index(name)
    for value in values:
        changed = [*fields[:index], value, *fields[index + 1 :]]
        body = file[:start] + layout.pack(*changed) + file[start + layout.size :]
        refused(server.post("/v1/decode", sealed(body), PACKED), code)


def test_a_million_images_in_a_small_file_are_refused_by_their_number(server, refused, file):
    """Before any of them is looked for."""
    fields = list(HEADER.unpack_from(file))
    for count in (65, 2**32 - 1):
        body = HEADER.pack(*fields[:7], count, fields[8]) + file[HEADER.size :]
        refused(server.post("/v1/decode", sealed(body), PACKED), "too_many_images")


def test_a_codebook_or_stride_of_another_model_is_refused(server, refused, file):
    """Though the code space is known: both must be its own."""
    fields = list(HEADER.unpack_from(file))
    for index, value in ((4, 2**16), (5, 16)):
        changed = [*fields[:index], value, *fields[index + 1 :]]
        body = HEADER.pack(*changed) + file[HEADER.size :]
        refused(
            server.post("/v1/decode", sealed(body), PACKED), "codes_invalid", "malformed_request"
        )


def test_any_byte_may_be_anything(server, file):
    """Each byte set to three values, with the right CRC: an answer or a refusal, never a 5xx."""
    refusals = 0
    for position in range(len(file)):
        for value in (0, 255, file[position] ^ 1):
            body = file[:position] + bytes((value,)) + file[position + 1 :]
            reply = server.post("/v1/decode", sealed(body), PACKED)
            assert reply.status == 200 or 400 <= reply.status < 500
            refusals += reply.status != 200
    assert refusals > len(file)
