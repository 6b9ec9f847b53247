"""What tests of all packages share: real files that are committed with them."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest

# Shared machines stall for moments: a slow draw or a late deadline says nothing about the code.
hypothesis.settings.register_profile(
    "tessera",
    deadline=None,
    max_examples=60,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("tessera")

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="session")
def cpu_seconds() -> Callable[[Callable[[], Any]], float]:
    """CPU seconds that a call takes: the least of five, as others can only make it slower."""

    def measure(call: Callable[[], Any]) -> float:
        taken = []
        for _ in range(5):
            start = time.process_time()
            call()
            taken.append(time.process_time() - start)
        return min(taken)

    return measure


@pytest.fixture(scope="session")
def tiny_bundle() -> Path:
    """The bundle of a small model, trained for seconds on photographs; not to be changed."""
    return DATA / "bundles" / "tiny"


@pytest.fixture(scope="session")
def recognizing_bundle() -> Path:
    """The tiny model with two recognizers made by hand (make.py beside it); not to be changed."""
    return DATA / "recognizing" / "tiny"


@pytest.fixture(scope="session")
def photos() -> Path:
    """A handful of small photographs with free licences (see LICENCES.csv beside them)."""
    return DATA / "photos"
