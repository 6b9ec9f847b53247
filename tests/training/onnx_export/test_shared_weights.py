"""Shared weights: what moves into the file, and that a graph computes the same afterwards."""

import copy

import numpy as np
import onnx
import pytest
import torch

from training.onnx_export.graphs import (
    EncoderGraph,
    export_graph,
    graph_signatures,
    run,
    session_of,
)
from training.onnx_export.shared_weights import rounded_to_half, share_weights
from training.tokenizer.model import Tokenizer


@pytest.fixture(scope="module")
def model(tiny):
    """A tokenizer of random weights."""
    torch.manual_seed(0)
    model = Tokenizer(tiny).eval().requires_grad_(requires_grad=False)
    for weight in model.parameters():
        weight.normal_(std=0.1)  # the blocks' second convolutions begin at zero
    return model


@pytest.fixture(scope="module")
def graph(model):
    """The encoder of the rounded network, weights inside."""
    rounded = copy.deepcopy(rounded_to_half(model))
    return export_graph(EncoderGraph(rounded), graph_signatures(model, 8)["encoder"], 8)


def test_a_graph_computes_the_same_with_its_weights_in_a_file(graph):
    """To the last bit, from fewer bytes."""
    shared, files = share_weights({"fp32": graph}, "encoder.weights")
    assert list(files) == ["encoder.weights"]
    assert len(shared["fp32"]) + len(files["encoder.weights"]) < 0.8 * len(graph)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 48, 3), np.uint8)
    wanted = run(session_of(graph), pixels)
    made = run(session_of(shared["fp32"], weights=files), pixels)
    np.testing.assert_array_equal(made, wanted)


def test_weights_that_half_precision_cannot_hold_stay_inside(model):
    """A graph of weights that weren't rounded is left as it is."""
    encoder = copy.deepcopy(model)
    graph = export_graph(EncoderGraph(encoder), graph_signatures(model, 8)["encoder"], 8)
    shared, files = share_weights({"fp32": graph}, "encoder.weights")
    assert shared == {"fp32": graph}
    assert files == {}


def test_names_of_the_weights_stay(graph):
    """Whoever starts from a bundle finds them by the names that they have in the trainer."""
    shared, _ = share_weights({"fp32": graph}, "encoder.weights")
    before, after = (
        {t.name: list(t.dims) for t in onnx.load_from_string(content).graph.initializer}
        for content in (graph, shared["fp32"])
    )
    assert after == before


def test_rounding_changes_large_weights_alone(model):
    """Biases stay exact, and rounding twice is rounding once."""
    once = rounded_to_half(model)
    for (name, old), new in zip(model.named_parameters(), once.parameters(), strict=True):
        large = old.ndim >= 2 and old.numel() >= 1024
        assert torch.equal(old, new) != (large and not torch.equal(old.half().float(), old)), name
    for a, b in zip(once.parameters(), rounded_to_half(once).parameters(), strict=True):
        assert torch.equal(a, b)
