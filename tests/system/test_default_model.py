"""Facts about the service with the default model: its codes don't depend on the company."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bundle import open_bundle

MODELS = Path(__file__).parent.parent.parent / "models"


@pytest.fixture(scope="module")
def service(run_app):
    """The service with the default model, as `make serve` starts it."""
    with run_app(models_dir=MODELS) as client:
        yield client


@pytest.fixture(scope="module")
def files(photos):
    """Eight photographs of different sizes: names and bytes."""
    return [(p.name, p.read_bytes()) for p in sorted(photos.glob("*.webp"))]


@pytest.fixture(scope="module")
def alone(service, files):
    """Each photograph's codes when it is the only request."""
    return {name: encode_one(service, content) for name, content in files}


def encode_one(service, content: bytes):
    """The item of one image sent as a raw body."""
    answer = service.post("/v1/encode", content=content, headers={"Content-Type": "image/webp"})
    answer.raise_for_status()
    (item,) = answer.json()["data"]
    return item["codes"]


def test_bundle():
    """The committed bundle is whole, has three precisions, and stays under 50 MiB."""
    manifest = open_bundle(MODELS / "photo-f8").manifest
    assert manifest.name == "photo-f8"
    assert set(manifest.graphs["encoder"].files) == {"fp32", "fp16", "int8"}
    assert sum(file.bytes for file in manifest.files.values()) < 50 * 2**20


def test_labels_are_of_the_codes(service, files):
    """In one request, from their codes in one request, and each alone: the same labels and map."""
    form = [("images", file) for file in files]
    together = service.post("/v1/classify?map=true", files=form).json()["data"]
    packed = {"Accept": "application/vnd.tessera.codes"}
    codes = service.post("/v1/encode", files=form, headers=packed).content
    headers = {"Content-Type": packed["Accept"]}
    of_codes = service.post("/v1/classify?map=true", content=codes, headers=headers).json()["data"]
    assert of_codes == together
    for index, (name, content) in enumerate(files):
        alone = service.post("/v1/classify?map=true", files={"image": (name, content)}).json()
        assert alone["data"][0] | {"index": index} == together[index]


def test_codes_in_one_request(service, files, alone):
    """Eight photographs in one request get the codes that each gets alone."""
    answer = service.post("/v1/encode", files=[("images", file) for file in files])
    assert {item["name"]: item["codes"] for item in answer.json()["data"]} == alone


def test_codes_under_load(service, files, alone):
    """Under 32 concurrent clients every photograph gets the codes that it gets alone."""
    requests = files * 8
    with ThreadPoolExecutor(32) as pool:
        made = list(pool.map(lambda file: encode_one(service, file[1]), requests))
    assert all(codes == alone[name] for (name, _), codes in zip(requests, made, strict=True))


def test_same_vector_from_image_and_codes(service, files):
    """Embedding a photograph and embedding its codes give the same vector."""
    _, content = files[0]
    codes = service.post("/v1/encode", content=content, headers={"Content-Type": "image/webp"})
    from_codes = service.post("/v1/embed", json=codes.json()).json()
    headers = {"Content-Type": "image/webp"}
    from_image = service.post("/v1/embed", content=content, headers=headers).json()
    assert from_codes["data"][0]["embedding"] == from_image["data"][0]["embedding"]


def test_description(service):
    """What the service says of the model is what its manifest says."""
    manifest = open_bundle(MODELS / "photo-f8").manifest
    said = service.get("/v1/models/photo-f8").json()
    assert said["code_space"] == manifest.code_space
    assert said["stride"] == manifest.stride == 8
