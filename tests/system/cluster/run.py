"""Two replicas behind nginx under load: one is drained and comes back, the other is killed.

    make cluster-check ARGS="--seconds 20 --clients 8"

Each phase prints its figures. The run fails if one request of `tessera-client` was lost. Clients
without retries ask too (`--bare`), to show what the proxy alone makes of it; `--once` forbids the
proxy to ask the other replica, so that all is left to the client.
"""

from __future__ import annotations

import argparse
import getpass
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import numpy as np

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT))

from tessera_client import Client, TesseraError  # noqa: E402


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Replica:
    """One process of the service."""

    def __init__(self, port: int, models: Path) -> None:
        self.port = port
        self.models = models
        self.start()

    def start(self) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TESSERA_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "app", "serve"],
            cwd=ROOT,
            env=environment
            | {
                "TESSERA_HOST": "127.0.0.1",
                "TESSERA_PORT": str(self.port),
                "TESSERA_MODELS_DIR": str(self.models),
                "TESSERA_THREADS": "1",
                "TESSERA_LOG_LEVEL": "warning",
            },
            stderr=subprocess.DEVNULL,
        )

    def wait_ready(self) -> float:
        began = time.monotonic()
        while time.monotonic() - began < 120:
            try:
                if httpx.get(f"http://127.0.0.1:{self.port}/readyz").status_code == 200:
                    return time.monotonic() - began
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise SystemExit("a replica did not become ready")


class Load:
    """Threads that ask all the time, and what became of it."""

    def __init__(self, address: str, clients: int, bare: int) -> None:
        self.phase = "before"
        self.seconds: dict[str, list[float]] = {}
        self.outcomes: dict[str, Counter[str]] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._address = address
        targets = [self._with_retries] * clients + [self._without] * bare
        self._threads = [
            threading.Thread(target=target, args=(seed,)) for seed, target in enumerate(targets)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _note(self, phase: str, outcome: str, seconds: float) -> None:
        with self._lock:
            self.outcomes.setdefault(phase, Counter())[outcome] += 1
            if outcome == "answered":
                self.seconds.setdefault(phase, []).append(seconds)

    def _with_retries(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        pixels = random.integers(0, 256, (96, 128, 3), dtype=np.uint8)
        with Client(self._address, retry_for_s=60) as client:
            expected = client.encode(pixels)[0].codes
            while not self._stop.is_set():
                phase, began = self.phase, time.monotonic()
                try:
                    codes = client.encode(pixels)[0].codes
                    outcome = "answered" if np.array_equal(codes, expected) else "WRONG"
                except TesseraError as error:
                    outcome = f"LOST {error}"
                self._note(phase, outcome, time.monotonic() - began)

    def _without(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        body = random.integers(0, 256, (96, 128, 3), dtype=np.uint8)
        file = io.BytesIO()
        np.save(file, body)
        with httpx.Client(base_url=self._address, timeout=60) as client:
            while not self._stop.is_set():
                phase = self.phase
                try:
                    status = client.post(
                        "/v1/encode",
                        content=file.getvalue(),
                        headers={"content-type": "application/x-npy"},
                    ).status_code
                    outcome = f"bare {status}"
                except httpx.TransportError as error:
                    outcome = f"bare {type(error).__name__}"
                self._note(phase, outcome, 0.0)


def nginx(
    folder: Path, port: int, replicas: list[Replica], *, once: bool
) -> subprocess.Popen[bytes]:
    binary = shutil.which("nginx") or "/usr/sbin/nginx"
    text = (Path(__file__).parent / "nginx.conf").read_text()
    # Started by root, its worker would be nobody, who may not write into our folder.
    values = {
        "USER": getpass.getuser(),
        "NEXT": "off" if once else "error timeout http_502 http_503 non_idempotent",
        "DIR": folder,
        "PORT": port,
        "A": replicas[0].port,
        "B": replicas[1].port,
    }
    for name, value in values.items():
        text = text.replace(f"$({name})", str(value))
    (folder / "nginx.conf").write_text(text)
    return subprocess.Popen([binary, "-c", folder / "nginx.conf", "-e", folder / "error.log"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, default=ROOT / "tests/data/bundles")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each phase")
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--bare", type=int, default=2)
    parser.add_argument(
        "--once", action="store_true", help="nginx never asks the other replica by itself"
    )
    asked = parser.parse_args()
    ports = free_ports(3)
    replicas = [Replica(port, asked.models) for port in ports[:2]]
    with tempfile.TemporaryDirectory() as name:
        proxy = nginx(Path(name), ports[2], replicas, once=asked.once)
        try:
            for replica in replicas:
                replica.wait_ready()
            return measure(asked, f"http://127.0.0.1:{ports[2]}", replicas)
        finally:
            for process in (proxy, *(replica.process for replica in replicas)):
                process.terminate()
                process.wait(30)


def measure(asked: argparse.Namespace, address: str, replicas: list[Replica]) -> int:
    load = Load(address, asked.clients, asked.bare)
    time.sleep(1)
    load.phase = "both"
    time.sleep(asked.seconds)

    load.phase = "drained"
    began = time.monotonic()
    replicas[0].process.send_signal(signal.SIGTERM)
    code = replicas[0].process.wait(30)
    print(f"drained: SIGTERM to exit {time.monotonic() - began:.2f} s, exit code {code}")
    time.sleep(asked.seconds)
    load.phase = "coming back"
    replicas[0].start()
    print(f"came back: ready after {replicas[0].wait_ready():.2f} s")
    time.sleep(3)

    load.phase = "killed"
    replicas[1].process.kill()
    print(f"killed: exit code {replicas[1].process.wait(30)}")
    time.sleep(asked.seconds)
    load.stop()

    lost = 0
    print(f"{'phase':12} {'answered':>8} {'p50 ms':>7} {'p99 ms':>7} {'max ms':>7}  others")
    for phase in ("both", "drained", "coming back", "killed"):
        outcomes = load.outcomes.get(phase, Counter())
        times = np.array(load.seconds.get(phase, [float("nan")])) * 1000
        others = {key: n for key, n in sorted(outcomes.items()) if key != "answered"}
        lost += sum(n for key, n in others.items() if key.startswith(("LOST", "WRONG")))
        print(
            f"{phase:12} {outcomes['answered']:8} {np.percentile(times, 50):7.1f} "
            f"{np.percentile(times, 99):7.1f} {times.max():7.1f}  {others}"
        )
    print(f"requests lost with the client's retries: {lost}")
    answered = all(load.seconds.get(phase) for phase in ("both", "drained", "killed"))
    return 1 if lost or code != 0 or not answered else 0


if __name__ == "__main__":
    sys.exit(main())
