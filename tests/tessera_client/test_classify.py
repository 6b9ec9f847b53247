"""Labels through the client, from the real service with recognizers that are known by hand."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from tessera_client import AsyncClient, Classification, Client, Codes, Grid, Label, ServerError


@pytest.fixture(scope="module")
def client(recognizing):
    with Client(recognizing) as client:
        yield client


def same(found: list[Classification], others: list[Classification]) -> bool:
    return len(found) == len(others) and all(
        (one.labels, one.recognizer, one.box) == (other.labels, other.recognizer, other.box)
        and np.array_equal(one.map, other.map)
        for one, other in zip(found, others, strict=True)
    )


def test_labels_come_best_first(client, pictures):
    """Typed, as many as were asked for, with the recognizer's name."""
    (found,) = client.classify(pictures[0], k=6)
    assert found.recognizer == "colours"
    assert found.best == found.labels[0] == Label(found.best.label, found.best.probability)
    shares = [label.probability for label in found.labels]
    assert len(shares) == 6
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1, abs=1e-5)
    assert (found.map, found.box) == (None, None)
    assert len(client.classify(pictures[0])[0].labels) == 5


def test_images_and_their_codes_have_the_same_labels(client, pictures):
    """More than one request takes, in order, with their maps and boxes."""
    of_images = client.classify(pictures, with_map=True)
    assert len(of_images) == len(pictures)
    assert same(of_images, client.classify(client.encode(pictures), with_map=True))
    assert same(of_images[4:5], client.classify(pictures[4], with_map=True))


def test_the_map_is_over_the_grid_and_the_box_in_the_picture(client, pictures):
    """float32, 0…1; pixels."""
    for pixels, found in zip(
        pictures[:3], client.classify(pictures[:3], with_map=True), strict=True
    ):
        height, width, _ = pixels.shape
        assert found.map.shape == (-(-height // 8), -(-width // 8))
        assert found.map.dtype == np.float32
        assert 0 <= found.map.min() <= found.map.max() <= 1
        left, top, right, bottom = found.box
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height


def test_one_of_several_recognizers_is_named(client, pictures):
    """From images and from codes; one that isn't there is refused."""
    for given in (pictures[0], client.encode(pictures[0])):
        (found,) = client.classify(given, recognizer="tones", k=1)
        assert found.recognizer == "tones"
        assert found.best.label in {"dark", "light"}
        with pytest.raises(ServerError) as refused:
            client.classify(given, recognizer="absent")
        assert (refused.value.code, refused.value.index) == ("recognizer_not_found", None)


def test_images_can_be_resized_on_the_way(client, pictures):
    """The map is of the resized image's grid."""
    (found,) = client.classify(pictures[0], size=(64, 32), fit="stretch", with_map=True)
    assert found.map.shape == (4, 8)


def test_an_images_fault_is_raised_with_its_index(client, pictures):
    """Although the answer's status is 200: it says so in the item."""
    with pytest.raises(ServerError) as refused:
        client.classify([*pictures[:4], b"no image"])
    assert (refused.value.index, refused.value.status) == (4, 415)
    assert refused.value.request_id


def test_faults_can_be_collected_instead(client, pictures):
    """By index; the rest is there, in order."""
    failed: dict[int, ServerError] = {}
    found = client.classify([b"no", pictures[0], b"", pictures[1], b"no"], failed=failed)
    assert same(found, client.classify(pictures[:2]))
    assert sorted(failed) == [0, 2, 4]
    assert failed[4].index == 4


def test_codes_faults_are_found_too(client, pictures):
    """A code that the codebook doesn't have is its grid's fault alone."""
    codes = client.encode(pictures[:2])
    wrong = Grid(np.full((2, 2), 9999), 16, 16)
    mixed = Codes(codes.code_space, 16384, codes.stride, codes.precision, (*codes, wrong))
    with pytest.raises(ServerError) as refused:
        client.classify(mixed)
    assert refused.value.code in {"codes_invalid", "malformed_request"}


def test_asynchronous_client_does_the_same(recognizing, client, pictures):
    """The same flows, awaited."""

    async def classify():
        async with AsyncClient(recognizing) as other:
            failed: dict[int, ServerError] = {}
            found = await other.classify([*pictures, b"no"], with_map=True, failed=failed)
            return found, await other.classify(await other.encode(pictures)), [*failed]

    of_images, of_codes, failed = asyncio.run(classify())
    assert same(of_images, client.classify(pictures, with_map=True))
    assert same(of_codes, client.classify(pictures))
    assert failed == [len(pictures)]


def test_a_model_without_a_recognizer_is_said(address, pictures):
    """With the server's advice."""
    with (
        Client(address, api_key="right") as client,
        pytest.raises(ServerError, match=r"python -m training\.recognize"),
    ):
        client.classify(pictures)
