"""Two versions of a model at once, and what each protocol's clients see of them."""

from __future__ import annotations

import base64
import dataclasses
import io
import shutil
import time

import numpy as np
import openai
import pytest
import tritonclient.http as triton
from PIL import Image

from bundle import open_bundle, write_bundle


@pytest.fixture(scope="module")
def versions(tiny_bundle, run_app, tmp_path_factory):
    """A client of a service with tiny@1 and tiny@2, which has another code space."""
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(tiny_bundle, folder / "old")
    old = open_bundle(tiny_bundle)
    manifest = dataclasses.replace(old.manifest, version="2", code_space="ab" * 32)
    write_bundle(folder / "new", manifest, {file: old.read(file) for file in manifest.files})
    with run_app(models_dir=folder) as client:
        yield client


@pytest.fixture(scope="module")
def image() -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file, "PNG")
    return file.getvalue()


def encode(client, image: bytes, **params: str):
    headers = {"content-type": "image/png"}
    return client.post("/v1/encode", content=image, params=params, headers=headers).json()


def test_models_say_which_is_which(versions):
    """The name alone is an alias of the newest."""
    listed = versions.get("/v1/models").json()
    assert [(model["id"], model["aliases"]) for model in listed["data"]] == [
        ("tiny@2", ["tiny"]),
        ("tiny@1", []),
    ]
    assert versions.get("/v1/models/tiny").json()["version"] == "2"
    assert versions.get("/v1/models/tiny@1").json()["version"] == "1"
    assert versions.get("/v1/models/tiny@3").status_code == 404


def test_a_default_of_an_older_version_is_called_by_its_id(versions, run_app, image):
    """The name alone would mean the newest: npy codes sent back under it would be misread."""
    folder = versions.app.state.service.settings.models_dir
    with run_app(models_dir=folder, default_model="tiny@1") as client:
        assert client.get("/v1/models").json()["default"] == "tiny@1"
        assert encode(client, image)["code_space"] != "ab" * 32


def test_a_busy_model_does_not_keep_an_idle_one_from_its_canary(versions, run_app, image):
    """While one version's runs never end, the other one is still tried."""
    folder = versions.app.state.service.settings.models_dir
    with run_app(models_dir=folder, threads=2) as client:
        service = client.app.state.service
        idle = service.models.get("tiny@1")
        service.batcher.running_for_s = lambda: 1.0  # as under load that never pauses
        service.health.last_run[idle] = ran = time.monotonic() - 20
        deadline = time.monotonic() + 20
        while service.health.last_run[idle] == ran:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_name_encodes_with_the_newest_and_an_id_with_its_own(versions, image):
    """Each answer carries the code space it is of."""
    assert encode(versions, image)["code_space"] == "ab" * 32
    assert encode(versions, image, model="tiny")["code_space"] == "ab" * 32
    assert encode(versions, image, model="tiny@2")["code_space"] == "ab" * 32
    assert encode(versions, image, model="tiny@1")["code_space"] != "ab" * 32


def test_codes_are_decoded_by_whichever_has_their_space(versions, image):
    """What was stored before an upgrade stays readable after it, also under the name."""
    for model in ("tiny@1", "tiny@2"):
        stored = encode(versions, image, model=model)
        for params in ({}, {"model": "tiny"}, {"model": model}):
            assert versions.post("/v1/decode", json=stored, params=params).status_code == 200
    other = versions.post("/v1/decode", json=stored, params={"model": "tiny@1"})
    assert other.json()["code"] == "code_space_mismatch"


def test_tritons_client_sees_both_versions(versions):
    """By the protocol's own versions; without one it is the newest."""
    with triton.InferenceServerClient(
        f"{versions.base_url.host}:{versions.base_url.port}"
    ) as official:
        assert official.get_model_metadata("tiny.encode")["versions"] == ["2", "1"]
        pixels = triton.InferInput("pixels", [1, 8, 8, 3], "UINT8")
        pixels.set_data_from_numpy(np.zeros((1, 8, 8, 3), np.uint8))
        for asked, version in (("", "2"), ("1", "1"), ("2", "2")):
            answer = official.infer("tiny.encode", [pixels], model_version=asked).get_response()
            assert answer["model_version"] == version
        assert not official.is_model_ready("tiny.encode", "3")
        names = {(e["name"], e["version"]) for e in official.get_model_repository_index()}
        assert {("tiny.decode", "1"), ("tiny.decode", "2")} <= names


def test_openais_client_names_either(versions, image):
    """The alias and the id."""
    with openai.OpenAI(api_key="any", base_url=f"{versions.base_url}/v1") as official:
        text = base64.b64encode(image).decode()
        vectors = [
            official.embeddings.create(model=model, input=text).data[0].embedding
            for model in ("tiny", "tiny@1", "tiny@2")
        ]
    # The same graphs under another digest, so the same vectors.
    assert vectors[0] == vectors[1] == vectors[2]
