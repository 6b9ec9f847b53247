"""The open-loop load generator, which needs a C compiler: run by `make bench-check`."""

import http.server
import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.inputs import form, request, write_requests
from benchmarks.load import build_pacer


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
