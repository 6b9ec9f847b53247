"""The service as a process of its own, and what it holds: memory, file descriptors, threads."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]

_START_TIMEOUT_S = 120
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Holdings:
    """What a process holds at a moment.

    Attributes:
        at: seconds, by `time.monotonic`.
        rss_mib: resident memory.
        files: open file descriptors.
        threads: of the process.
        cpu_s: processor time used since its start.
    """

    at: float
    rss_mib: float
    files: int
    threads: int
    cpu_s: float


class Serving:
    """A server process.

    Args:
        models: folder of bundles.
        log: file that its standard error goes to.
        settings: named as the variables are without `TESSERA_`, lower case.
    """

    def __init__(self, models: Path, log: Path, **settings: object) -> None:
        self.port = _free_port()
        self.log = log
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith("TESSERA_")
        }
        values = {"host": "127.0.0.1", "port": self.port, "models_dir": models} | settings
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "app", "serve"],
                cwd=ROOT,
                env=kept | {f"TESSERA_{name.upper()}": str(v) for name, v in values.items()},
                stdout=subprocess.DEVNULL,
                stderr=out,
            )

    def wait_ready(self) -> None:
        """Wait until every model has run.

        Raises:
            RuntimeError: it ended, or takes too long.
        """
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError, urllib.error.URLError):
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=5).close()
                return
            time.sleep(0.05)
        raise RuntimeError(f"the server did not become ready:\n{self.log.read_text()[-2000:]}")

    def holdings(self) -> Holdings:
        """What it holds now."""
        folder = Path(f"/proc/{self.process.pid}")
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        pages = int((folder / "statm").read_text().split()[1])
        return Holdings(
            at=time.monotonic(),
            rss_mib=pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
            files=sum(1 for _ in (folder / "fd").iterdir()),
            threads=int(fields[17]),
            cpu_s=(int(fields[11]) + int(fields[12])) / _TICKS,
        )

    def reload(self) -> None:
        """Send SIGHUP."""
        self.process.send_signal(signal.SIGHUP)

    def said(self, message: str) -> int:
        """How many lines of its log have a message that begins so."""
        return self.log.read_bytes().count(f'"message":"{message}'.encode())

    def stop(self, timeout_s: float = 20) -> int:
        """Send SIGTERM and wait for the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)


@contextmanager
def serving(models: Path, log: Path, **settings: object) -> Iterator[Serving]:
    """A ready server; killed in the end if it still runs."""
    server = Serving(models, log, **settings)
    try:
        server.wait_ready()
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port
