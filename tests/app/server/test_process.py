"""The real process: how it starts, how it ends, and how long it bears with slow clients."""

from __future__ import annotations

import http.client
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from app.server import http_protocol

ROOT = Path(__file__).parents[3]


def png(side: int, seed: int = 0) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    return file.getvalue()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def start(**environment: object) -> subprocess.Popen:
    values = {f"TESSERA_{name.upper()}": str(value) for name, value in environment.items()}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TESSERA_")}
    return subprocess.Popen(
        [sys.executable, "-m", "app", "serve"],
        cwd=ROOT,
        env=kept | values,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def serving(tiny_bundle, **environment):
    """A ready server process and a client of it; killed in the end, whatever happened."""
    port = free_port()
    process = start(
        **{"models_dir": tiny_bundle.parent, "host": "127.0.0.1", "port": port} | environment
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            deadline = time.monotonic() + 90
            while time.monotonic() < deadline and process.poll() is None:
                try:
                    if client.get("/readyz").status_code == 200:
                        break
                except httpx.TransportError:
                    time.sleep(0.02)
            yield process, client
    finally:
        process.kill()
        process.communicate()


def ended(process, seconds=60):
    """Wait for the end; return exit code and log."""
    _, log = process.communicate(timeout=seconds)
    return process.returncode, log


def wait_for(condition, seconds=60):
    """Wait until it is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def shows(client, line):
    """Whether the metrics have this line."""
    return line in client.get("/metrics").text.splitlines()


def test_starting_serving_and_stopping(tiny_bundle):
    """SIGTERM while idle ends it soon with 0; the log is one JSON object a line, and has no key."""
    settings = {"api_keys": "secret-key-1", "drain_timeout_s": 80}
    with serving(tiny_bundle, **settings) as (process, client):
        headers = {"content-type": "image/png", "authorization": "Bearer secret-key-1"}
        answer = client.post(
            "/v1/encode", content=png(16), headers=headers | {"x-request-id": "mine"}
        )
        assert answer.status_code == 200
        process.send_signal(signal.SIGTERM)
        code, log = ended(process, 40)
        assert code == 0
    lines = [json.loads(line) for line in log.splitlines()]
    (line,) = [line for line in lines if line.get("request_id") == "mine"]
    assert (line["route"], line["status"], line["images"]) == ("/v1/encode", 200, 1)
    assert "secret-key-1" not in log
    assert [line for line in lines if line["message"] == "ready"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_was_accepted_is_answered_before_the_end(tiny_bundle, number):
    """A signal in the middle of work: the answer comes, and the exit code is 0."""
    with serving(tiny_bundle, drain_timeout_s=60) as (process, client):
        answers = []
        body = png(1200)

        def ask():
            answers.append(
                client.post("/v1/reconstruct", content=body, headers={"content-type": "image/png"})
            )

        thread = threading.Thread(target=ask)
        thread.start()
        while 'requests_total{route="/readyz"' not in client.get("/metrics").text:
            time.sleep(0.01)
        while "tessera_queue_items 1.0" not in client.get("/metrics").text and not answers:
            time.sleep(0.005)
        process.send_signal(number)
        thread.join()
        assert answers[0].status_code == 200
        assert Image.open(io.BytesIO(answers[0].content)).size == (1200, 1200)
        assert ended(process)[0] == 0


def test_draining_refuses_new_work_and_a_second_signal_ends_at_once(tiny_bundle):
    """Unready at once, whoever asks is sent elsewhere; the second signal doesn't wait."""
    with serving(tiny_bundle, drain_timeout_s=90) as (process, client), half_sent(client):
        asking = http.client.HTTPConnection(client.base_url.host, client.base_url.port)
        asking.request("GET", "/livez")
        asking.getresponse().read()
        # Idle connections are closed half a second after the signal. So that this machine can't
        # be too slow for that, the process finds signal and request together.
        process.send_signal(signal.SIGSTOP)
        process.send_signal(signal.SIGTERM)
        asking.request("GET", "/readyz")
        process.send_signal(signal.SIGCONT)
        answer = asking.getresponse()
        while answer.status == 200:
            # Another thread of the process was given the signal, and this request was faster.
            answer.read()
            asking.request("GET", "/readyz")
            answer = asking.getresponse()
        assert (answer.status, json.load(answer)["code"]) == (503, "not_ready")
        assert answer.headers["connection"] == "close"
        time.sleep(1)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert ended(process, 45)[0] == 128 + signal.SIGTERM


@contextmanager
def half_sent(client):
    """A connection with a request whose body the server has begun to read, and waits for."""
    with socket.create_connection((client.base_url.host, client.base_url.port), 60) as slow:
        slow.sendall(b"POST /v1/encode HTTP/1.1\r\nHost: h\r\nContent-Type: image/png\r\n")
        slow.sendall(b"Content-Length: 9\r\n\r\nx")
        wait_for(lambda: shows(client, "tessera_held_body_bytes 1.0"))
        yield slow


def test_draining_is_bounded(tiny_bundle):
    """A client that never finishes its upload doesn't keep the process alive."""
    settings = {"drain_timeout_s": 0.5, "request_timeout_s": 300}
    with serving(tiny_bundle, **settings) as (process, client), half_sent(client) as slow:
        process.send_signal(signal.SIGTERM)
        assert slow.recv(999).startswith(b"HTTP/1.1 503 ")
        assert ended(process)[0] == 0


def test_sighup_reloads(tiny_bundle, tmp_path):
    """A bad bundle changes nothing and is said in the log."""
    shutil.copytree(tiny_bundle, tmp_path / "tiny")
    with serving(tiny_bundle, models_dir=tmp_path) as (process, client):
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: shows(client, 'tessera_reloads_total{outcome="done"} 1.0'))
        (tmp_path / "half").mkdir()
        (tmp_path / "half" / "decoder.onnx").touch()
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: shows(client, 'tessera_reloads_total{outcome="refused"} 1.0'))
        assert client.get("/readyz").status_code == 200
        process.send_signal(signal.SIGTERM)
        code, log = ended(process)
    assert code == 0
    assert "reload refused: bundle half" in log


