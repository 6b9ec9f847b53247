"""`python -m tests.system.stress.drain`: SIGTERM under busy clients, again and again.

Each run starts a server, lets clients ask without pause on connections that they open anew as often
as they are told to close them, sends SIGTERM, and goes on until nobody is let in. Every connection
that was opened must be answered: not one may be reset. Prints the counts of each run; the exit code
is 1 if one was.
"""

from __future__ import annotations

import argparse
import http.client
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from tests.system.stress.process import ROOT, Serving

_PHOTO = ROOT / "tests/data/photos/otter.webp"
_MODELS = ROOT / "tests/data/bundles"
_BUSY = 200
_TIMEOUT_S = 110


def ask_until_refused(port: int, clients: int, file: bytes, stop: Callable[[], None]) -> Counter:
    """Have clients ask until no connection is opened any more.

    Args:
        port: where the server listens on this machine.
        clients: how many ask at the same time.
        file: the image that they send.
        stop: tells the server to end; called once `_BUSY` requests have been answered.

    Returns:
        How often what came: statuses of answers by number, errors by the names of their classes.
    """
    seen: list[str] = []

    def client() -> None:
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
            try:
                connection.connect()
            except ConnectionRefusedError:
                return
            with closing(connection):
                while True:
                    try:
                        connection.request("POST", "/v1/encode", file)
                        answer = connection.getresponse()
                        answer.read()
                    except OSError as error:
                        seen.append(type(error).__name__)
                        return
                    seen.append(str(answer.status))
                    if answer.getheader("connection") == "close":
                        break

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    while len(seen) < _BUSY and any(thread.is_alive() for thread in threads):
        time.sleep(0.01)
    stop()
    for thread in threads:
        thread.join()
    return Counter(seen)


def drain(models: Path, clients: int, file: bytes) -> tuple[Counter, float, int]:
    """Start a server, and end it under load.

    Returns:
        What the clients saw, as `ask_until_refused` counts it; the seconds from SIGTERM to the end
        of the process; and its exit code.
    """
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        server = Serving(models, log, drain_timeout_s=60, default_model="tiny")
        told = 0.0

        def stop() -> None:
            nonlocal told
            told = time.monotonic()
            server.process.send_signal(signal.SIGTERM)

        try:
            server.wait_ready()
            seen = ask_until_refused(server.port, clients, file, stop)
            code = server.process.wait(_TIMEOUT_S)
            return seen, time.monotonic() - told, code
        finally:
            server.process.kill()
            server.process.wait()


def main() -> int:
    """0 if no connection was reset and every process ended as asked."""
    parser = argparse.ArgumentParser(prog="python -m tests.system.stress.drain")
    parser.add_argument("--runs", type=int, default=10, help="how often")
    parser.add_argument("--clients", type=int, default=16, help="how many at the same time")
    parser.add_argument("--models", type=Path, default=_MODELS, help="folder of bundles")
    asked = parser.parse_args()
    file = _PHOTO.read_bytes()
    print("| run | answered 200 | refused 503 | reset or cut | seconds to the end | exit code |")
    print("|---|---|---|---|---|---|")
    failed = False
    for run in range(1, asked.runs + 1):
        seen, seconds, code = drain(asked.models, asked.clients, file)
        cut = sum(seen.values()) - seen["200"] - seen["503"]
        failed |= bool(cut) or code != 0
        figures = f"{seen['200']} | {seen['503']} | {cut} | {seconds:.1f} | {code}"
        print(f"| {run} | {figures} |", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
