"""`python -m benchmarks.revisions REVISION`: this checkout beside an earlier commit of it.

Both serve the same bundle in this environment; each is paused while the other is measured, and
they take turns, so that what else happens on the machine meets both. Run it with nothing else on
the machine; a figure says how much was taken by others.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import subprocess
import sys
import tarfile
from pathlib import Path
from statistics import median

from benchmarks.candidates import BUILD, ROOT, serving
from benchmarks.inputs import jpegs, write_requests
from benchmarks.load import closed_loop
from benchmarks.requests import encode_request
from benchmarks.rows import table
from benchmarks.servers import Server

_PORTS = (9005, 9006)


def unpack(revision: str) -> Path:
    """The files of a commit in a folder of their own, ignored by git."""
    name = _git("rev-parse", "--short=10", revision).decode().strip()
    folder = BUILD / "revisions" / name
    if not folder.exists():
        folder.mkdir(parents=True)
        with tarfile.open(fileobj=io.BytesIO(_git("archive", revision))) as archive:
            archive.extractall(folder, filter="data")
    return folder


def measure(before: Path, bundle: Path, clients: tuple[int, ...], side: int, rounds: int) -> str:
    """Requests per second of both, in turns, as a Markdown table with their ratio.

    Args:
        before: the folder of the earlier commit.
        bundle: that both serve.
        clients: of the closed loop, each number measured by itself.
        side: of the square JPEGs, in pixels.
        rounds: how often both take their turn.
    """
    path = BUILD / "requests" / f"revisions-{side}.bin"
    requests = write_requests(path, [encode_request(jpeg) for jpeg in jpegs(side)])
    rates: dict[tuple[str, int], list[float]] = {}
    foreign: list[float] = []
    with contextlib.ExitStack() as stack:
        servers = {
            name: stack.enter_context(_start(name, folder, bundle, port))
            for (name, folder), port in zip(
                (("before", before), ("now", ROOT)), _PORTS, strict=True
            )
        }
        for server in servers.values():
            server.wait_ready()
        for server in servers.values():
            closed_loop(server, requests, max(clients), 2)  # to warm up, not counted
            server.wait_idle()
            server.pause()
        for turn in range(rounds):
            for count in clients:
                for name in sorted(servers, reverse=turn % 2 == 1):
                    servers[name].resume()
                    row = closed_loop(servers[name], requests, count, 2)
                    servers[name].wait_idle()
                    servers[name].pause()
                    rates.setdefault((name, count), []).append(row["per_second"])
                    foreign.append(row["foreign_share"])
    body = []
    for count in clients:
        then, now = rates["before", count], rates["now", count]
        pairs = [b / a for a, b in zip(then, now, strict=True)]
        body.append(
            [
                count,
                f"{median(then):.0f}",
                f"{median(now):.0f}",
                f"{median(pairs):.3f}",
                f"{min(pairs):.3f}–{max(pairs):.3f}",
            ]
        )
    head = ["clients", f"before, {side}²/s", "now", "ratio, median of rounds", "range"]
    return f"{table(head, body)}\n\nOthers took {median(foreign):.2f} cores at the median."


def _start(name: str, folder: Path, bundle: Path, port: int) -> Server:
    environment = {
        **serving(bundle),
        "TESSERA_HOST": "127.0.0.1",
        "TESSERA_PORT": str(port),
        "TESSERA_DEVICE": "cpu",
        "ORT_DISABLE_TELEMETRY": "1",
    }
    command = (sys.executable, "-m", "app", "serve")
    log = BUILD / "logs" / f"revision-{name}.log"
    return Server(name, command, port, "/readyz", environment, folder, log)


def _git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=True).stdout


def main(arguments: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.revisions", description=__doc__.partition("\n\n")[2]
    )
    parser.add_argument("revision", help="commit, tag or branch to compare with")
    parser.add_argument("--bundle", type=Path, default=ROOT / "models/photo-f8", metavar="DIR")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=10)
    given = parser.parse_args(arguments)
    folder = unpack(given.revision)
    print(measure(folder, given.bundle, tuple(given.clients), given.side, given.rounds))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
