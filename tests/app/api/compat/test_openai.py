"""OpenAI's embeddings, asked for by OpenAI's own client, unmodified."""

from __future__ import annotations

import asyncio
import base64
import io
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest
from PIL import Image


def png(seed: int, width: int = 40, height: int = 24) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    return file.getvalue()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture(scope="module")
def official(client):
    """The client as its users make it, but for the address."""
    with openai.OpenAI(api_key="any", base_url=f"{client.base_url}/v1", max_retries=0) as official:
        yield official


@pytest.fixture
def raw(client):
    """A client of the same address, for what the official one wouldn't send."""
    with httpx.Client(base_url=client.base_url) as raw:
        yield raw


def own(client, data: bytes) -> list[float]:
    response = client.post("/v1/embed", content=data, headers={"content-type": "image/png"})
    return response.json()["data"][0]["embedding"]


def test_default_of_the_client_is_base64_and_gives_our_vectors(client, official):
    """Without encoding_format the client asks for base64 and unpacks it."""
    made = official.embeddings.create(model="tiny", input=[b64(png(0)), b64(png(1))])
    assert [entry.index for entry in made.data] == [0, 1]
    for seed, entry in enumerate(made.data):
        assert entry.object == "embedding"
        assert np.float32(entry.embedding).tolist() == np.float32(own(client, png(seed))).tolist()


def test_base64_really_travels(official):
    """The bytes on the wire are base64, not numbers."""
    wire = official.embeddings.with_raw_response.create(model="tiny", input=b64(png(0)))
    assert isinstance(wire.http_response.json()["data"][0]["embedding"], str)


def test_float_and_base64_agree(official):
    """Both encodings hold the same vector of length 1."""
    image = "data:image/png;base64," + b64(png(0))
    floats = official.embeddings.create(model="tiny", input=image, encoding_format="float")
    packed = official.embeddings.create(model="tiny", input=image, encoding_format="base64")
    vector = np.frombuffer(base64.b64decode(packed.data[0].embedding), "<f4")
    assert np.float32(floats.data[0].embedding).tolist() == vector.tolist()
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


def test_usage_counts_codes(official):
    """20 × 10 pixels at stride 8 are 3 × 2 codes, 40 × 24 are 5 × 3."""
    made = official.embeddings.create(model="tiny", input=[b64(png(0, 20, 10)), b64(png(0))])
    assert (made.usage.prompt_tokens, made.usage.total_tokens) == (21, 21)
    assert made.model == "tiny"


def test_models_can_be_listed(official):
    """By id, which is what `model` takes; our own fields come along."""
    (model,) = official.models.list()
    assert (model.id, model.aliases) == ("tiny@1", ["tiny"])
    assert official.embeddings.create(model=model.id, input=b64(png(0))).data


def test_the_model_list_has_the_fields_that_clients_expect(official):
    """Of the list and of one model, as OpenAI's types have them."""
    (model,) = official.models.list()
    assert (model.object, model.owned_by) == ("model", "tessera")
    assert model.created > 1_500_000_000
    assert official.models.retrieve("tiny").created == model.created


@pytest.fixture(scope="module")
def default_model(run_app, tmp_path_factory):
    """The client of a service with the default model, whose vectors are long enough to cut."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "photo-f8").symlink_to(Path(__file__).parents[4] / "models" / "photo-f8")
    with (
        run_app(models_dir=folder) as client,
        openai.OpenAI(api_key="any", base_url=f"{client.base_url}/v1", max_retries=0) as official,
    ):
        yield official


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_shorter_vectors_are_the_first_numbers_of_the_whole_one(default_model, encoding):
    """Scaled to length 1, in both encodings; the model's own size leaves the vector as it is."""
    asked = {"model": "photo-f8", "input": b64(png(0)), "encoding_format": encoding}

    def vector(**more) -> np.ndarray:
        found = default_model.embeddings.create(**asked, **more).data[0].embedding
        if isinstance(found, str):
            return np.frombuffer(base64.b64decode(found), "<f4")
        return np.float32(found)

    whole = vector()
    assert np.array_equal(vector(dimensions=len(whole)), whole)
    for size in (32, 64, 128):
        found = vector(dimensions=size)
        assert found.shape == (size,)
        assert np.linalg.norm(found) == pytest.approx(1, abs=1e-5)
        np.testing.assert_allclose(found, whole[:size] / np.linalg.norm(whole[:size]), rtol=1e-5)


