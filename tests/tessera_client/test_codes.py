"""`.tess` files as docs/codes-format.md says, by the client's own reader and writer."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from tessera_client import Codes, CodesError, Grid

FILES = Path(__file__).parents[1] / "data" / "codes"
EXAMPLE = (FILES / "example.tess").read_bytes()


@pytest.mark.parametrize("file", sorted(FILES.glob("*.tess")), ids=lambda file: file.stem)
def test_the_committed_files_are_read_and_written_byte_for_byte(file):
    """What the service wrote, and what its JSON twin says."""
    codes = Codes.load(file)
    said = json.loads(file.with_suffix(".json").read_text())
    assert (codes.code_space, codes.codebook_size) == (said["code_space"], said["codebook_size"])
    assert (codes.stride, codes.precision) == (said["stride"], said["precision"])
    for grid, image in zip(codes, said["images"], strict=True):
        assert grid.codes.tolist() == image["codes"]
        assert (grid.width, grid.height) == (image["width"], image["height"])
        assert (grid.name or "") == (image["name"] or "")
    assert codes.to_bytes() == file.read_bytes()


def changed(at: int, value: bytes, *, mend: bool = True) -> bytes:
    body = EXAMPLE[:at] + value + EXAMPLE[at + len(value) :]
    return body[:-4] + struct.pack("<I", zlib.crc32(body[:-4])) if mend else body


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not a .tess file"),
        (EXAMPLE[:50], "not a .tess file"),
        (changed(0, b"\x88"), "not a .tess file"),
        (changed(8, b"\x02"), "version 2"),
        (changed(60, b"\x01", mend=False), "CRC-32"),
        (changed(10, b"\x01"), r"Client\.recode"),
        (changed(10, b"\x02"), "unknown"),
        (changed(11, b"\x04"), "unknown"),
        (changed(18, b"\x01"), "unknown"),
        (changed(12, bytes(4)), "impossible"),
        (changed(16, bytes(2)), "impossible"),
        (changed(20, bytes(4)), "impossible"),
        (changed(20, b"\x01"), "bytes follow"),
        (changed(20, b"\x03"), "ends before"),
        (changed(0x38, bytes(4)), "size is impossible"),
        (changed(0x40, b"\x03"), "doesn't follow"),
        (changed(0x48, b"\x08"), "doesn't follow"),
        (changed(0x4C, b"\xff"), "ends before"),
        (changed(0x4D, b"\xff"), "not UTF-8"),
        (changed(0x4D, b"\n"), "control characters"),
        (changed(0x58, b"\xb1"), "left-over bit"),
        (changed(12, b"\x2c\x01"), "not one of the codebook's"),
    ],
)
def test_every_way_a_file_can_lie_is_refused(data, says):
    """One for each rule of the format."""
    with pytest.raises(CodesError, match=says):
        Codes.from_bytes(data)


STAGES = (FILES / "stages.tess").read_bytes()


@pytest.mark.parametrize(
    ("at", "value", "says"),
    [
        (8, b"\x03", "version 3"),
        (8, b"\x01", "unknown"),
        (18, b"\x01", "2 to 16 stages"),
        (18, b"\x11", "2 to 16 stages"),
        (18, b"\x10", "ends before its first image"),
        (18, b"\x03", "impossible|doesn't follow"),
        (0x38, bytes(4), "impossible"),
        (0x38, b"\x0f", "not one of the codebook's"),
        (0x38, b"\x11", "doesn't follow"),
        (0x5C, b"\xb1", "left-over bit"),
    ],
)
def test_every_way_a_file_of_stages_can_lie_is_refused(at, value, says):
    """One for each rule that version 2 adds."""
    body = (STAGES[:at] + value + STAGES[at + len(value) :])[:-4]
    with pytest.raises(CodesError, match=says):
        Codes.from_bytes(body + struct.pack("<I", zlib.crc32(body)))


def test_grids_of_other_stages_than_the_sizes_are_not_written():
    """Too few, too many, or a code that its stage doesn't have."""
    two = np.array([[[511]], [[15]]])
    for codes, sizes in ((two[0], (16,)), (two, ()), (two, (16, 4)), (two, (15,))):
        with pytest.raises(CodesError):
            Codes("ab" * 32, 512, 8, "fp32", (Grid(codes, 8, 8),), sizes).to_bytes()


@pytest.mark.parametrize("size", [2, 3, 256, 257, 4096, 2**24])
def test_any_codebook_size_round_trips(size):
    """From one bit to 24."""
    codes = np.random.default_rng(size).integers(0, size, (5, 7))
    codes[0, 0] = size - 1
    file = Codes("ab" * 32, size, 8, "int8", (Grid(codes, 50, 40, "ä/ö"),)).to_bytes()
    (back,) = Codes.from_bytes(file)
    assert np.array_equal(back.codes, codes)
    assert (back.width, back.height, back.name) == (50, 40, "ä/ö")


@pytest.mark.parametrize(
    "grids",
    [
        (),
        (Grid(np.array([[512]]), 8, 8),),
        (Grid(np.array([[-1]]), 8, 8),),
        (Grid(np.array([[1]]), 9, 8),),
        (Grid(np.array([[1]]), 8, 8, "n" * 256),),
    ],
)
def test_what_the_format_cannot_hold_is_not_written(grids):
    """Rather no file than a wrong one."""
    with pytest.raises(CodesError):
        Codes("ab" * 32, 512, 8, "fp32", grids).to_bytes()


def test_a_failed_save_leaves_the_old_file(tmp_path):
    """And nothing beside it."""
    target = tmp_path / "a.tess"
    Codes.load(FILES / "example.tess").save(target)
    with pytest.raises(CodesError):
        Codes("ab" * 32, 512, 8, "fp32", ()).save(target)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [EXAMPLE]


def test_printing_is_a_line():
    """What they are, without thousands of numbers."""
    grid = Grid(np.zeros((2, 3), np.int64), 24, 16, "a.png")
    codes = Codes("ab" * 32, 4096, 8, "fp32", (grid, grid))
    assert repr(grid) == "<Grid 'a.png': 24 × 16 pixels, 2 × 3 codes>"
    assert repr(codes) == (
        "<Codes of 2 images, of 4,096 codes for 8 × 8 pixels, fp32, code space abababababababab…>"
    )


def test_slices_and_joins_keep_the_code_space():
    """A sequence of grids that knows where it belongs."""
    codes = Codes.load(FILES / "example.tess")
    assert (len(codes), codes[1].codes.tolist(), codes.bits_per_code) == (2, [[5]], 9)
    assert Codes.joined([codes[:1], codes[1:]]).to_bytes() == EXAMPLE
