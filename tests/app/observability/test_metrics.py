"""What is counted."""

from __future__ import annotations

import numpy as np
import pytest

from app.observability.metrics import CodeUsage, Metrics


def values(usage):
    return {family.name: family.samples[0].value for family in usage.collect() if family.samples}


def test_perplexity_is_the_number_of_codes_evenly_used():
    """All of 16 codes alike give 16; a single one gives 1."""
    usage = CodeUsage()
    usage.add("m", 32, [np.arange(16).reshape(4, 4)] * 10)
    assert values(usage)["tessera_code_perplexity"] == pytest.approx(16)
    assert values(usage)["tessera_code_usage_ratio"] == pytest.approx(0.5)
    alone = CodeUsage()
    alone.add("m", 32, [np.zeros((8, 8), np.int64)])
    assert values(alone)["tessera_code_perplexity"] == pytest.approx(1)


def test_old_codes_are_forgotten():
    """What was encoded millions of codes ago says nothing of today's images."""
    usage = CodeUsage()
    usage.add("m", 4, [np.full((8, 8), 3)])
    for _ in range(24):
        usage.add("m", 4, [np.zeros((1024, 1024), np.int64)])
    assert values(usage)["tessera_code_perplexity"] == pytest.approx(1, abs=1e-3)
    assert values(usage)["tessera_code_usage_ratio"] == 0.25


def test_metrics_of_two_services_don_t_meet():
    """Each has a registry of its own."""
    one, two = Metrics(), Metrics()
    one.on_batch(3, 0.1)
    assert b"tessera_batch_items_sum 3.0" in one.exposition()
    assert b"tessera_batch_items_sum 0.0" in two.exposition()
