"""The recognizer's network: its map, and what export makes of it."""

import numpy as np
import pytest
import torch

from training.onnx_export.graphs import session_of
from training.onnx_export.parity import prove_recognizer
from training.recognition.network import Recognizer, initial_vectors, prepare_for_export


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 1), (7, 5), (16, 16), (33, 2)])
def test_logits_are_the_mean_of_the_map_plus_bias(learnt, codebook, shape):
    """In the exported graph, at any grid size; and the graph is what was trained."""
    codes = np.random.default_rng(2).integers(0, len(codebook), (3, *shape))
    logits, activation = session_of(learnt.graph).run(["logits", "map"], {"codes": codes})
    assert activation.shape == (3, 2, *shape)
    bias = learnt.network.head.bias.numpy()
    close = 1e-5 * np.abs(activation).max()
    np.testing.assert_allclose(logits, activation.mean(axis=(2, 3)) + bias, atol=close)
    with torch.no_grad():
        wanted = learnt.network(torch.from_numpy(codes))
    np.testing.assert_allclose(logits, wanted[0], atol=close)
    np.testing.assert_allclose(activation, wanted[1], atol=close)


def test_finishing_changes_nothing_but_temperature_and_rounding(codebook, wide):
    """Without rounding, folded normalisation and stem give the same map, over the temperature."""
    torch.manual_seed(0)
    network = Recognizer(initial_vectors(torch.from_numpy(codebook), None), 3, wide)
    codes = torch.randint(0, len(codebook), (8, 6, 7))
    for _ in range(3):  # so that the statistics and the scales aren't those of a new network
        network.train()(codes)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias)
    with torch.no_grad():
        wanted = network.eval()(codes)[0] / 2.5
        made = prepare_for_export(network, 2.5)(codes)[0]
    assert (made - wanted).abs().max() < 0.03 * wanted.abs().max()
    assert (made - network(codes)[0] / 2.4).abs().max() > (made - wanted).abs().max()


def test_the_proof_sees_another_network(learnt, task):
    """The parity figure of the network itself is near zero; of a changed one, it is not."""
    grids = [task[0].grid(i, 0) for i in range(6)]
    session = session_of(learnt.graph)
    assert prove_recognizer(learnt.network, session, grids).score_error < 1e-5
    with torch.no_grad():
        other = prepare_for_export(learnt.network, 1.01)
    assert prove_recognizer(other, session, grids).score_error > 1e-3
