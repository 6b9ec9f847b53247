"""What is read as `.npy`, what is written, and what is refused."""

from __future__ import annotations

import io
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from app.codecs.npy import read_npy, read_npy_images, write_npy
from app.errors import ImageCorrupt, ImageTooLarge, MalformedRequest, TooManyImages


def saved(array: np.ndarray) -> bytes:
    """Return what numpy.save writes."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def with_header(header: str, body: bytes = b"", version: int = 1) -> bytes:
    """Return a file with exactly this header."""
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes((version, 0)) + length + header.encode() + body


def declared(descr: str = "'|u1'", order: str = "False", shape: str = "(2,)") -> str:
    """Return a header text."""
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}}}"


NUMBERS = st.one_of(npst.integer_dtypes(), npst.unsigned_integer_dtypes(), npst.boolean_dtypes())


@settings(deadline=None)  # other work may hold the machine
@given(npst.arrays(NUMBERS, npst.array_shapes(min_dims=0, max_dims=4, min_side=0)))
def test_reads_what_numpy_saves(array):
    """Any array of integers that NumPy saves is read with its shape, dtype and values."""
    read = read_npy(saved(array))
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)


@settings(deadline=None)  # other work may hold the machine
@given(npst.arrays(np.int64, npst.array_shapes(max_dims=3)))
def test_numpy_reads_what_is_written(array):
    """What is written, NumPy loads."""
    np.testing.assert_array_equal(np.load(io.BytesIO(write_npy(array))), array)


def test_fortran_order_is_honoured():
    """An array saved in Fortran order comes back with its rows as rows."""
    array = np.asfortranarray(np.arange(24).reshape(2, 3, 4))
    assert b"'fortran_order': True" in saved(array)
    np.testing.assert_array_equal(read_npy(saved(array)), array)


@pytest.mark.parametrize("version", [2, 3])
def test_versions_2_and_3_are_read(version):
    """The later versions, which differ in the width of the header's length, are read."""
    np.testing.assert_array_equal(read_npy(with_header(declared(), b"\1\2", version)), [1, 2])


def test_the_array_is_not_copied():
    """Reading costs no memory beyond the upload itself."""
    data = saved(np.zeros(10_000_000, dtype=np.uint8))
    tracemalloc.start()
    read_npy(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000


def test_every_truncation_is_refused():
    """A file cut off anywhere is refused, never read short."""
    data = saved(np.arange(6, dtype=np.int16).reshape(2, 3))
    for length in range(len(data)):
        with pytest.raises(MalformedRequest):
            read_npy(data[:length])


def test_trailing_bytes_are_refused():
    """A byte more than the shape needs is refused."""
    with pytest.raises(MalformedRequest, match="more than its shape"):
        read_npy(saved(np.arange(3)) + b"\0")


@pytest.mark.parametrize(
    "shape",
    [
        "(1000000000000,)",
        "(4294967296, 4294967296)",
        "(99999999999999999999999999,)",
        "(-1,)",
        "(-2, -1)",
        "(2.0,)",
        "(True, 2)",
        "('2',)",
        "[2]",
        "2",
        "(1, 1, 1, 1, 1, 1, 1, 1, 2)",
        "(0, 9223372036854775807, 9223372036854775807)",
    ],
)
def test_shapes_that_lie_are_refused_before_anything_is_allocated(shape):
    """A shape that is negative, no tuple of integers, or larger than the upload is refused."""
    tracemalloc.start()
    with pytest.raises(MalformedRequest):
        read_npy(with_header(declared(shape=shape), b"\1\2"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize(
    "descr", ["'|O'", "'<U4'", "'|S2'", "'|V2'", "'<M8[s]'", "[('a', '|u1')]", "'u1'", "None", "7"]
)
def test_dtypes_that_are_no_numbers_are_refused(descr):
    """Objects (pickle), strings, records and dates are refused."""
    with pytest.raises(MalformedRequest, match="pickle"):
        read_npy(with_header(declared(descr=descr), b"\1\2"))


@pytest.mark.parametrize(
    "header",
    [
        "",
        "{",
        "[]",
        "{}",
        "7",
        declared(order="1"),
        "__import__('os')",
        "(" * 500,
        "-" * 900,
        "{'descr': '|u1', 'shape': (2,)}",
        "'\\d'",
        "\0",
        "[" * 400 + "]" * 400,
    ],
)
def test_headers_that_cannot_be_read_are_refused(header):
    """Whatever stands in the header, the answer is the same error."""
    with pytest.raises(MalformedRequest):
        read_npy(with_header(header, b"\1\2"))


def test_a_long_header_is_refused():
    """A header beyond 1024 bytes is not parsed."""
    with pytest.raises(MalformedRequest, match="1024"):
        read_npy(with_header(declared() + " " * 1024, b"\1\2"))


@pytest.mark.parametrize("data", [b"", b"PK\3\4", b"\x93NUMPY", b"\x93NUMPY\4\0\0\0\0\0\0\0"])
def test_other_files_and_versions_are_refused(data):
    """What is no `.npy` file, or one of a later version, is refused."""
    with pytest.raises(MalformedRequest):
        read_npy(data)


@settings(deadline=None)  # other work may hold the machine
@given(st.binary(max_size=200))
def test_garbage_is_refused_and_nothing_else_happens(garbage):
    """Random bytes after the magic are refused with our own error alone."""
    with pytest.raises(MalformedRequest):
        read_npy(b"\x93NUMPY" + garbage)


def test_npy_images_are_read():
    """[h, w, 3] is one image, [n, h, w, 3] are n, in either memory order."""
    array = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), dtype=np.uint8)
    file = io.BytesIO()
    np.save(file, np.asfortranarray(array))
    limits = {"max_pixels": 20, "max_images": 2}
    for images in (
        read_npy_images(write_npy(array), **limits),
        read_npy_images(file.getvalue(), **limits),
    ):
        np.testing.assert_array_equal(images, array)
        assert all(image.flags.c_contiguous for image in images)
    (image,) = read_npy_images(write_npy(array[0]), **limits)
    np.testing.assert_array_equal(image, array[0])


@pytest.mark.parametrize(
    ("shape", "dtype", "error"),
    [
        ((4, 5, 3), np.float32, ImageCorrupt),
        ((4, 5, 3), np.int8, ImageCorrupt),
        ((4, 5, 3), ">u4", ImageCorrupt),
        ((4, 5, 3), bool, ImageCorrupt),
        ((4, 5), np.uint8, ImageCorrupt),
        ((4, 5, 17), np.uint8, ImageCorrupt),
        ((1, 1, 4, 5, 3), np.uint8, ImageCorrupt),
        ((0, 5, 3), np.uint8, ImageCorrupt),
        ((0, 4, 5, 3), np.uint8, MalformedRequest),
        ((3, 4, 5, 3), np.uint8, TooManyImages),
        ((4, 6, 3), np.uint8, ImageTooLarge),
    ],
)
def test_npy_arrays_that_are_no_images_are_refused(shape, dtype, error):
    """Another dtype, shape, count or size is refused, each by its own error."""
    with pytest.raises(error):
        read_npy_images(write_npy(np.zeros(shape, dtype)), max_pixels=20, max_images=2)
