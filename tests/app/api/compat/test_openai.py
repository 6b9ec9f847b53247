"""OpenAI's embeddings, asked for by OpenAI's own client, unmodified."""

from __future__ import annotations

import asyncio
import base64
import io

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


def test_dimensions_may_only_say_what_is(official):
    """Vectors are never cut short in silence."""
    own = len(official.embeddings.create(model="tiny", input=b64(png(0))).data[0].embedding)
    assert official.embeddings.create(model="tiny", input=b64(png(0)), dimensions=own).data
    with pytest.raises(openai.UnprocessableEntityError, match="numbers"):
        official.embeddings.create(model="tiny", input=b64(png(0)), dimensions=own + 1)


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
