"""Context coding: exact round trips, independent images, golden files, a second reader, damage."""

from __future__ import annotations

import json
import runpy
import struct
import zlib
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.codecs.code_file import CodedFile, CodedGrid
from app.codecs.context_coder import (
    bits_of_grids,
    code_grids,
    coded_grid,
    decode_grids,
    decoded_grid,
)
from app.codecs.grids import CodeGrid
from app.codecs.tess import pack_coded, read_tess, unpack_codes
from app.codecs.wavefront import Wavefront, slant
from app.errors import MalformedRequest
from app.runtime.prior import Prior
from bundle import open_bundle

DATA = Path(__file__).parents[2] / "data"
GOLDEN = sorted((DATA / "context_codes").glob("*.tess"))
LIMITS = {"max_images": 16, "max_pixels": 1_000_000}
second = runpy.run_path(str(Path(__file__).with_name("context_reader.py")))


@pytest.fixture(scope="module")
def bundle(tiny_bundle):
    return open_bundle(tiny_bundle)


@pytest.fixture(scope="module")
def prior(bundle):
    return Prior(bundle, bundle.manifest.prior)


def random_grid(seed: int, rows: int, columns: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (1, rows, columns))


def file_of(prior, bundle, grids: list[CodeGrid]) -> bytes:
    manifest = bundle.manifest
    data = code_grids(prior, [grid.codes[None] for grid in grids])
    coded = [coded_grid(prior, grid, one) for grid, one in zip(grids, data, strict=True)]
    file = CodedFile(manifest.code_space, manifest.codebook_size, manifest.stride, "fp32", coded)
    return pack_coded(file)


def read(prior, data: bytes) -> list[CodeGrid]:
    file = read_tess(data, **LIMITS)
    made = decode_grids(prior, [(grid.data, grid.shape) for grid in file.grids])
    return [decoded_grid(grid, codes[0]) for grid, codes in zip(file.grids, made, strict=True)]


def sealed(body: bytes) -> bytes:
    return body + struct.pack("<I", zlib.crc32(body))


@given(st.lists(st.tuples(st.integers(0, 999), st.integers(1, 9), st.integers(1, 9)), min_size=1))
def test_round_trip(prior, sizes):
    """Any grids of any sizes, together, come back the same."""
    grids = [random_grid(*size) for size in sizes]
    shapes = [grid.shape[1:] for grid in grids]
    made = decode_grids(prior, list(zip(code_grids(prior, grids), shapes, strict=True)))
    assert all(np.array_equal(a, b) for a, b in zip(made, grids, strict=True))


def test_an_image_is_coded_the_same_alone_and_among_others(prior):
    """A batch of one and a batch of sixty-four give the same bytes."""
    grids = [random_grid(i, 3 + i % 5, 2 + i % 7) for i in range(64)]
    assert code_grids(prior, grids) == [code_grids(prior, [grid])[0] for grid in grids]


def test_bits_are_the_length_of_the_bytes(prior):
    """What the codes cost adds up to the file, up to two bytes."""
    grids = [random_grid(1, 20, 30), random_grid(2, 9, 4)]
    for coded, bits in zip(code_grids(prior, grids), bits_of_grids(prior, grids), strict=True):
        assert bits.sum() / 8 - 1 < len(coded) < bits.sum() / 8 + 2


def test_the_codes_that_it_learnt_from_take_fewer_bits(prior):
    """Photographs' codes are cheaper than random ones, which cost more than their eight bits."""
    golden = json.loads(GOLDEN[0].with_suffix(".json").read_text("utf-8"))
    codes = np.array(golden["images"][0]["codes"])[None]
    real, noise = bits_of_grids(prior, [codes, random_grid(0, 30, 30)])
    assert real.mean() < 7.5 < 8 < noise.mean()


def test_golden_files_are_there():
    """Two of them: one image, and several of odd sizes."""
    assert [path.stem for path in GOLDEN] == ["one", "several"]


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_files(prior, bundle, path):
    """The committed files are read as their companions say, and written byte for byte, for ever."""
    expected = json.loads(path.with_suffix(".json").read_text("utf-8"))["images"]
    grids = read(prior, path.read_bytes())
    found = [
        {"name": g.name or "", "width": g.width, "height": g.height, "codes": g.codes.tolist()}
        for g in grids
    ]
    assert found == expected
    assert file_of(prior, bundle, grids) == path.read_bytes()


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_second_reader_agrees(tiny_bundle, path):
    """A reader in plain NumPy, from the pages alone, decodes the golden files."""
    expected = json.loads(path.with_suffix(".json").read_text("utf-8"))["images"]
    numpy_prior = second["NumPyPrior"](tiny_bundle)
    assert second["read_context_tess"](path.read_bytes(), numpy_prior) == expected


def test_the_digest_is_of_the_numbers(tiny_bundle):
    """A reader that has the numbers alone computes the digest in the manifest."""
    numpy_prior = second["NumPyPrior"](tiny_bundle)
    assert numpy_prior.computed_digest() == numpy_prior.digest


@pytest.mark.parametrize("threads", [1, 2, 8])
@pytest.mark.parametrize("level", ["ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_ALL"])
def test_threads_and_optimizations_change_no_frequency(bundle, prior, threads, level):
    """Whatever ONNX Runtime does with the graphs, they give the same bytes."""

    def session(graph):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        return onnxruntime.InferenceSession(
            bundle.read_graph(graph, "fp32"), options, providers=["CPUExecutionProvider"]
        )

    other = Prior(bundle, bundle.manifest.prior)
    other._groups, other._members = [session("prior")], [session("prior-members")]
    grids = [random_grid(5, 33, 21)]
    assert code_grids(other, grids) == code_grids(prior, grids)


