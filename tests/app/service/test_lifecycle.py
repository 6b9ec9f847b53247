"""Deadlines, disconnects, overload, readiness and reload, in the service as a whole."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import io
import resource
import shutil
import socket
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.errors import Overloaded
from bundle import open_bundle, write_bundle

PNG = {"content-type": "image/png"}


def png(side: int = 16, seed: int = 0) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    return file.getvalue()


class Held:
    """Holds up every run of a service until it is let go: a device that is busy."""

    def __init__(self, client) -> None:
        self.ran = []
        self._go = threading.Event()
        self._batcher = client.app.state.service.batcher
        self._run, self._run_concurrently = self._batcher._run, self._batcher._run_concurrently

    def __enter__(self):
        self._batcher._run = self._batcher._run_concurrently = self._wait
        return self

    def __exit__(self, *_):
        self._go.set()
        self._batcher._run, self._batcher._run_concurrently = self._run, self._run_concurrently

    def _wait(self, key, payloads):
        self.ran.append(len(payloads))
        assert self._go.wait(100)
        return self._run(key, payloads)

    def let_go(self):
        self._go.set()


def wait_for(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_what_takes_too_long_is_answered_so(tiny_bundle, run_app):
    """504 at the deadline, and the service goes on."""
    # Enough for a slow machine to answer the second request in time.
    with run_app(models_dir=tiny_bundle.parent, request_timeout_s=5) as client:
        with Held(client):
            started = time.monotonic()
            answer = client.post("/v1/encode", content=png(), headers=PNG)
            assert answer.status_code == 504
            assert answer.json()["code"] == "deadline_exceeded"
            assert 4.9 < time.monotonic() - started < 40
        assert client.post("/v1/encode", content=png(), headers=PNG).status_code == 200


def test_images_of_a_client_that_disconnected_are_never_run(tiny_bundle, run_app):
    """Whoever hangs up while waiting costs nothing more."""
    with run_app(models_dir=tiny_bundle.parent) as client, Held(client) as held:
        service = client.app.state.service
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(client.post, "/v1/encode", content=png(), headers=PNG)
            wait_for(lambda: held.ran)
            body = png(24)
            with socket.create_connection((client.base_url.host, client.base_url.port)) as gone:
                gone.sendall(
                    b"POST /v1/encode HTTP/1.1\r\nHost: h\r\nContent-Type: image/png\r\n"
                    b"Content-Length: %d\r\n\r\n" % len(body) + body
                )
                wait_for(lambda: service.batcher.queued_weight > 0)
            wait_for(lambda: service.batcher.queued_weight == 0)
            held.let_go()
            assert first.result().status_code == 200
        wait_for(lambda: service.batcher.depth == 0)
        assert held.ran == [1]
        assert "tessera_departed_clients_total 1.0" in client.get("/metrics").text
        assert service.body_memory.held_bytes == 0


def test_a_full_queue_answers_429_at_once(tiny_bundle, run_app):
    """Before the body is even read, with Retry-After."""
    with (
        run_app(
            models_dir=tiny_bundle.parent, max_queue=2, max_images=2, request_timeout_s=90
        ) as client,
        Held(client) as held,
        ThreadPoolExecutor(2) as pool,
    ):
        waiting = [
            pool.submit(client.post, "/v1/encode", content=png(), headers=PNG) for _ in range(2)
        ]
        wait_for(lambda: client.app.state.service.batcher.depth == 2)
        started = time.monotonic()
        answer = client.post("/v1/encode", content=png(), headers=PNG)
        assert time.monotonic() - started < 30  # the others' time is up after 90
        assert (answer.status_code, answer.json()["code"]) == (429, "overloaded")
        assert int(answer.headers["retry-after"]) >= 1
        with socket.create_connection((client.base_url.host, client.base_url.port)) as unsent:
            unsent.sendall(
                b"POST /v1/encode HTTP/1.1\r\nHost: h\r\nContent-Type: image/png\r\n"
                b"Content-Length: 9999\r\n\r\n"
            )
            assert unsent.recv(99).startswith(b"HTTP/1.1 429 ")
        held.let_go()
        assert [task.result().status_code for task in waiting] == [200, 200]
        assert client.post("/v1/encode", content=png(), headers=PNG).status_code == 200
        assert 'tessera_rejections_total{code="overloaded"} 2.0' in client.get("/metrics").text


def test_a_request_has_its_place_before_its_body_is_taken_apart(tiny_bundle, run_app):
    """With the pool busy, bodies wait to be parsed; who comes after them is refused at once."""
    with run_app(models_dir=tiny_bundle.parent, max_queue=2, max_images=1) as client:
        batcher = client.app.state.service.batcher
        go = threading.Event()
        for _ in range(batcher._pool._max_workers):
            batcher._pool.submit(go.wait, 30)
        try:
            body = b'{"images": ["' + b"A" * 100_000 + b'"]}'
            ask = partial(
                client.post,
                "/v1/encode",
                content=body,
                headers={"content-type": "application/json"},
            )
            with ThreadPoolExecutor(2) as threads:
                waiting = [threads.submit(ask) for _ in range(2)]
                wait_for(lambda: batcher.depth == 2)
                assert ask().status_code == 429
                go.set()
                assert [answer.result().status_code for answer in waiting] == [415, 415]
        finally:
            go.set()
        assert batcher.depth == 0


def test_codes_are_the_same_under_many_clients(client):
    """32 at once, of three shapes: each gets what it gets alone."""
    files = [png((64, 48, 40)[i % 3], seed=i) for i in range(32)]

    def codes(file):
        return client.post("/v1/encode", content=file, headers=PNG).json()["data"][0]["codes"]

    alone = [codes(file) for file in files]
    with ThreadPoolExecutor(32) as pool:
        assert list(pool.map(codes, files)) == alone


def test_a_hung_run_makes_the_service_unready_and_ends_it(tiny_bundle, run_app):
    """Whoever waits is told so; the supervisor is to start another."""
    with (
        run_app(models_dir=tiny_bundle.parent, stuck_after_s=0.5) as client,
        Held(client),
    ):
        reasons = []
        client.app.state.service._on_fatal = reasons.append
        answer = client.post("/v1/encode", content=png(), headers=PNG)
        assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
        assert "hung" in answer.json()["detail"]
        assert "hung" in reasons[0]
        assert client.get("/readyz").status_code == 503
        assert client.get("/livez").status_code == 200


def test_a_model_that_has_not_run_lately_is_canaried(client, monkeypatch):
    """An idle service still knows that its device works."""
    health = client.app.state.service.health
    (model,) = health.last_run
    health.last_run[model] = ran = time.monotonic() - 20
    wait_for(lambda: health.last_run[model] > ran)
    health.last_run[model] = time.monotonic() - 40
    monkeypatch.setattr(health, "run_canary", lambda _model, _batcher: asyncio.sleep(0))
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert "has not run" in answer.json()["detail"]
    # A request is still tried: it may be what shows that the device works again.
    assert client.post("/v1/encode", content=png(), headers=PNG).status_code == 200
    assert client.get("/readyz").status_code == 200


def test_reloading_swaps_models_without_failing_a_request(tiny_bundle, run_app, tmp_path):
    """A new bundle is served, an old one in flight finishes, and a bad one changes nothing."""
    shutil.copytree(tiny_bundle, tmp_path / "tiny")
    with run_app(models_dir=tmp_path, api_keys="k", default_model="tiny") as client:
        client.headers["authorization"] = "Bearer k"
        bundle = open_bundle(tiny_bundle)
        manifest = dataclasses.replace(bundle.manifest, name="other", code_space="ab" * 32)
        write_bundle(tmp_path / "other", manifest, {f: bundle.read(f) for f in manifest.files})
        stop = threading.Event()
        statuses = []

        def load():
            while not stop.is_set():
                answer = client.post("/v1/encode", content=png(), headers=PNG)
                statuses.append(answer.status_code)

        thread = threading.Thread(target=load)
        thread.start()
        try:
            assert client.post("/v1/models:reload").json()["models"] == ["other", "tiny"]
            assert client.post("/v1/encode?model=other", content=png(), headers=PNG).is_success
            (tmp_path / "broken").mkdir()
            (tmp_path / "broken" / "manifest.json").write_text("{")
            answer = client.post("/v1/models:reload")
            assert answer.status_code == 422
            assert "bundle broken" in answer.json()["detail"]
            assert client.get("/readyz").json()["models"] == ["other", "tiny"]
        finally:
            stop.set()
            thread.join()
        assert statuses
        assert set(statuses) == {200}


def test_replaced_models_are_freed_soon(tiny_bundle, run_app):
    """Also where something has left them in a cycle, which Python alone would keep for long."""
    gc.collect()
    gc.disable()
    try:
        with run_app(models_dir=tiny_bundle.parent, api_keys="k") as client:
            replaced = weakref.ref(client.app.state.service.models.default)
            cycle = [replaced()]
            cycle.append(cycle)
            del cycle
            headers = {"authorization": "Bearer k"}
            assert client.post("/v1/models:reload", headers=headers).status_code == 200
            assert replaced() is not None
            wait_for(lambda: replaced() is None)
    finally:
        gc.enable()


def test_keys_come_from_a_file_too_and_reload_with_it(tiny_bundle, run_app, tmp_path):
    """Rotation without a restart: write the file, then reload."""
    file = tmp_path / "keys"
    file.write_text("# team a\nold\n")
    with run_app(models_dir=tiny_bundle.parent, api_keys_file=file) as client:
        old, new = ({"authorization": f"Bearer {key}"} for key in ("old", "new"))
        assert client.get("/v1/models", headers=old).status_code == 200
        file.write_text("new\n")
        assert client.post("/v1/models:reload", headers=old).status_code == 200
        assert client.get("/v1/models", headers=old).status_code == 401
        assert client.get("/v1/models", headers=new).status_code == 200
        for useless in (b"# nobody\n", b"\xff\xfe"):
            file.write_bytes(useless)
            answer = client.post("/v1/models:reload", headers=new)
            assert answer.status_code == 422
            assert client.get("/v1/models", headers=new).status_code == 200


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("image/png", 422),
        ("application/pdf", 415),
        ("multipart/form-data", 400),
        ("multipart/form-data; boundary=b", 200),
    ],
)
def test_what_was_refused_is_let_go_at_once(client, kind, status):
    """Its body and all that was made of it, without waiting for Python to look for cycles."""
    noise = np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG", compress_level=0)
    body = file.getvalue()[:-1_000_000]  # 6 MB of an image that decodes to 7
    if "boundary" in kind:  # with a good one, so that it fails as one item of two
        part = b'--b\r\ncontent-disposition: form-data; filename="x"\r\n\r\n%b\r\n'
        body = part % body + part % png() + b"--b--\r\n"

    def refuse():
        answer = client.post("/v1/encode", content=body, headers={"content-type": kind})
        assert answer.status_code == status

    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    refuse()
    gc.collect()
    before = resident()
    gc.disable()
    try:
        for _ in range(12):
            refuse()
        assert resident() - before < 15e6
    finally:
        gc.enable()


def test_bodies_held_at_once_are_bounded(client):
    """Uploads beyond the bound are refused rather than kept in memory."""
    service = client.app.state.service
    service.body_memory.reserve(8 * service.limits.body_bytes)
    try:
        with pytest.raises(Overloaded):
            service.body_memory.reserve(1)
        answer = client.post("/v1/encode", content=png(), headers=PNG)
        assert answer.status_code == 429
    finally:
        service.body_memory.free(8 * service.limits.body_bytes)
    assert client.post("/v1/encode", content=png(), headers=PNG).status_code == 200
