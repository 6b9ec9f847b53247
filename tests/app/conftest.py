"""What the service's tests share: the application behind a real socket, and small images."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import contextmanager

import httpx
import pytest
import uvicorn

from app.main import create_app
from app.server import Protocol
from app.settings import read_settings


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
        uvicorn.Config(app, port=0, http=Protocol, log_config=None, access_log=False, lifespan="on")
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
