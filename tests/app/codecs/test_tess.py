"""The packed format: round trips, golden files read by a second reader, every kind of damage."""

from __future__ import annotations

import dataclasses
import json
import re
import runpy
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.codecs.code_file import CodeFile
from app.codecs.grids import CodeGrid, grid_shape
from app.codecs.tess import pack_codes, unpack_codes
from app.errors import CodesInvalid, ImageTooLarge, MalformedRequest, TooManyImages

TESTS = Path(__file__).parents[2]
GOLDEN = sorted((TESTS / "data" / "codes").glob("*.tess"))
PAGE = TESTS.parent / "docs" / "codes-format.md"
LIMITS = {"max_images": 16, "max_pixels": 1_000_000}
SPACE = "0123456789abcdef" * 4
EXAMPLE = (TESTS / "data" / "codes" / "example.tess").read_bytes()
STAGES = (TESTS / "data" / "codes" / "stages.tess").read_bytes()

second_reader = runpy.run_path(str(Path(__file__).with_name("tess_reader.py")))["read_tess"]


def as_json(file: CodeFile) -> dict:
    """Return what a golden file's companion says of it."""
    return {
        "code_space": file.code_space,
        "codebook_size": file.codebook_size,
        **({"residual_sizes": list(file.residual_sizes)} if file.residual_sizes else {}),
        "stride": file.stride,
        "precision": file.precision,
        "images": [
            {"name": g.name or "", "width": g.width, "height": g.height, "codes": g.codes.tolist()}
            for g in file.grids
        ],
    }


def sealed(body: bytes) -> bytes:
    """Return the file with the CRC-32 of its body."""
    return body + struct.pack("<I", zlib.crc32(body))


@st.composite
def code_files(draw):
    """Any file that can be written: stages of 1 to 24 bits, odd sizes, odd names."""
    sizes = draw(st.lists(st.integers(2, 300) | st.integers(2, 2**24), min_size=1, max_size=4))
    stride = draw(st.integers(1, 32))
    grids = []
    for _ in range(draw(st.integers(1, 3))):
        width, height = draw(st.integers(1, 70)), draw(st.integers(1, 70))
        seed = draw(st.integers(0, 2**32 - 1))
        shape = grid_shape(width, height, stride)
        random = np.random.default_rng(seed)
        codes = np.stack([random.integers(0, size, shape) for size in sizes])
        codes = codes if len(sizes) > 1 else codes[0]
        name = draw(st.none() | st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1))
        grids.append(
            CodeGrid(codes, width, height, name if name and len(name.encode()) < 256 else None)
        )
    precision = draw(st.sampled_from(["unknown", "fp32", "fp16", "int8"]))
    space = draw(st.binary(min_size=32, max_size=32)).hex()
    return CodeFile(space, sizes[0], stride, precision, grids, tuple(sizes[1:]))


@settings(deadline=None)  # other work may hold the machine
@given(code_files())
def test_round_trip(file):
    """What is packed is unpacked the same: codes, sizes, names, code space, precision."""
    read = unpack_codes(pack_codes(file), **LIMITS)
    assert as_json(read) == as_json(file)
    assert all(grid.codes.dtype == np.int64 for grid in read.grids)


@settings(deadline=None)  # other work may hold the machine
@given(code_files())
def test_the_second_reader_agrees(file):
    """A reader written from the page alone reads what is written here."""
    assert second_reader(pack_codes(file)) == as_json(file)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_files(path):
    """The committed files are read as their companions say, by both readers, for ever."""
    data = path.read_bytes()
    expected = json.loads(path.with_suffix(".json").read_text("utf-8"))
    assert as_json(unpack_codes(data, **LIMITS)) == expected
    assert second_reader(data) == expected


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_files_are_written_byte_for_byte(path):
    """Writing what a golden file holds gives the golden file."""
    data = path.read_bytes()
    assert pack_codes(unpack_codes(data, **LIMITS)) == data


def test_there_are_golden_files():
    """The golden files are found: an empty glob would prove nothing."""
    assert len(GOLDEN) >= 8
    versions = [path.read_bytes()[8] for path in GOLDEN]
    assert (versions.count(1), versions.count(2)) == (6, 2)


