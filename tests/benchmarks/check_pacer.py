"""The load generators, which need a C compiler and wrk: run by `make bench-check`."""

import http.server
import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from benchmarks.inputs import form, request, write_requests
from benchmarks.load import build_pacer, closed_loop, work_off
from benchmarks.servers import Server


@pytest.fixture
def counting_server() -> Iterator[tuple[int, list[str]]]:
    """A server that remembers what it was asked; every tenth answer is an error."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked.append(body.decode())
            self.send_response(503 if len(asked) % 10 == 0 else 200)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"codes")

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port, asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_pacer_sends_its_schedule_and_counts_errors(
    tmp_path: Path, counting_server: tuple[int, list[str]]
) -> None:
    """All that was planned is sent, whatever the answers; refusals count as errors."""
    port, asked = counting_server
    path = write_requests(
        tmp_path / "requests.bin", [request("/", *form("image", b"%d" % i)) for i in range(3)]
    )
    done = subprocess.run(
        [build_pacer(tmp_path), str(port), path, "200", "0.5", "1"],
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout.removeprefix("JSON"))
    assert 60 < found["requests"] < 140
    assert found["requests"] == len(asked)
    assert found["errors"] == len(asked) // 10
    assert found["answered"] == found["requests"] - found["errors"]
    assert 0 < found["p50_ms"] <= found["p99_ms"] <= found["max_ms"]


def loaded(port: int) -> Server:
    """What the load needs to know of a server that isn't a process."""
    return cast("Server", SimpleNamespace(port=port, cpu_s=lambda: 0.0))


def test_a_list_is_worked_off_to_its_end(
    tmp_path: Path, counting_server: tuple[int, list[str]]
) -> None:
    """Each request is sent once; refusals are errors, and don't count in what was answered."""
    port, asked = counting_server
    forms = [form("image", b"number %d." % i) for i in range(95)]
    path = write_requests(tmp_path / "requests.bin", [request("/", *one) for one in forms])
    found = work_off(loaded(port), path, build_pacer(tmp_path), 8)
    assert sorted(asked) == sorted(body.decode() for _, body in forms)
    assert (found["requests"], found["answered"], found["errors"]) == (95, 86, 9)
    assert found["connections"] == 8
    assert found["per_second"] == pytest.approx(86 / found["seconds"])


def test_a_closed_loop_counts_what_was_answered(
    tmp_path: Path, counting_server: tuple[int, list[str]]
) -> None:
    """Refusals, which wrk counts among its requests, are no answers."""
    port, _ = counting_server
    path = write_requests(tmp_path / "requests.bin", [request("/", *form("image", b"1"))])
    found = closed_loop(loaded(port), path, 2, 1)
    assert found["errors"] == pytest.approx(found["requests"] / 10, abs=1)
    assert found["per_second"] * found["seconds"] == pytest.approx(
        found["requests"] - found["errors"]
    )
