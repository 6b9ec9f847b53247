"""A prior runs as its bundle says, and a broken one is refused when it is loaded."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest

from app.runtime.device import Device
from app.runtime.engine import Graphs
from app.runtime.prior import Prior
from app.runtime.registry import ModelsRefused, load_models
from app.runtime.sessions import GraphRefused
from bundle import open_bundle, write_bundle

CPU = Device("cpu", 0, 1)


@pytest.fixture(scope="module")
def bundle(tiny_bundle):
    return open_bundle(tiny_bundle)


@pytest.fixture(scope="module")
def prior(bundle):
    return Prior(bundle, bundle.manifest.prior)


def changed(bundle, folder, graph, change):
    """A copy of the bundle with other numbers in one graph."""
    files = {name: bundle.read(name) for name in bundle.manifest.files}
    model = onnx.load_from_string(files[f"{graph}.onnx"])
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor).copy()
        tensor.CopyFrom(onnx.numpy_helper.from_array(change(tensor.name, values), tensor.name))
    files[f"{graph}.onnx"] = model.SerializeToString()
    return write_bundle(folder / "tiny", bundle.manifest, files)


def test_frequencies_don_t_depend_on_the_batch(prior):
    """Alone or among a thousand, a place has the same."""
    neighbours = np.random.default_rng(0).integers(0, 257, (1000, 18), dtype=np.int32)
    together, state = prior.groups(0, neighbours)
    groups = np.arange(1000, dtype=np.int32) % 16
    inside = prior.members(0, state, groups)
    for i in (0, 1, 500, 999):
        alone, of_one = prior.groups(0, neighbours[i : i + 1])
        assert np.array_equal(alone[0], together[i])
        assert np.array_equal(prior.members(0, of_one, groups[i : i + 1])[0], inside[i])


def test_other_graphs_are_not_loaded_twice(bundle):
    """What runs pictures holds no session of the prior."""
    assert not {"prior", "prior-members"} & set(Graphs(bundle, CPU, "fp32")._sessions)


def test_a_prior_that_forgets_a_code_is_refused(bundle, tmp_path):
    """One code twice and another never could not be coded."""

    def twice(name, values):
        if name == "members_of_groups":
            values[0, 0] = values[0, 1]
        return values

    broken = changed(bundle, tmp_path, "prior", twice)
    with pytest.raises(GraphRefused, match="every code once"):
        Prior(broken, broken.manifest.prior)
    with pytest.raises(ModelsRefused, match="every code once"):
        load_models(tmp_path, None, CPU, "fp32")


@pytest.mark.parametrize(("graph", "what"), [("prior", "group"), ("prior-members", "code")])
@pytest.mark.parametrize("frequency", [0, -1, 1 << 24])
def test_impossible_frequencies_are_refused(bundle, tmp_path, graph, what, frequency):
    """Nothing, less than nothing, or more than the coder has room for."""

    def wrong(name, values):
        return np.full_like(values, frequency) if name == "frequency_table" else values

    broken = changed(bundle, tmp_path, graph, wrong)
    with pytest.raises(GraphRefused, match=f"frequency for each {what}"):
        Prior(broken, broken.manifest.prior)


def test_a_prior_that_looks_at_other_neighbours_is_refused(bundle, tmp_path):
    """Manifest and graph agree on how many there are."""
    (stage,) = bundle.manifest.prior.stages
    fewer = dataclasses.replace(stage, neighbours=stage.neighbours[1:])
    entry = dataclasses.replace(bundle.manifest.prior, stages=(fewer,))
    with pytest.raises(GraphRefused, match="doesn't run"):
        Prior(bundle, entry)
