"""The real service, as a process of its own, with the tiny model."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@contextmanager
def serving(**settings: object):
    """Start the service with these settings, wait until it is ready, and yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TESSERA_")}
    environment |= {f"TESSERA_{name.upper()}": str(value) for name, value in settings.items()}
    environment |= {"TESSERA_HOST": "127.0.0.1", "TESSERA_PORT": str(port)}
    process = subprocess.Popen(
        [sys.executable, "-m", "app", "serve"],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if httpx.get(f"{address}/readyz").status_code == 200:
                    break
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        assert process.poll() is None, "the service ended"
        yield address
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="session")
def address(tiny_bundle):
    """Of a service with small limits, so that few images meet them."""
    with serving(
        models_dir=tiny_bundle.parent,
        api_keys="right",
        max_images=3,
        max_queue=6,
        max_body_bytes=200_000,
    ) as address:
        yield address


@pytest.fixture(scope="session")
def recognizing(recognizing_bundle):
    """Of a service whose model carries recognizers, with small limits too."""
    with serving(models_dir=recognizing_bundle.parent, max_images=3, max_queue=6) as address:
        yield address


@pytest.fixture(scope="session")
def pictures() -> list[np.ndarray]:
    """A dozen of noise, three sizes."""
    random = np.random.default_rng(0)
    sizes = [(16, 24), (9, 21), (40, 8)]
    return [random.integers(0, 256, (*sizes[i % 3], 3), dtype=np.uint8) for i in range(12)]
