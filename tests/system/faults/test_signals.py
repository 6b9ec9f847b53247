"""Signals in the middle of load: what was accepted is answered, right, and once."""

from __future__ import annotations

import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tessera_client import Client
from tests.system.stress.drain import ask_until_refused

PNG = {"content-type": "image/png"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_under_load_loses_no_answer(serve, load_on, examples, wait_for, number):
    """Eight busy connections: each request is answered right, or with 503; then exit 0."""
    with serve(drain_timeout_s=90) as server:
        with load_on(server, examples, until_closed=True) as load:
            wait_for(lambda: load.right > 50)
            server.process.send_signal(number)
        # Half a second of telling clients to go, a little of finishing; not the bound of 90 s.
        assert server.ended(45) == 0
        assert load.faults == []
        assert set(load.refused) <= {"not_ready"}
        assert "Traceback" not in server.log


def test_clients_that_reconnect_to_the_end_see_no_reset(serve, examples):
    """Sixteen of them: each connection that was opened is answered, and then none is opened."""
    with serve(drain_timeout_s=60) as server:

        def stop():
            server.process.send_signal(signal.SIGTERM)

        seen = ask_until_refused(server.port, 16, examples[0][0], stop)
        assert server.ended(45) == 0
    assert set(seen) <= {"200", "503"}


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_under_load_ends_at_once(serve, poisonable, poisoned, wait_for, second):
    """Whatever is still running, with 128 and the second signal's number."""

    def told():
        try:
            return server.get("/readyz").status_code == 503
        except httpx.TransportError:  # half a second later nobody is let in
            return True

    settings = {"drain_timeout_s": 110, "request_timeout_s": 110, "stuck_after_s": 110}
    with serve(models_dir=poisonable, **settings) as server, ThreadPoolExecutor(1) as pool:
        cut = pool.submit(server.post, "/v1/encode", poisoned("hang"))
        wait_for(lambda: server.metric("tessera_queue_items") == 1)
        server.process.send_signal(signal.SIGTERM)
        wait_for(told)
        server.process.send_signal(second)
        assert server.ended(45) == 128 + second
        assert cut.exception() is not None


def test_a_client_that_retries_gets_all_right_across_kills(serve, examples, tmp_path):
    """SIGKILL three times and a restart each: nothing is lost and nothing wrong is answered."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    stop = threading.Event()
    kills = []

    def supervise():
        while not stop.is_set():
            with serve(port=port) as server:
                if len(kills) < 3:
                    asked = server.metric("tessera_requests_total")
                    while server.metric("tessera_requests_total") < asked + 20:
                        time.sleep(0.01)
                    server.process.kill()
                    kills.append(server.ended())
                else:
                    stop.wait()

    with ThreadPoolExecutor(5) as pool:
        supervisor = pool.submit(supervise)
        try:
            with Client(f"http://127.0.0.1:{port}", batch_images=2) as client:

                def ask(turn):
                    wrong = answered = 0
                    while len(kills) < 3 or answered < 20:
                        chosen = [examples[(turn + i) % len(examples)] for i in range(4)]
                        turn += 4
                        codes = client.encode([file for file, _ in chosen])
                        wrong += [grid.codes.tolist() for grid in codes] != [c for _, c in chosen]
                        answered += 1
                        assert not supervisor.done()
                    return wrong

                assert sum(pool.map(ask, range(4))) == 0
        finally:
            stop.set()
        supervisor.result()
    assert kills == [-signal.SIGKILL] * 3
