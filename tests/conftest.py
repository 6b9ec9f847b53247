"""What tests of all packages share: real files, and the application behind a real socket."""

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import pytest
import uvicorn

from app.server.app import create_app
from app.server.http_protocol import HttpProtocol
from app.settings import read_settings

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
def staged_bundle() -> Path:
    """A bundle of two stages and two decoders (make.py beside it); not to be changed."""
    return DATA / "staged" / "tiny-staged"


@pytest.fixture(scope="session")
def channels_bundles() -> Path:
    """A folder of two bundles, grey of 16 bits and seven channels; not to be changed."""
    return DATA / "channels"


@pytest.fixture(scope="session")
def photos() -> Path:
    """A handful of small photographs with free licences (see LICENCES.csv beside them)."""
    return DATA / "photos"


@contextmanager
def running(**environment: object):
    """Serve the application on a free port, in a thread, until every model has run.

    Args:
        environment: settings, named as the variables are without `TESSERA_`, lower case.

    Yields:
        A client of it; its `app` is the application, its `server` what serves it.
    """
    settings = read_settings(
        {f"TESSERA_{name.upper()}": str(value) for name, value in environment.items()}
    )
    app = create_app(settings)
    server = uvicorn.Server(
        uvicorn.Config(
            app, port=0, http=HttpProtocol, log_config=None, access_log=False, lifespan="on"
        )
    )
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    try:
        deadline = time.monotonic() + 60
        while not server.started and thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            client.app, client.server = app, server
            while client.get("/readyz").status_code != 200 and time.monotonic() < deadline:
                time.sleep(0.02)
            yield client
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="session")
def run_app():
    """How to serve with other settings, as a context manager: see `running`."""
    return running


@pytest.fixture(scope="session")
def client(tiny_bundle):
    """A client of the service with default settings and the tiny model."""
    with running(models_dir=tiny_bundle.parent) as client:
        yield client