def test_the_pages_worked_example():
    """The hex dump in the documentation is the golden example, and says what the page says."""
    dump = re.search(r"```hexdump\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)[1]
    data = bytes.fromhex("".join(line[6:] for line in dump.splitlines()))
    assert data == (TESTS / "data" / "codes" / "example.tess").read_bytes()
    first, second = unpack_codes(data, **LIMITS).grids
    assert first.codes.tolist() == [[0, 1, 511], [256, 17, 300]]
    assert (first.name, first.width, first.height) == ("a.png", 20, 10)
    assert (second.codes.tolist(), second.name) == ([[5]], None)


def test_the_pages_second_example():
    """The hex dump of a file of two stages is the golden one, and says what the page says."""
    dump = re.search(r"```hexdump-2\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)[1]
    data = bytes.fromhex("".join(line[6:] for line in dump.splitlines()))
    assert data == STAGES
    file = unpack_codes(data, **LIMITS)
    (grid,) = file.grids
    assert (file.codebook_size, file.residual_sizes) == (512, (16,))
    assert (grid.stages, grid.shape) == (2, (2, 3))
    assert grid.codes.tolist() == [[[0, 1, 511], [256, 17, 300]], [[1, 2, 3], [4, 5, 15]]]


def test_the_first_stage_alone_is_a_file_of_version_1():
    """What is left of a file of several stages is the bytes that it always was."""
    (grid,) = unpack_codes(STAGES, **LIMITS).grids
    first = unpack_codes(EXAMPLE, **LIMITS)
    thin = CodeFile(first.code_space, 512, 8, "fp32", [grid.first(1)])
    assert pack_codes(thin) == pack_codes(dataclasses.replace(first, grids=first.grids[:1]))


@pytest.mark.parametrize("file", [EXAMPLE, STAGES], ids=["version 1", "version 2"])
def test_every_flipped_byte_is_refused(file):
    """Whichever byte of a file is changed, and however: the file is refused."""
    for position in range(len(file)):
        for flip in (0x01, 0x80, 0xFF):
            data = bytearray(file)
            data[position] ^= flip
            with pytest.raises(MalformedRequest):
                unpack_codes(bytes(data), **LIMITS)


def test_every_truncation_is_refused():
    """Wherever a file is cut off, it is refused."""
    for length in range(len(EXAMPLE)):
        with pytest.raises(MalformedRequest):
            unpack_codes(EXAMPLE[:length], **LIMITS)


@pytest.mark.parametrize("file", [EXAMPLE, STAGES], ids=["version 1", "version 2"])
def test_every_truncation_with_a_right_crc_is_refused(file):
    """A file that ends early is refused even if its writer computed the CRC for that."""
    for length in range(len(file) - 4):
        with pytest.raises(MalformedRequest):
            unpack_codes(sealed(file[:length]), **LIMITS)


def test_trailing_bytes_are_refused():
    """Bytes after the CRC, or between the last image and the CRC, are refused."""
    with pytest.raises(MalformedRequest):
        unpack_codes(EXAMPLE + b"\0", **LIMITS)
    with pytest.raises(MalformedRequest, match="after its last image"):
        unpack_codes(sealed(EXAMPLE[:-4] + b"\0"), **LIMITS)


@pytest.mark.parametrize(
    ("offset", "layout", "value", "error"),
    [
        (0, "B", 0x88, MalformedRequest),  # magic
        (8, "H", 0, MalformedRequest),  # version
        (8, "H", 2, MalformedRequest),
        (10, "B", 1, MalformedRequest),  # coding method
        (11, "B", 4, MalformedRequest),  # precision
        (12, "I", 0, MalformedRequest),  # codebook size
        (12, "I", 1, MalformedRequest),
        (12, "I", 2**24 + 1, MalformedRequest),
        (12, "I", 2**32 - 1, MalformedRequest),
        (12, "I", 511, CodesInvalid),  # one code is 511
        (12, "I", 256, MalformedRequest),  # 8 bits: payload too long
        (16, "H", 0, MalformedRequest),  # stride
        (16, "H", 4, CodesInvalid),
        (18, "H", 1, MalformedRequest),  # reserved
        (20, "I", 0, MalformedRequest),  # images
        (20, "I", 1, MalformedRequest),
        (20, "I", 3, MalformedRequest),
        (20, "I", 17, TooManyImages),
        (20, "I", 2**32 - 1, TooManyImages),
        (0x38, "I", 0, CodesInvalid),  # width
        (0x38, "I", 25, CodesInvalid),
        (0x38, "I", 2**32 - 1, CodesInvalid),
        (0x3C, "I", 8, CodesInvalid),  # height
        (0x40, "I", 0, CodesInvalid),  # rows
        (0x40, "I", 2**32 - 1, CodesInvalid),
        (0x44, "I", 2, CodesInvalid),  # columns
        (0x48, "I", 6, MalformedRequest),  # payload length
        (0x48, "I", 8, MalformedRequest),
        (0x48, "I", 2**32 - 1, MalformedRequest),
        (0x4C, "B", 255, MalformedRequest),  # name length
        (0x4D, "B", 0xFF, MalformedRequest),  # name: not UTF-8
        (0x4D, "B", 0x0A, MalformedRequest),  # name: control characters
        (0x4D, "B", 0x7F, MalformedRequest),
        (0x58, "B", 0xB1, MalformedRequest),  # left-over bits
    ],
)
def test_every_field_is_checked(offset, layout, value, error):
    """A wrong value of any field is refused even though the CRC is right."""
    body = bytearray(EXAMPLE[:-4])
    struct.pack_into("<" + layout, body, offset, value)
    with pytest.raises(error):
        unpack_codes(sealed(bytes(body)), **LIMITS)


@pytest.mark.parametrize(
    ("offset", "layout", "value", "error"),
    [
        (8, "H", 1, MalformedRequest),  # version 1 has no stages
        (8, "H", 3, MalformedRequest),
        (18, "H", 0, MalformedRequest),  # stages
        (18, "H", 1, MalformedRequest),
        (18, "H", 3, MalformedRequest),
        (18, "H", 17, MalformedRequest),
        (18, "H", 65535, MalformedRequest),
        (0x38, "I", 0, MalformedRequest),  # codes of the second stage
        (0x38, "I", 1, MalformedRequest),
        (0x38, "I", 2**24 + 1, MalformedRequest),
        (0x38, "I", 15, CodesInvalid),
        (0x38, "I", 17, MalformedRequest),  # 5 bits: payload too long
        (12, "I", 511, CodesInvalid),
        (0x4C, "I", 9, MalformedRequest),  # payload length
        (0x4C, "I", 11, MalformedRequest),
        (0x5C, "B", 0xB1, MalformedRequest),  # left-over bits of the first stage
    ],
)
def test_every_field_of_version_2_is_checked(offset, layout, value, error):
    """A wrong value of what version 2 adds is refused even though the CRC is right."""
    body = bytearray(STAGES[:-4])
    struct.pack_into("<" + layout, body, offset, value)
    with pytest.raises(error):
        unpack_codes(sealed(bytes(body)), **LIMITS)


def huge(width: int, height: int, payload_bytes: int) -> bytes:
    """Return a header and one image that claim far more than is there."""
    image = struct.pack("<IIIIIB", width, height, -(-height // 8), -(-width // 8), payload_bytes, 0)
    return sealed(EXAMPLE[:20] + struct.pack("<I", 1) + EXAMPLE[24:56] + image)


def test_nothing_is_allocated_by_what_a_file_claims():
    """A file of 81 bytes that claims 60,000 × 60,000 pixels costs no memory to refuse."""
    data = huge(60_000, 60_000, 7500 * 7500 * 9 // 8 + 1)
    tracemalloc.start()
    with pytest.raises(MalformedRequest):
        unpack_codes(data, max_images=1, max_pixels=2**40)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000


@pytest.mark.parametrize(("width", "height"), [(1001, 1000), (65_536, 1)])
def test_limits_are_named(width, height):
    """More pixels than the limit, or a side above 65,535, is refused by the limit's name."""
    with pytest.raises(ImageTooLarge, match="TESSERA_MAX_PIXELS"):
        unpack_codes(huge(width, height, 10), **LIMITS)


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("", None),
        (None, None),
        ("a\nb\x00c\x7f", "abc"),
        ("../../etc/passwd", "../../etc/passwd"),
        ("é" * 200, "é" * 127),  # 2 bytes each: 255 is in the middle of one
        ("\ud800.png", "?.png"),  # a lone surrogate, which UTF-8 has no bytes for
    ],
)
def test_names_are_made_fit(name, kept):
    """A name is cut at 255 bytes between characters, and loses its control characters."""
    file = CodeFile(SPACE, 512, 8, "fp32", [CodeGrid(np.zeros((1, 1), np.int64), 8, 8, name)])
    assert unpack_codes(pack_codes(file), **LIMITS).grids[0].name == kept


def test_size_is_as_promised():
    """1024 codes cost 10 bits each, and 81 bytes beside them for a nameless image."""
    codes = np.random.default_rng(0).integers(0, 1024, (64, 96))
    file = CodeFile(SPACE, 1024, 8, "fp32", [CodeGrid(codes, 768, 512)])
    assert len(pack_codes(file)) == 56 + 21 + 64 * 96 * 10 // 8 + 4


def test_a_large_image_takes_milliseconds(cpu_seconds):
    """262,144 codes are packed and unpacked in a few milliseconds (2 + 2 measured)."""
    codes = np.random.default_rng(0).integers(0, 1024, (512, 512))
    file = CodeFile(SPACE, 1024, 8, "fp32", [CodeGrid(codes, 4096, 4096)])

    def there_and_back():
        read = unpack_codes(pack_codes(file), max_images=1, max_pixels=2**24)
        np.testing.assert_array_equal(read.grids[0].codes, codes)

    assert cpu_seconds(there_and_back) < 0.1


def test_records_cannot_be_changed():
    """A grid and a file are frozen: what was checked stays as it was."""
    grid = unpack_codes(EXAMPLE, **LIMITS).grids[0]
    with pytest.raises(dataclasses.FrozenInstanceError):
        grid.width = 1
