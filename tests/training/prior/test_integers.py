"""Whole numbers compute what the network does, and the graphs what the whole numbers do."""

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator

from training.onnx_export.parity import ParityError
from training.prior.bundle import prove, stage_graphs
from training.prior.graph import groups_graph, members_graph
from training.prior.integers import TooLarge, digest, integers_of
from training.prior.network import MOST_WEIGHT, rounded, weight_shift


def random_places(network, count, seed=0):
    random = np.random.default_rng(seed)
    neighbours = np.stack(
        [random.integers(0, 41, count) for _ in network.neighbours], axis=1
    ).astype(np.int32)
    return neighbours, random.integers(0, network.codes.max() + 1, count)


@pytest.mark.parametrize("count", [40, 70, 256])
def test_whole_numbers_cost_what_the_network_says(make_network, count):
    """Within the grid of the frequencies, the bits of a code are those that training minimised."""
    network = make_network(count)
    neighbours, codes = random_places(network, 500)
    with torch.no_grad():
        wanted = network.bits(torch.from_numpy(neighbours).long(), torch.from_numpy(codes)).numpy()
    found = integers_of(network).bits(neighbours, codes)
    # A rare symbol has a frequency of few units, and at last of 1, however rare it is.
    near = wanted < 8
    assert near.any()
    assert np.abs(found - wanted)[near].max() < 0.5
    assert abs(found[near].mean() - wanted[near].mean()) < 0.01


@pytest.mark.parametrize("count", [40, 70, 256])
@pytest.mark.parametrize("stage", [0, 1])
def test_graphs_give_the_same_frequencies(make_network, count, stage):
    """ONNX Runtime computes what NumPy does, for one place and for thousands."""
    network = make_network(count, stage=stage)
    graphs = stage_graphs(integers_of(network), stage)
    assert prove(graphs, *random_places(network, 5000)) == 1 + 3 + 64 + 4096


def test_the_standards_own_evaluator_agrees(make_network):
    """ONNX's reference implementation, which shares nothing with ONNX Runtime, gives the same."""
    network = make_network(70)
    stage = integers_of(network)
    neighbours, codes = random_places(network, 50)
    groups = (codes % len(stage.codes)).astype(np.int32)
    frequencies, state = stage.group_frequencies(neighbours)
    first = ReferenceEvaluator(onnx.load_from_string(groups_graph(stage)))
    second = ReferenceEvaluator(onnx.load_from_string(members_graph(stage)))
    made, given, _ = first.run(None, {"neighbours": neighbours})
    (inside,) = second.run(None, {"state": given, "groups": groups})
    assert np.array_equal(made, frequencies)
    assert np.array_equal(given, state)
    assert np.array_equal(inside, stage.member_frequencies(state, groups))


def test_a_graph_that_differs_is_not_proven(make_network):
    """One weight off by one is noticed."""
    network = make_network(70)
    good = integers_of(network)
    graphs = stage_graphs(good, 0)
    good.context.weight[0, 0] += 1
    with pytest.raises(ParityError):
        prove(graphs, *random_places(network, 5000))


def test_graphs_hold_integers_alone(make_network):
    """No float in them: no operator whose result depends on the machine."""
    stage = integers_of(make_network(256))
    for graph in (groups_graph(stage), members_graph(stage)):
        model = onnx.shape_inference.infer_shapes(onnx.load_from_string(graph))
        floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
        assert all(t.data_type not in floats for t in model.graph.initializer)
        values = [*model.graph.value_info, *model.graph.output]
        assert all(v.type.tensor_type.elem_type not in floats for v in values)


def test_two_products_fit_into_sixteen_bits(make_network):
    """So that processors which add them up there (AVX2) are exact too."""
    stage = integers_of(make_network(256))
    for name, values in stage.tensors().items():
        if name.endswith(".weight"):
            assert np.abs(values.astype(int)).max() <= MOST_WEIGHT
    assert 2 * 255 * MOST_WEIGHT < 2**15


def test_too_wide_a_network_is_refused(make_network):
    """A sum that could pass 2²⁴ means that nothing is written."""
    network = make_network(70, hidden=2000)
    with torch.no_grad():
        network.hidden.weight.fill_(1.9)
    with pytest.raises(TooLarge, match="narrower"):
        integers_of(network)


def test_the_digest_is_of_the_numbers(make_network):
    """One number changed gives another; exporting anew doesn't."""
    stage = integers_of(make_network(70))
    first = digest([stage])
    assert digest([integers_of(make_network(70))]) == first
    stage.groups.bias[0] += 1
    assert digest([stage]) != first


def test_rounding_passes_gradients_through():
    """Training goes on under rounding."""
    value = torch.tensor([0.2, 0.5, -1.5], requires_grad=True)
    made = rounded(value)
    made.sum().backward()
    assert made.tolist() == [0.0, 1.0, -1.0]
    assert value.grad.tolist() == [1.0, 1.0, 1.0]


def test_shifts_use_the_range_and_no_more():
    """The largest weight of a row comes to 32 … 63 steps."""
    weight = torch.tensor([[0.3, -0.01], [2.0, 0.5]])
    steps = (weight * 2 ** weight_shift(weight, by_row=True)).abs().amax(dim=1)
    assert ((steps > 31) & (steps <= MOST_WEIGHT)).all()
