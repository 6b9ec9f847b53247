"""A task that a small recognizer learns in a second, and what it learnt."""

import dataclasses

import numpy as np
import pytest

from training.recognition.augmented_views import Views
from training.recognition.bundle import learn
from training.recognition.network import Layout
from training.recognition.trainer import Recipe

CODES = 64


@pytest.fixture(scope="session")
def small():
    """The layout of a network that trains in a second."""
    return Layout(table=24, widths=(16, 16), depths=(1, 1))


@pytest.fixture(scope="session")
def wide(small):
    """The same, with a table for 8 numbers of the codebook and 64 of co-occurrence."""
    return dataclasses.replace(small, table=72)


@pytest.fixture(scope="session")
def quick():
    """How that network is trained."""
    return Recipe(epochs=12, batch=8, bf16=False, rate=1e-2)


@pytest.fixture(scope="session")
def codebook():
    """Vectors of 64 codes."""
    return np.random.default_rng(0).normal(size=(CODES, 8)).astype(np.float32)


@pytest.fixture(scope="session")
def task():
    """Grids of two sizes whose class is the half of the codebook that their codes come from."""
    random = np.random.default_rng(1)
    labels = np.arange(48) % 2
    shapes = [(5, 7) if i % 3 else (6, 6) for i in range(48)]
    flat = [
        np.concatenate(
            [
                random.integers(0, CODES // 2, rows * columns) + CODES // 2 * label
                for (rows, columns), label in zip(shapes, labels, strict=True)
            ]
        ).astype(np.uint16)
        for _ in range(3)
    ]
    return Views(shapes, flat), labels


@pytest.fixture(scope="session")
def learnt(codebook, task, wide, quick):
    """What was learnt from the task."""
    views, labels = task
    return learn(codebook, views, labels, 2, 8, layout=wide, recipe=quick, held_out_share=0.25)
