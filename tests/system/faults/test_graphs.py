"""Graph runs that go wrong: they raise, give NaN, need too much memory, or never end."""

from __future__ import annotations

import base64
import io
import json
import resource
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from app.runtime.operations import ENCODE

JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def server(serve, poisonable):
    with serve(models_dir=poisonable, request_timeout_s=110) as server:
        yield server


def together(server, files):
    """What became of images that came in one request, by item."""
    images = [base64.b64encode(file).decode() for file in files]
    answer = server.post("/v1/encode", json.dumps({"images": images}).encode(), JSON)
    assert answer.status_code == 200, answer.text
    return [item.get("codes") or item["error"] for item in answer.json()["data"]]


def gathered(server, poisoned, files):
    """What became of images that waited together while another was run, by item.

    If a moment in which this machine stands still has let that run end before they were all
    there, again beside a longer one.
    """
    for amount in (5, 40, 160):
        before = server.metric("tessera_batch_items_count")
        with ThreadPoolExecutor(1) as pool:
            busy = pool.submit(server.post, "/v1/encode", poisoned("busy", amount, 24))
            server.wait_until_running()
            answers = together(server, files)
            assert busy.result().status_code == 200
        if server.metric("tessera_batch_items_count") - before < len(files):
            return answers
    raise AssertionError("they were never run together")


@pytest.mark.parametrize(
    ("kind", "code", "status"),
    [
        ("raise", "internal", 500),
        ("nan", "internal", 500),
        ("tebibytes", "image_too_large", 413),
    ],
)
def test_a_poisoned_item_harms_no_other(server, examples, poisoned, kind, code, status):
    """In one batch with it, the others are answered right; it fails alone."""
    good = [example for example in examples if len(example[1]) == 2]  # 16 × 16
    files = [file for file, _ in good]
    files.insert(3, poisoned(kind))
    answers = gathered(server, poisoned, files)
    error = answers.pop(3)
    assert (error["code"], error["status"]) == (code, status)
    assert answers == [codes for _, codes in good]
    alone = server.post("/v1/encode", poisoned(kind))
    assert (alone.status_code, alone.json()["code"]) == (status, code)
    assert "onnx" not in alone.text.lower()
    assert server.get("/readyz").status_code == 200


def test_a_batch_that_needs_too_much_memory_is_halved(
    serve, poisonable, reference, poisoned, wait_for
):
    """Eight items that together need more than there is, and by twos less: all are answered."""
    files = [poisoned("mebibytes", 250, seed=seed) for seed in range(8)]
    with serve(models_dir=poisonable, threads=1, request_timeout_s=110) as server:
        pages = int(Path(f"/proc/{server.pid}/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + 2**30
        resource.prlimit(server.pid, resource.RLIMIT_AS, (most, most))
        answers = gathered(server, poisoned, files)
        assert server.get("/readyz").status_code == 200
        wait_for(lambda: any("and is halved" in message for message in server.messages()))
    pixels = [np.asarray(Image.open(io.BytesIO(file))) for file in files]
    assert answers == [reference.run(ENCODE, [one])[0].tolist() for one in pixels]


def test_the_log_stays_json_whatever_fails(server, poisoned, wait_for):
    """ONNX Runtime would otherwise write lines of its own between ours."""
    assert server.post("/v1/encode", poisoned("raise")).status_code == 500
    wait_for(lambda: "an item failed" in server.messages())
    assert [line for line in server.log.splitlines() if not line.startswith("{")] == []


def test_a_run_that_hangs_is_said_and_ends_the_process(serve, poisonable, poisoned, wait_for):
    """Whoever waits gets 503, readiness goes first, and the exit code is 1 for the supervisor."""
    probes = [200]
    # It is unready for half a second before it ends, in which this machine may stand still.
    for _ in range(3):
        if probes[-1] == 200:
            with serve(models_dir=poisonable, stuck_after_s=6) as server:
                probes = hang(server, poisoned, wait_for)
    assert (probes[0], probes[-1]) == (200, 503)
    assert sorted(probes) == probes


def hang(server, poisoned, wait_for):
    """Let one run hang while two more wait, see all that is promised, and return the probes."""
    statuses = []
    probes = []

    def ask(image):
        answer = server.post("/v1/encode", image)
        statuses.append((answer.status_code, answer.json().get("code")))

    def probe():
        while True:
            try:
                probes.append(server.get("/readyz").status_code)
            except httpx.TransportError:
                return
            time.sleep(0.02)

    hung, *waiting = (
        threading.Thread(target=ask, args=(image,))
        for image in (poisoned("hang"), poisoned("busy"), poisoned("nan", side=24))
    )
    probing = threading.Thread(target=probe)
    started = time.monotonic()
    probing.start()
    hung.start()
    server.wait_until_running()
    for thread in waiting:
        thread.start()
    wait_for(lambda: server.metric("tessera_queue_items") == 3)
    assert server.ended() == 1
    assert time.monotonic() - started > 6
    for thread in (hung, *waiting, probing):
        thread.join()
    assert statuses == [(503, "not_ready")] * 3
    (line,) = [line for line in server.log.splitlines() if line.startswith("tessera: ")]
    assert "a run has hung for" in line
    return probes


def test_a_hung_run_does_not_keep_a_stopping_process_alive(serve, poisonable, poisoned, wait_for):
    """SIGTERM ends it within the bound on draining, and whoever waited has an answer."""
    settings = {"drain_timeout_s": 1, "request_timeout_s": 110, "stuck_after_s": 110}
    with serve(models_dir=poisonable, **settings) as server, ThreadPoolExecutor(1) as pool:
        hung = pool.submit(server.post, "/v1/encode", poisoned("hang"))
        wait_for(lambda: server.metric("tessera_queue_items"))
        server.process.send_signal(signal.SIGTERM)
        # Half a second of refusing, one of draining, two of waiting for the run to end.
        assert server.ended(50) == 0
        assert hung.result().status_code == 503
