"""The readers of untrusted bytes under random bytes, for seconds; `make fuzz` does it for longer.

Hypothesis changes files that are whole: cuts, repeats, exchanges and overwrites parts of them. An
input that once broke something is kept in `regressions/TARGET` and replayed here.
"""

from __future__ import annotations

import io
import random
import runpy
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

HERE = Path(__file__).parent
fuzzing = runpy.run_path(str(HERE / "targets.py"))
guided = runpy.run_path(str(HERE / "fuzz.py"))
TARGETS, check, Broken = fuzzing["TARGETS"], fuzzing["check"], fuzzing["Broken"]


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


SEEDS = {
    "packed": [path.read_bytes() for path in guided["seeds"]("packed", None)],
    "coded": [path.read_bytes() for path in guided["seeds"]("coded", None)],
    "npy": [npy(np.ones((2, 4, 4, 3), np.uint8)), npy(np.ones((2, 3), ">i4"))],
    "image": [
        *(d for path in guided["seeds"]("image", None) if len(d := path.read_bytes()) < 10_000),
        *guided["image_files"]().values(),
    ],
    "tar": list(guided["tar_files"]().values()),
    "parquet": list(guided["parquet_files"]().values()),
}


@st.composite
def changed(draw, target: str) -> bytes:
    """A seed after some changes, its checksums or lengths put right again now and then."""
    data = draw(st.sampled_from(SEEDS[target]))
    if draw(st.booleans()):  # bytes overwritten, so that all lengths stay right
        places = st.integers(0, len(data) - 1)
        for place, value in draw(st.dictionaries(places, st.integers(0, 255), max_size=3)).items():
            data = data[:place] + bytes((value,)) + data[place + 1 :]
        return data
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 16)))
        piece = draw(
            st.one_of(
                st.binary(max_size=8),
                st.sampled_from([b"\0" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", data[start:end] * 3]),
            )
        )
        data = data[:start] + piece + data[end:]
    if target in guided["_REPAIRS"] and draw(st.booleans()):
        data = guided["_REPAIRS"][target](data, random.Random(draw(st.integers(0, 99))))
    return data


@pytest.mark.parametrize("target", TARGETS)
def test_changed_files_break_no_promise(target):
    """Several hundred each time, other ones on every run."""

    @settings(max_examples=800)
    @given(changed(target))
    def run(data):
        check(TARGETS[target], data)

    run()


@pytest.mark.parametrize("target", TARGETS)
def test_seeds_are_read(target):
    """The fuzzer begins with files that get through, not with what is refused at once."""
    outcomes = [check(TARGETS[target], data) for data in SEEDS[target]]
    assert outcomes.count("read") > len(outcomes) / 3


@pytest.mark.parametrize(
    "path", sorted(HERE.glob("regressions/*/*")), ids=lambda path: f"{path.parent.name}-{path.name}"
)
def test_inputs_that_once_broke_something_no_longer_do(path):
    """Each was found by fuzzing or in an attack, and fixed."""
    check(TARGETS[path.parent.name], path.read_bytes())


def test_a_broken_promise_is_noticed(monkeypatch):
    """A target says so when a reader lies, takes too long, or fails in another way than it may."""
    names = fuzzing["npy"].__globals__
    monkeypatch.setitem(names, "read_npy", lambda _data: np.ones((1,), np.uint8))
    with pytest.raises(Broken, match="as NumPy"):
        check(TARGETS["npy"], npy(np.ones((2, 2))))
    monkeypatch.setitem(names, "MAX_SECONDS", 0.01)
    with pytest.raises(Broken, match="takes"):
        check(lambda _: str(sum(range(2_000_000))), b"")
    with pytest.raises(ZeroDivisionError):
        check(lambda _: str(1 / 0), b"")


def test_repairs_leave_files_readable():
    """A PNG and an array that are whole are so after their repair, and a changed one becomes so."""
    (whole,) = (data for data in SEEDS["image"] if data.startswith(b"\x89PNG") and len(data) == 299)
    assert guided["repaired_png"](whole, random.Random(1)) == whole
    broken = whole[:29] + b"\0\0\0\0" + whole[33:]
    assert guided["repaired_png"](broken, random.Random(1)) == whole
    assert zlib.crc32(whole[12:29]) == struct.unpack(">I", whole[29:33])[0]