@pytest.mark.parametrize(
    ("environment", "code", "reason"),
    [
        ({"colour": "red"}, 2, "TESSERA_COLOUR is not a setting"),
        ({"models_dir": "/absent"}, 1, "there is no folder"),
        ({"device": "cuda:77"}, 1, "TESSERA_DEVICE=cpu"),
    ],
)
def test_a_start_that_can_not_succeed_ends_with_one_clear_line(
    tiny_bundle, environment, code, reason
):
    """And an exit code that isn't 0."""
    process = start(
        **{"models_dir": tiny_bundle.parent, "host": "127.0.0.1", "port": free_port()} | environment
    )
    ended_with, log = ended(process)
    assert ended_with == code
    lines = [line for line in log.splitlines() if line.startswith("tessera: ")]
    assert len(lines) == 1
    assert reason in lines[0]
    assert "Traceback" not in log


def test_a_taken_port_is_a_failed_start(tiny_bundle):
    """Not a process that serves nobody."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = start(
            models_dir=tiny_bundle.parent, host="127.0.0.1", port=taken.getsockname()[1]
        )
        code, log = ended(process)
    assert code == 1
    said = [line for line in log.splitlines() if not line.startswith("{")]
    assert len(said) == 1
    assert re.search(r"can't listen on 127\.0\.0\.1:\d+: address already in use", said[0])
    assert "Started" not in log


def test_budgets_of_a_process_at_rest(tiny_bundle):
    """Memory below 350 MB, and next to no CPU time while nobody asks."""
    with serving(tiny_bundle) as (process, _client):

        def cpu_s():
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

        pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
        assert pages * os.sysconf("SC_PAGE_SIZE") < 350e6
        # What starting up leaves to be done, and a moment in which the machine is slow, may cost
        # more: one quiet stretch is enough. One per cent of a core is 0.03 s.
        used = []
        while not used or (min(used) > 0.05 and len(used) < 10):
            before = cpu_s()
            time.sleep(3)
            used.append(cpu_s() - before)
        # A machine may be ten times slower than ours; what polls or spins costs more on any.
        assert min(used) <= 0.15


# --- slow clients ------------------------------------------------------------------------------


def connected(client):
    return socket.create_connection((client.base_url.host, client.base_url.port), timeout=60)


@pytest.fixture(scope="module")
def short_timeout(run_app, tiny_bundle):
    """The service with a short client timeout, long enough for our requests on a slow machine."""
    with run_app(models_dir=tiny_bundle.parent, client_timeout_s=2) as client:
        yield client


def test_headers_that_trickle_in_are_not_waited_for(short_timeout):
    """A silent client, and one that sends a byte now and then."""
    with connected(short_timeout) as silent, connected(short_timeout) as slow:
        slow.sendall(b"GET /livez HTTP/1.1\r\n")
        with suppress(OSError):  # closed meanwhile
            for _ in range(100):
                time.sleep(0.2)
                slow.sendall(b"X")
        assert is_closed(silent)
        assert is_closed(slow)


def is_closed(connection):
    """Wait for the other side to end it, without having said anything; with a reset or without."""
    try:
        return connection.recv(9) == b""
    except ConnectionResetError:
        return True


def test_an_answer_nobody_reads_is_given_up(short_timeout):
    """Its buffer would otherwise be held for as long as the client likes."""
    client = short_timeout
    connections = client.server.server_state.connections
    before = set(connections)
    with connected(client) as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.sendall(b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: h\r\n\r\n" * 9)
        deadline = time.monotonic() + 60
        seen = False
        while not seen or set(connections) - before:
            seen = seen or bool(set(connections) - before)
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_equal_answers_in_a_row_are_read_to_their_ends(client):
    """As much left to read as of the answer before doesn't mean that the reader has stalled."""
    codes = io.BytesIO()
    np.save(codes, np.zeros((1, 144, 192), np.int64))  # 5 MB of pixels: more than a socket holds
    for _ in range(4):
        answer = client.post(
            "/v1/decode?model=tiny",
            content=codes.getvalue(),
            headers={"content-type": "application/x-npy", "accept": "application/x-npy"},
        )
        assert len(answer.content) > 5e6


