"""Codes of two stages by their context, over HTTP: what of the service depends on stages.

The prior here is a few lines of Python, which knows both stages; that of a bundle is tested with
the tiny model (test_context_coding.py).
"""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from app.api.responses import CODED
from app.codecs.tess import MEDIA_TYPE as PACKED
from app.codecs.tess import read_tess, unpack_codes
from app.errors import NotReady
from app.observability.request_context import RequestContext
from app.service.runner import Runner

LIMITS = {"max_images": 16, "max_pixels": 1_000_000}
SIZES = (256, 16)


class PriorOfStages:
    """A code is likely where the one before it in its stage is near, or the first stage's even."""

    digest = "5a" * 32
    neighbours = ([(0, 0, -1)], [(1, 0, -1), (0, 0, 0)])
    codes = tuple(np.arange(size, dtype=np.int32)[:, None] for size in SIZES)

    def groups(self, stage, neighbours):
        places = np.arange(SIZES[stage])
        near = np.abs(places - neighbours[:, :1]) < 3
        even = (places + neighbours.sum(axis=1, keepdims=True)) % 2 == 0
        return (1 + 3 * near + even).astype(np.int32), np.zeros((len(neighbours), 1), np.uint8)

    def members(self, _stage, _state, groups):
        return np.ones((len(groups), 1), dtype=np.int32)


@pytest.fixture(scope="module")
def staged(staged_bundle, run_app):
    """A client of the service with the model of two stages, and that prior in it."""
    with run_app(models_dir=staged_bundle.parent) as client:
        object.__setattr__(client.app.state.service.models.default, "prior", PriorOfStages())
        yield client


@pytest.fixture(scope="module")
def photo(photos):
    return (photos / "street.webp").read_bytes()


def encode(client, photo: bytes, accept: str, **params):
    headers = {"content-type": "image/webp", "accept": accept}
    answer = client.post("/v1/encode", content=photo, headers=headers, params=params)
    assert answer.status_code == 200, answer.text
    return answer


def send(client, route: str, body: bytes, accept: str = "*/*", **params):
    headers = {"content-type": PACKED, "accept": accept}
    return client.post(route, content=body, headers=headers, params=params)


@pytest.mark.parametrize("stages", [1, 2])
def test_any_number_of_stages_there_and_back(staged, photo, stages):
    """Coded and decoded they are the codes that come plain, and the file says how many they are."""
    plain = encode(staged, photo, PACKED, stages=stages).content
    small = encode(staged, photo, CODED, stages=stages).content
    file = read_tess(small, **LIMITS)
    assert (small[8], file.residual_sizes, file.grids[0].stages) == (
        stages,
        SIZES[1:stages],
        stages,
    )
    assert send(staged, "/v1/recode", small, PACKED).content == plain
    assert send(staged, "/v1/recode", plain, CODED).content == small
    for decoder in ("default", "texture"):
        pictures = [send(staged, "/v1/decode", b, decoder=decoder) for b in (plain, small)]
        assert pictures[0].status_code == 200
        assert pictures[0].content == pictures[1].content


def test_stages_are_dropped_from_coded_codes(staged, photo):
    """To what coding the first alone gives."""
    both = encode(staged, photo, CODED).content
    first = encode(staged, photo, CODED, stages=1).content
    assert send(staged, "/v1/recode", both, CODED, stages=1).content == first
    plain = encode(staged, photo, PACKED, stages=1).content
    assert send(staged, "/v1/recode", both, PACKED, stages=1).content == plain
    assert send(staged, "/v1/decode", both, stages=1).content == (
        send(staged, "/v1/decode", plain).content
    )


def test_bits_are_those_of_the_stages(staged, photo):
    """Of images and of codes, all stages or the first, with a map of each."""
    upload = {"content": photo, "headers": {"content-type": "image/webp"}}
    both = staged.post("/v1/bits?map=true", **upload).json()["data"][0]
    first = staged.post("/v1/bits?map=true&stages=1", **upload).json()["data"][0]
    maps = np.array(both["map"])
    rows, columns = np.array(first["map"]).shape
    assert maps.shape == (2, rows, columns)
    assert np.array_equal(maps[0], np.array(first["map"]))
    assert both["bits"] == pytest.approx(maps.sum(), rel=1e-3)
    assert both["bits_per_code"] == pytest.approx(both["bits"] / maps.size, abs=1e-3)
    coded = encode(staged, photo, CODED).content
    assert (
        both["bits"] / 8 - 1
        < len(read_tess(coded, **LIMITS).grids[0].data)
        < (both["bits"] / 8 + 2)
    )
    of_codes = send(staged, "/v1/bits", coded, map=True).json()["data"][0]
    assert of_codes["map"] == both["map"]
    thin = send(staged, "/v1/bits", coded, map=True, stages=1).json()["data"][0]
    assert thin["map"] == first["map"]


def test_vectors_are_of_the_first_stage(staged, photo):
    """Coded codes of two stages embed as the plain first one."""
    vectors = [
        send(staged, "/v1/embed", encode(staged, photo, accept, stages=stages).content).json()
        for accept, stages in ((CODED, 2), (PACKED, 1))
    ]
    assert vectors[0]["data"][0]["embedding"] == vectors[1]["data"][0]["embedding"]


def test_a_prior_of_the_first_stage_alone_codes_that_alone(staged, photo, monkeypatch):
    """Both are refused before any work, with what to do; and so are coded codes of both."""
    both = encode(staged, photo, CODED).content
    first = encode(staged, photo, CODED, stages=1).content
    monkeypatch.setattr(PriorOfStages, "codes", PriorOfStages.codes[:1])
    monkeypatch.setattr(PriorOfStages, "neighbours", PriorOfStages.neighbours[:1])
    assert encode(staged, photo, CODED, stages=1).content == first
    headers = {"content-type": "image/webp", "accept": CODED}
    for answer in (
        staged.post("/v1/encode", content=photo, headers=headers),
        send(staged, "/v1/decode", both),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "prior_not_found")
        assert "1 of the 2 stages" in answer.json()["detail"]
    plain = send(staged, "/v1/recode", first, PACKED)
    assert unpack_codes(plain.content, **LIMITS).grids[0].stages == 1


def test_coded_codes_of_other_stages_never_run_together(staged, photo):
    """However they meet in the queue, each is decoded as it was coded."""
    service = staged.app.state.service
    model = service.models.default
    keys = []

    class Queue:
        async def submit_prepared(self, work):
            keys.append(work.key)
            raise NotReady("only looked at")

    grids = [
        read_tess(encode(staged, photo, CODED, stages=stages).content, **LIMITS).grids[0]
        for stages in (1, 2, 2)
    ]
    with pytest.raises(NotReady):
        asyncio.run(Runner(Queue(), model, RequestContext(None)).plain(list(enumerate(grids))))
    assert grids[0].shape == grids[1].shape
    assert keys[0] != keys[1] == keys[2]