def test_a_file_takes_as_many_bytes_as_the_page_says(prior, bundle):
    """Header, 21 bytes and the name of each image, 12 more, and what the coder wrote."""
    grid = CodeGrid(random_grid(3, 2, 3)[0], 24, 16, "a.png")
    coded = code_grids(prior, [grid.codes[None]])[0]
    assert len(file_of(prior, bundle, [grid])) == 56 + 21 + 5 + 12 + len(coded) + 4


def test_readers_of_method_0_refuse_it_clearly():
    """What reads fixed-width codes alone says that the codes are coded by their context."""
    with pytest.raises(MalformedRequest, match="context"):
        unpack_codes(GOLDEN[0].read_bytes(), **LIMITS)


def test_other_codes_than_were_coded_are_never_returned(prior, bundle):
    """Damage that the file's own CRC doesn't tell is told by the codes', or by the coder."""
    whole = file_of(prior, bundle, [CodeGrid(random_grid(4, 12, 12)[0], 96, 96)])
    start = 56 + 21 + 12
    for at in range(start, len(whole) - 4, 7):
        body = bytearray(whole[:-4])
        body[at] ^= 0x10
        with pytest.raises(MalformedRequest):
            read(prior, sealed(bytes(body)))


@pytest.mark.parametrize("length", [0, 11, 12 + 6 * 4 + 9, 2**32 - 1])
def test_impossible_lengths_are_refused_before_any_work(length):
    """The coded bytes of a grid have bounds that follow from its size."""
    data = bytearray(GOLDEN[0].read_bytes()[: 56 + 21])
    data[20:24] = struct.pack("<I", 1)
    data[56:76] = struct.pack("<5I", 16, 16, 2, 2, length)
    data[76] = 0
    with pytest.raises(MalformedRequest, match="impossible length"):
        read_tess(sealed(bytes(data) + bytes(max(12, min(length, 64)))), **LIMITS)


def test_a_large_claim_ends_soon(prior):
    """A few bytes that claim a large grid are refused after as much work as bytes can pay for."""
    steps = []

    class Counted:
        digest, neighbours, codes = prior.digest, prior.neighbours, prior.codes

        def groups(self, stage, neighbours):
            steps.append(len(neighbours))
            return prior.groups(stage, neighbours)

        members = staticmethod(prior.members)

    with pytest.raises(MalformedRequest):
        decode_grids(Counted(), [(b"\x5a" * 40, (512, 512))])
    assert sum(steps) < 5000


def test_the_slant_follows_from_the_neighbours():
    """A row begins as soon as the farthest neighbour above to the right is known."""
    assert slant([(0, 0, -1)], 0) == 1
    assert slant([(0, -1, 0), (0, -1, -3)], 0) == 1
    assert slant([(0, -1, 2)], 0) == 3
    assert slant([(0, -2, 3)], 0) == 2
    with pytest.raises(ValueError, match="can't know"):
        slant([(0, 0, 1)], 0)


def test_later_stages_see_earlier_ones_everywhere():
    """Codes of a stage that is known may lie below and to the right."""
    stages = [[(0, 0, -1)], [(0, 0, 0), (0, 1, 1), (1, 0, -1)]]
    wave = Wavefront([(2, 2)], stages, [9, 5])
    wave.set_grid(0, 0, np.array([[1, 2], [3, 4]]))
    wave.begin(1)
    assert wave.neighbours(slice(0, 1)).tolist() == [[1, 4, 5]]


def test_stages_round_trip(prior):
    """Two stages of codes, the second told by the first, come back the same; so does one alone."""

    class TwoStages:
        digest = "0" * 64
        neighbours = ([(0, 0, -1)], [(0, 0, 0), (1, 0, -1)])
        codes = (np.arange(4, dtype=np.int32)[:, None], np.arange(3, dtype=np.int32)[:, None])

        def groups(self, stage, neighbours):
            likely = neighbours.sum(axis=1) % len(self.codes[stage])
            frequencies = np.ones((len(neighbours), len(self.codes[stage])), dtype=np.int32)
            frequencies[np.arange(len(neighbours)), likely] = 50
            return frequencies, np.zeros((len(neighbours), 1), np.uint8)

        def members(self, _stage, _state, groups):
            return np.ones((len(groups), 1), dtype=np.int32)

    random = np.random.default_rng(0)
    grid = np.stack([random.integers(0, 4, (5, 7)), random.integers(0, 3, (5, 7))])
    for stages in (2, 1):
        (coded,) = code_grids(TwoStages(), [grid[:stages]])
        (made,) = decode_grids(TwoStages(), [(coded, (5, 7))], stages)
        assert np.array_equal(made, grid[:stages])
        (bits,) = bits_of_grids(TwoStages(), [grid[:stages]])
        assert (bits.shape, len(coded) - 2 < bits.sum() / 8) == ((stages, 5, 7), True)


def test_a_coded_file_of_several_stages_says_how_many(bundle):
    """A packed file keeps the number of stages and the sizes of their codebooks."""
    coded = CodedGrid(b"abc", "ab" * 8, 7, (2, 3), 20, 10, "a.png", stages=3)
    file = CodedFile(bundle.manifest.code_space, 256, 8, "fp32", [coded], (16, 4))
    made = read_tess(pack_coded(file), **LIMITS)
    (grid,) = made.grids
    assert (made.residual_sizes, grid.stages, grid.shape, grid.data) == ((16, 4), 3, (2, 3), b"abc")


def test_coded_grids_keep_name_and_size(prior, bundle):
    """A file holds what people call an image, and its true size."""
    grid = CodeGrid(random_grid(6, 2, 3)[0], 21, 13, "ä.png")
    (back,) = read(prior, file_of(prior, bundle, [grid]))
    assert (back.name, back.width, back.height) == ("ä.png", 21, 13)
