"""Data sets to codes of several stages, in every form of the shards."""

from __future__ import annotations

import io
import json
import tarfile

import numpy as np
import pyarrow.parquet as pq
import pytest

from tessera_client import Codes


@pytest.fixture
def tessera(command, staged_bundle):
    """The command with the model of two stages: arguments → exit code, output, errors."""
    return command(staged_bundle.parent)


@pytest.fixture
def codes(tessera, photos, tmp_path):
    """What encoding gives of the photographs: further arguments → codes."""

    def make(*arguments: object) -> Codes:
        path = tmp_path / "encoded.tess"
        assert tessera("encode", photos, *arguments, "-o", path)[0] == 0
        return Codes.load(path)

    return make


def test_one_size_is_one_array_with_an_axis_of_stages(tessera, codes, photos, tmp_path):
    """`[n, stages, rows, columns]`, and with one stage the form that it always had."""
    size = ("--size", "40x24")
    assert tessera("tokenize", photos, tmp_path / "both", *size)[0] == 0
    assert tessera("tokenize", photos, tmp_path / "first", *size, "--stages", 1)[0] == 0
    both, first = (np.load(tmp_path / name / "00000.npy") for name in ("both", "first"))
    assert (both.shape[1:], first.shape[1:]) == ((2, 3, 5), (3, 5))
    assert np.array_equal(both, np.stack([grid.codes for grid in codes(*size)]))
    assert np.array_equal(both[:, 0], first)
    for name, stages, sizes in (("both", 2, [16]), ("first", 1, [])):
        job = json.loads((tmp_path / name / "manifest.json").read_text())["job"]
        assert (job["stages"], job["residual_sizes"]) == (stages, sizes)


def test_images_of_their_own_sizes_have_offsets(tessera, codes, photos, tmp_path):
    """Stage after stage, at the offset that the image has."""
    out = tmp_path / "out"
    assert tessera("tokenize", photos, out)[0] == 0
    flat = np.load(out / "00000.npy")
    images = json.loads((out / "00000.json").read_text())["images"]
    for image, grid in zip(images, codes(), strict=True):
        shape = (2, image["rows"], image["columns"])
        end = image["offset"] + np.prod(shape)
        assert np.array_equal(flat[image["offset"] : end].reshape(shape), grid.codes)
    assert end == len(flat)


def test_parquet_states_the_stages(tessera, codes, photos, tmp_path):
    """A column of their number; codes stage after stage."""
    out = tmp_path / "out"
    assert tessera("tokenize", photos, out, "--format", "parquet")[0] == 0
    rows = pq.read_table(out / "00000.parquet").to_pylist()
    for row, grid in zip(rows, codes(), strict=True):
        shape = (row["stages"], row["rows"], row["columns"])
        assert np.array_equal(np.array(row["codes"]).reshape(shape), grid.codes)


def test_webdataset_has_an_array_for_each_image(tessera, codes, photos, tmp_path):
    """Of the shape that its codes have."""
    out = tmp_path / "out"
    assert tessera("tokenize", photos, out, "--format", "webdataset")[0] == 0
    with tarfile.open(out / "00000.tar") as tar:
        found = [np.load(io.BytesIO(tar.extractfile(member).read())) for member in tar]
    for one, grid in zip(found, codes(), strict=True):
        assert np.array_equal(one, grid.codes)


def test_another_number_of_stages_is_another_job(tessera, photos, tmp_path):
    """Shards of both never mix; what the model hasn't is misuse, before anything is written."""
    out = tmp_path / "out"
    assert tessera("tokenize", photos, out, "--size", "16x16")[0] == 0
    code, _, said = tessera("tokenize", photos, out, "--size", "16x16", "--stages", 1)
    assert (code, "--stages 2 then, 1 now" in said) == (1, True)
    code, _, said = tessera("tokenize", photos, tmp_path / "new", "--stages", 3)
    assert (code, "--stages: must be 1 to 2" in said) == (2, True)