def test_a_refused_upload_may_linger_but_not_for_long(client, monkeypatch):
    """Its sender gets to read the refusal; what it still sends is thrown away."""
    monkeypatch.setattr(http_protocol, "_LINGER_S", 0.3)
    with connected(client) as sender:
        sender.sendall(
            b"POST /v1/encode HTTP/1.1\r\nHost: h\r\nContent-Type: image/png\r\n"
            b"Content-Length: 99999999999\r\n\r\n" + bytes(99_999)
        )
        assert sender.recv(4096).startswith(b"HTTP/1.1 413 ")
        sender.sendall(bytes(99_999))
        while sender.recv(4096):
            pass


def test_a_refused_upload_that_ends_leaves_its_connection_open(client, monkeypatch):
    """Closing it later might cross with the next request, which would then get no answer."""
    monkeypatch.setattr(http_protocol, "_LINGER_S", 4)
    with connected(client) as sender:
        sender.sendall(
            b"POST /v1/encode?model=absent HTTP/1.1\r\nHost: h\r\nContent-Type: image/png\r\n"
            b"Content-Length: 200000\r\n\r\n" + bytes(99_999)
        )
        assert answer_on(sender) == 404
        sender.sendall(bytes(100_001))
        time.sleep(4.5)
        sender.sendall(b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n")
        assert answer_on(sender) == 200


def test_an_upload_refused_for_good_is_read_to_its_end(tiny_bundle, run_app):
    """Its connection is closed after the answer, and not before the sender has sent all."""
    with run_app(models_dir=tiny_bundle.parent) as client, connected(client) as sender:
        client.app.state.service.drain()
        try:
            sender.sendall(
                b"POST /v1/encode HTTP/1.1\r\nHost: h\r\nContent-Type: image/png\r\n"
                b"Content-Length: 200000\r\n\r\n" + bytes(99_999)
            )
            answer = http.client.HTTPResponse(sender)
            answer.begin()
            assert (answer.status, answer.getheader("connection")) == (503, "close")
            time.sleep(0.2)
            sender.sendall(bytes(50_000))
            time.sleep(0.2)
            sender.sendall(bytes(50_001))
            answer.read()
            assert sender.recv(9) == b""
        finally:
            client.app.state.service.draining = False


def answer_on(connection):
    """Read one answer to its end; its status."""
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    answer.read()
    return answer.status


def test_requests_one_after_another_on_a_connection_are_all_answered(client):
    """Also when they are sent before the first answer."""
    with connected(client) as pipelined:
        pipelined.sendall(b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n" * 3)
        received = b""
        while received.count(b"alive") < 3:
            received += pipelined.recv(4096)


# --- metrics on a port of their own ------------------------------------------------------------


def test_metrics_may_have_a_port_of_their_own(tiny_bundle):
    """Then they are there alone, without a key, and nothing else is; the other port has none."""
    port = free_port()
    with serving(tiny_bundle, metrics_port=port, api_keys="secret-key-1") as (process, client):
        assert client.get("/metrics").status_code == 404
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as scraper:
            answer = scraper.get("/metrics")
            assert answer.status_code == 200
            assert "tessera_ready 1.0" in answer.text
            assert answer.headers["x-content-type-options"] == "nosniff"
            for path in ("/", "/livez", "/v1/models", "/docs", "/v1/models:reload"):
                assert scraper.get(path).status_code in {401, 404}
                headers = {"authorization": "Bearer secret-key-1"}
                assert scraper.get(path, headers=headers).status_code == 404
        process.send_signal(signal.SIGTERM)
        assert ended(process)[0] == 0


def test_metrics_may_have_an_address_of_their_own(tiny_bundle):
    """One that the service itself doesn't listen on."""
    port = free_port()
    with serving(tiny_bundle, metrics_port=port, metrics_host="127.0.0.2"):
        assert httpx.get(f"http://127.0.0.2:{port}/metrics").status_code == 200
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://127.0.0.1:{port}/metrics")


def test_a_taken_port_for_metrics_is_a_failed_start(tiny_bundle):
    """Not a service that nobody watches; the line names that port."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = start(
            models_dir=tiny_bundle.parent, host="127.0.0.1", port=free_port(), metrics_port=port
        )
        code, log = ended(process)
    assert code == 1
    assert f"tessera: can't listen on 127.0.0.1:{port}" in log
    assert "Traceback" not in log
