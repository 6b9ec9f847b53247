"""Training a recognizer: it learns, repeats itself, and keeps the best epoch."""

import dataclasses

import numpy as np
import pytest
import torch

from training.recognition.bundle import split_by_class
from training.recognition.calibration import (
    negative_log_likelihood,
)
from training.recognition.dataset import CodeSource
from training.recognition.network import Recognizer, initial_vectors
from training.recognition.trainer import score, train


def test_a_separable_task_is_learnt(learnt, task):
    """Classes that share no code: every grid is recognized, whatever its size."""
    views, labels = task
    grids = [views.grid(i, 0) for i in range(len(labels))]
    with torch.no_grad():
        taken = [int(learnt.network(torch.from_numpy(g[None]))[0].argmax()) for g in grids]
    assert taken == labels.tolist()


def test_the_same_seed_gives_the_same_weights(codebook, task, small, quick):
    """Bit by bit, and another seed gives others."""
    views, labels = task
    fit, held_out = split_by_class(labels, 0.25, 0)

    def weights(seed):
        torch.manual_seed(seed)
        network = Recognizer(initial_vectors(torch.from_numpy(codebook), None), 2, small)
        recipe = dataclasses.replace(quick, epochs=2, seed=seed)
        trained = train(network, CodeSource(views, labels), fit, held_out, recipe)
        return torch.cat([w.flatten() for w in trained.network.parameters()])

    first = weights(3)
    assert torch.equal(first, weights(3))
    assert not torch.equal(first, weights(4))


def test_the_best_epoch_is_kept(codebook, task, small, quick):
    """With a rate that destroys what was learnt, the weights kept are of an earlier epoch."""
    views, labels = task
    fit, held_out = split_by_class(labels, 0.25, 0)
    network = Recognizer(initial_vectors(torch.from_numpy(codebook), None), 2, small)
    source, told = CodeSource(views, labels), []
    recipe = dataclasses.replace(quick, epochs=30, patience=3, average=0.0, rate=0.5)
    trained = train(network, source, fit, held_out, recipe, told.append)
    losses = [epoch.loss for epoch in told]
    assert trained.best_epoch == int(np.argmin(losses)) + 1
    assert trained.epochs == len(losses) <= trained.best_epoch + 3
    kept = score(trained.network, source, held_out)
    assert negative_log_likelihood(kept, labels[held_out]) == pytest.approx(min(losses), rel=1e-4)
