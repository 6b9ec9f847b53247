"""Reloading under load: no request fails, bad bundles change nothing, and nothing piles up."""

from __future__ import annotations

import dataclasses
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor

import onnx
import onnx.parser
import pytest

from bundle import open_bundle, write_bundle

KEY = {"authorization": "Bearer k"}
PACKED = "application/vnd.tessera.codes"


@pytest.fixture
def folder(tmp_path, poisonable):
    """A models folder of its own with the tiny model."""
    shutil.copytree(poisonable / "tiny", tmp_path / "models" / "tiny")
    return tmp_path / "models"


def add(folder, place, *, invert=False, **fields):
    """Another bundle, like the tiny one; inverted, its decoder gives the negative."""
    bundle = open_bundle(folder / "tiny")
    files = {file: bundle.read(file) for file in bundle.manifest.files}
    if invert:
        model = onnx.load_from_string(files["decoder.onnx"])
        (last,) = [node for node in model.graph.node if "pixels" in node.output]
        last.output[0] = "positive"
        nodes = onnx.parser.parse_graph(
            "g (uint8[n, h, w, 3] positive) => (uint8[n, h, w, 3] pixels)"
            "<uint8[1] white = {255}> { pixels = Sub (white, positive) }"
        )
        model.graph.node.extend(nodes.node)
        model.graph.initializer.extend(nodes.initializer)
        files["decoder.onnx"] = model.SerializeToString()
    write_bundle(folder / place, dataclasses.replace(bundle.manifest, **fields), files)


class Reloads:
    """Both ways to reload a server, each waited for."""

    def __init__(self, server, wait_for):
        self._server = server
        self._wait_for = wait_for

    def by_request(self):
        return self._server.post("/v1/models:reload", headers=KEY)

    def by_signal(self):
        before = self._server.metric("tessera_reloads_total")
        self._server.process.send_signal(signal.SIGHUP)
        self._wait_for(lambda: self._server.metric("tessera_reloads_total") > before)


@pytest.fixture
def server(serve, folder):
    settings = {"default_model": "tiny", "api_keys": "k", "threads": 2, "request_timeout_s": 110}
    with serve(models_dir=folder, **settings) as server:
        yield server


@pytest.fixture
def reload(server, wait_for):
    return Reloads(server, wait_for)


def models(server):
    return server.get("/readyz").json()["models"]


def test_reloads_under_load_fail_no_request(server, reload, folder, load_on, examples, wait_for):
    """Models come and go by signal and by request, while eight clients ask; all is answered."""
    with load_on(server, examples, key="k") as load:
        for way in (reload.by_signal, reload.by_request) * 2:
            answered = load.right
            add(folder, "other", name="other")
            way()
            assert models(server) == ["other", "tiny"]
            shutil.rmtree(folder / "other")
            way()
            assert models(server) == ["tiny"]
            wait_for(lambda answered=answered: load.right > answered)
    assert (load.faults, load.refused) == ([], [])
    assert server.metric("tessera_reloads_total") == 8
    assert server.metric('tessera_reloads_total{outcome="refused"}') == 0


def test_a_bad_bundle_leaves_the_old_one_serving(
    server, reload, folder, load_on, examples, wait_for
):
    """Under load, and it is said: in the reply, in the log, and in a counter."""
    (folder / "tiny" / "encoder.onnx").write_bytes(b"half")
    with load_on(server, examples, key="k") as load:
        answer = reload.by_request()
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_parameter")
        assert "bundle tiny: encoder.onnx is not" in answer.json()["detail"]
        assert "goes on serving" in answer.json()["detail"]
        reload.by_signal()
        right = load.right
        while load.right < right + 20:
            assert not load.faults
    assert (load.faults, load.refused) == ([], [])
    assert server.get("/readyz").status_code == 200
    assert 'tessera_reloads_total{outcome="refused"} 2.0' in server.get("/metrics").text
    expected = "reload refused: bundle tiny: encoder.onnx"
    wait_for(lambda: any(expected in said for said in server.messages()))


def test_codes_are_decodable_as_long_as_their_bundle_is_there(server, reload, folder, examples):
    """By the bundle that made them, also when a newer version is the default; then 409."""
    image, _ = examples[1]
    made = server.post("/v1/encode", image, {"content-type": "image/png", "accept": PACKED} | KEY)
    codes = made.content
    as_npy = {"content-type": PACKED, "accept": "application/x-npy"} | KEY
    before = server.post("/v1/decode", codes, as_npy).content
    add(folder, "tiny-2", invert=True, version="2", code_space="ab" * 32)
    reload.by_request()
    newer = server.post("/v1/encode", image, {"content-type": "image/png", "accept": PACKED} | KEY)
    assert newer.content != codes
    assert server.post("/v1/decode", codes, as_npy).content == before
    negative = server.post("/v1/decode", newer.content, as_npy).content
    assert negative != before
    shutil.rmtree(folder / "tiny")
    reload.by_request()
    answer = server.post("/v1/decode", codes, as_npy)
    assert (answer.status_code, answer.json()["code"]) == (409, "code_space_mismatch")
    assert server.post("/v1/decode", newer.content, as_npy).content == negative


def test_a_request_finishes_with_a_model_that_is_gone(server, reload, folder, poisoned, wait_for):
    """It began when the model was there."""
    add(folder, "other", name="other")
    reload.by_request()
    png = {"content-type": "image/png"} | KEY
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(server.post, "/v1/encode?model=other", poisoned("busy", 200), png)
        wait_for(lambda: server.metric("tessera_queue_items") == 1)
        shutil.rmtree(folder / "other")
        reload.by_request()
        assert not running.done()
        assert server.post("/v1/encode?model=other", b"x", png).status_code == 404
        assert running.result().status_code == 200


def test_many_reloads_at_once_take_turns(server, reload, examples):
    """Twelve at once by both ways: each is done, and the service is what it was."""
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(reload.by_request) for _ in range(8)]
        for _ in range(4):
            server.process.send_signal(signal.SIGHUP)
        assert {one.result().status_code for one in asked} == {200}
    assert models(server) == ["tiny"]
    file, codes = examples[0]
    png = {"content-type": "image/png"} | KEY
    assert server.post("/v1/encode", file, png).json()["data"][0]["codes"] == codes


def test_reloads_leave_nothing_behind(server, reload, folder, wait_for):
    """Sessions of old models are freed, of refused ones too: their threads and memory are gone."""
    for _ in range(3):
        reload.by_request()
    shutil.copytree(folder / "tiny", folder / "z")  # refused after the first has been loaded
    assert reload.by_request().status_code == 422
    shutil.rmtree(folder / "z")
    reload.by_request()
    threads, memory, files = server.threads(), server.memory(), server.files()
    for _ in range(5):
        reload.by_request()
        shutil.copytree(folder / "tiny", folder / "z")
        assert reload.by_request().status_code == 422
        shutil.rmtree(folder / "z")
    # A model left behind would have four threads, and there were ten; the pool that loads them
    # may have grown by a few.
    wait_for(lambda: server.threads() <= threads + 6 and server.files() <= files + 2)
    wait_for(lambda: server.memory() - memory < 8 * 2**20)
