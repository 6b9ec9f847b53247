"""A real server process, and what must be true of it after every attack.

All tests here share one server with default limits and the tiny model. After each of them it must
still give the right codes, have answered nothing with a 5xx, have logged no stack, and have grown
by no more than a bound.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import re
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[3]
# What the server may keep of one attack, allocator's leftovers included.
KEPT = 100e6


@dataclass(frozen=True)
class Reply:
    """One answer.

    Attributes:
        status: its status; 0 where the server closed the connection without one.
        headers: by lower-case name; of several of a name the last.
        body: all of it.
        seconds: from the first byte sent to the last one received.
        grown: bytes by which the server's peak memory rose meanwhile.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float
    grown: int

    @property
    def code(self) -> str:
        """The code of the problem it reports, of any protocol; none in that of v2."""
        if "json" not in self.headers.get("content-type", ""):
            return "none"
        problem = json.loads(self.body)
        if isinstance(problem.get("error"), dict):  # as OpenAI's clients know it
            return problem["error"]["code"]
        assert problem.get("status", self.status) == self.status
        return problem.get("code", "none")


class Server:
    """The process under attack.

    Attributes:
        called: a file that exists once any of the programs has run that image libraries call.
    """

    def __init__(self, process: subprocess.Popen, port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self._log = log
        self.called = log.with_name("called")

    def log(self) -> str:
        """What it has written so far; its log is up to a tenth of a second late."""
        time.sleep(0.2)
        return self._log.read_text(errors="replace")

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def memory(self, field: str) -> int:
        """`VmRSS`, or `VmHWM`, its peak, in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{field}:\s+(\d+) kB", status)[1]) * 1024

    def raw(self, data: bytes, method: str = "POST") -> Reply:
        """Send bytes as they are, and read one answer."""
        before = self.memory("VmRSS")
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")  # the peak is now
        started = time.perf_counter()
        with self.connect() as connection:
            with suppress(OSError):  # refused before all of it was read: the answer is there
                connection.sendall(data)
            try:
                answer = http.client.HTTPResponse(connection, method=method)
                answer.begin()
                body = answer.read()
            except (OSError, http.client.HTTPException):
                return self._reply(0, {}, b"", started, before)
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return self._reply(answer.status, headers, body, started, before)

    def _reply(self, status, headers, body, started, before) -> Reply:
        grown = self.memory("VmHWM") - before
        return Reply(status, headers, body, time.perf_counter() - started, grown)

    def all_of(self, data: bytes) -> bytes:
        """Send bytes, and everything that comes back until the server closes, 30 s at most.

        What it would keep the connection open for has to ask for an end: `Connection: close`.
        """
        with self.connect() as connection:
            connection.settimeout(30)
            received = b""
            try:
                connection.sendall(data)
                while chunk := connection.recv(65_536):
                    received += chunk
            except OSError:
                pass
            return received

    def post(self, path: str, body: bytes, kind: str = "image/png", **headers: str) -> Reply:
        """A well-formed request with this body."""
        lines = {"host": "h", "content-type": kind, "content-length": str(len(body))} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return self.raw(f"POST {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body)

    def get(self, path: str) -> Reply:
        return self.raw(f"GET {path} HTTP/1.1\r\nhost: h\r\n\r\n".encode("latin-1"), "GET")

    def failures(self) -> list[str]:
        """The statuses from 500 on that it has answered with, of all requests so far."""
        text = self.get("/metrics").body.decode()
        found = re.findall(r'tessera_requests_total\{.*status="5\d\d"\}.*', text)
        return [line for line in found if 'route="/readyz"' not in line]


@contextmanager
def started(folder: Path, **settings: str) -> Iterator[Server]:
    """A server, ready, with its log and what it must not call in `folder`; ended afterwards."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    log = folder / "log"
    for name in ("gs", "gswin64c", "djpeg", "cjpeg", "convert", "magick", "ppmtogif", "sh", "xv"):
        program = folder / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/bash\ntouch {folder / 'called'}\nexit 1\n")
        program.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TESSERA_")}
    given = {f"TESSERA_{name.upper()}": value for name, value in settings.items()}
    given |= {"TESSERA_HOST": "127.0.0.1", "TESSERA_PORT": str(port)}
    given["PATH"] = f"{folder / 'bin'}:{os.environ['PATH']}"
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "app", "serve"],
            cwd=ROOT,
            env=kept | given,
            stdout=stream,
            stderr=stream,
        )
    server = Server(process, port, log)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if server.get("/readyz").status == 200:
                    break
            except OSError:
                time.sleep(0.05)
        yield server
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="session")
def server(tiny_bundle, tmp_path_factory):
    """The server under attack: the tiny model and default limits."""
    with started(tmp_path_factory.mktemp("hostile"), models_dir=str(tiny_bundle.parent)) as server:
        yield server


@pytest.fixture(scope="session")
def start_server():
    """How to start another one: see `started`."""
    return started


@pytest.fixture(scope="session")
def picture():
    """An honest PNG, 32 × 24 pixels."""
    pixels = np.random.default_rng(5).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="session")
def codes(server, picture):
    """The honest PNG's codes before any attack."""
    answer = server.post("/v1/encode", picture)
    assert answer.status == 200
    return json.loads(answer.body)["data"][0]["codes"]


@pytest.fixture(autouse=True)
def unharmed(server, picture, codes):
    """After each test: the right codes, no 5xx, memory given back."""
    before = server.memory("VmRSS")
    yield
    answer = server.post("/v1/encode", picture)
    assert answer.status == 200
    assert json.loads(answer.body)["data"][0]["codes"] == codes
    assert server.failures() == []
    # Attacks that were decoded side by side may each have left something.
    assert server.memory("VmRSS") < before + 2 * KEPT


@pytest.fixture(autouse=True, scope="module")
def quiet(server):
    """After each module: a log of JSON lines alone, none of them an error or a stack."""
    yield
    log = server.log()
    assert "Traceback" not in log
    lines = [json.loads(line) for line in log.splitlines()]
    assert not [line for line in lines if line["level"] in {"error", "critical"}]


@pytest.fixture(scope="session")
def refused():
    """How an attack must be answered, as a function of the reply and the codes it may have."""

    def check(reply: Reply, *expected: str, seconds: float = 10.0, grown: float = KEPT) -> None:
        assert reply.code in expected, (reply.status, reply.body[:300])
        assert 400 <= reply.status < 500
        assert reply.seconds < seconds
        assert reply.grown < grown
        assert b"Traceback" not in reply.body
        assert b'File "' not in reply.body
        assert len(reply.body) < 2000

    return check