@pytest.mark.parametrize("size", [0, -32, 1, 33, 100_000, True, 32.5, "32", [32]])
def test_other_dimensions_are_refused_with_those_there_are(default_model, size):
    """Vectors are never cut short in silence, nor to a size that nobody has measured."""
    body = {"input": b64(png(0)), "dimensions": size}
    response = httpx.post(f"{default_model.base_url}embeddings", json=body)
    assert response.status_code == 422
    assert "have 32, 64, 128, 256 numbers" in response.json()["error"]["message"]


def test_a_model_of_short_vectors_has_no_shorter_ones(official):
    """The tiny model's are its own size or refused."""
    own = len(official.embeddings.create(model="tiny", input=b64(png(0))).data[0].embedding)
    assert own < 32
    assert official.embeddings.create(model="tiny", input=b64(png(0)), dimensions=own).data
    with pytest.raises(openai.UnprocessableEntityError, match=f"have {own} numbers"):
        official.embeddings.create(model="tiny", input=b64(png(0)), dimensions=32)


@pytest.mark.parametrize(
    ("asked", "kind", "code", "param"),
    [
        ({"model": "gpt"}, openai.NotFoundError, "model_not_found", "model"),
        ({"input": "a text"}, openai.BadRequestError, "malformed_request", "input"),
        ({"input": []}, openai.BadRequestError, "malformed_request", "input"),
        ({"input": [1, 2, 3]}, openai.BadRequestError, "malformed_request", "input"),
        (
            {"input": "http://example.org/a.png"},
            openai.BadRequestError,
            "malformed_request",
            "input",
        ),
        (
            {"input": [b64(png(0)), b64(png(0)[:99])]},
            openai.UnprocessableEntityError,
            "image_corrupt",
            "input",
        ),
        (
            {"input": ["aaaa"] * 65},
            openai.APIStatusError,
            "too_many_images",
            "input",
        ),
        (
            {"input": b64(b"no image at all")},
            openai.APIStatusError,
            "unsupported_media_type",
            "input",
        ),
    ],
)
def test_errors_are_the_clients_own(official, asked, kind, code, param):
    """Each refusal arrives as the client's exception, with our code in OpenAI's shape."""
    with pytest.raises(kind) as caught:
        official.embeddings.create(**({"model": "tiny", "input": b64(png(0))} | asked))
    assert (caught.value.code, caught.value.param) == (code, param)
    assert caught.value.type == "invalid_request_error"
    assert caught.value.body["message"]


def test_the_failing_input_is_named(official):
    """Of several inputs, the message says which one is bad."""
    with pytest.raises(openai.UnprocessableEntityError, match="item 1"):
        official.embeddings.create(model="tiny", input=[b64(png(0)), b64(png(0)[:99])])


def test_keys_are_bearer_keys(run_app, tiny_bundle):
    """The client's api_key is what TESSERA_API_KEYS wants, and a wrong one its own error."""
    with run_app(models_dir=tiny_bundle.parent, api_keys="right") as client:
        address = f"{client.base_url}/v1"
        with openai.OpenAI(api_key="right", base_url=address) as official:
            assert official.embeddings.create(model="tiny", input=b64(png(0))).data
        with openai.OpenAI(api_key="wrong", base_url=address) as official:
            with pytest.raises(openai.AuthenticationError) as caught:
                official.embeddings.create(model="tiny", input=b64(png(0)))
            assert caught.value.code == "unauthorized"


async def _asynchronously(address: str) -> list[float]:
    async with openai.AsyncOpenAI(api_key="any", base_url=address) as official:
        made = await official.embeddings.create(model="tiny", input=b64(png(0)))
        return made.data[0].embedding


def test_asynchronous_client_too(client):
    """The same through AsyncOpenAI."""
    made = asyncio.run(_asynchronously(f"{client.base_url}/v1"))
    assert np.float32(made).tolist() == np.float32(own(client, png(0))).tolist()


@pytest.mark.parametrize(
    ("content", "kind", "status", "code"),
    [
        (b"{", "application/json", 400, "malformed_request"),
        (b"[]", "application/json", 400, "malformed_request"),
        (png(0), "image/png", 415, "unsupported_media_type"),
        (
            b'{"input": "aa", "encoding_format": "int8"}',
            "application/json",
            422,
            "invalid_parameter",
        ),
        (b'{"input": "aa", "model": 1}', "application/json", 422, "invalid_parameter"),
    ],
)
def test_what_the_client_would_not_send(raw, content, kind, status, code):
    """Other clients' faults get the same shape, and the request id."""
    response = raw.post("/v1/embeddings", content=content, headers={"content-type": kind})
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]


def test_wrong_method_is_said_in_the_same_shape(raw):
    """What the framework refuses has OpenAI's shape too on this path."""
    response = raw.get("/v1/embeddings")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    assert response.json()["error"]["code"] == "method_not_allowed"
