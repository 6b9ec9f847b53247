"""The client with a model of two stages and two decoders."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from PIL import Image

from tessera_client import AsyncClient, Client, Codes, CodesError, ServerError
from tessera_client.tess import joined_file, split_file


@pytest.fixture(scope="module")
def address(staged_bundle, run_app):
    """Where the service with that model answers."""
    with run_app(models_dir=staged_bundle.parent) as service:
        yield str(service.base_url)


@pytest.fixture(scope="module")
def client(address):
    with Client(address, batch_images=2) as client:
        yield client


@pytest.fixture(scope="module")
def pictures(photos):
    """Three photographs, two of them of one size, uint8 `[h, w, 3]`."""
    sizes = {"lake": (40, 24), "otter": (40, 24), "street": (21, 9)}
    return [
        np.asarray(Image.open(photos / f"{name}.webp").convert("RGB").resize(size))
        for name, size in sizes.items()
    ]


def test_codes_of_both_stages(client, pictures):
    """As many as the model says, or as are asked for; a grid has an axis of them."""
    codes = client.encode(pictures)
    assert (codes.stages, codes.codebook_sizes, codes.bits_per_code) == (2, (256, 16), 8)
    assert [grid.codes.shape for grid in codes] == [(2, 3, 5), (2, 3, 5), (2, 2, 3)]
    assert "256 + 16" in repr(codes)
    assert "2 × 3 × 5 codes" in repr(codes[0])
    first = client.encode(pictures, stages=1)
    assert (first.stages, first.residual_sizes) == (1, ())
    for one, both in zip(first, codes, strict=True):
        assert np.array_equal(one.codes, both.codes[0])
    with pytest.raises(ServerError, match="1 to 2"):
        client.encode(pictures, stages=3)


def test_dropping_stages_gives_what_fewer_would_have_been(client, pictures):
    """`first(1)` is byte for byte what encoding with one stage gives, and copies nothing."""
    codes = client.encode(pictures)
    thin = codes.first(1)
    assert thin.to_bytes() == client.encode(pictures, stages=1).to_bytes()
    assert np.shares_memory(thin[0].codes, codes[0].codes)
    assert codes.first(2).to_bytes() == codes.to_bytes()
    for stages in (0, 3):
        with pytest.raises(CodesError, match="2 stages"):
            codes.first(stages)


def test_files_keep_the_stages(client, pictures, tmp_path):
    """Written and read, sliced, split and joined."""
    codes = client.encode(pictures)
    codes.save(tmp_path / "a.tess")
    back = Codes.load(tmp_path / "a.tess")
    assert back.residual_sizes == (16,)
    assert back.to_bytes() == codes.to_bytes()
    data = codes.to_bytes()
    assert joined_file(data, split_file(data)) == data
    assert joined_file(data, split_file(data)[1:]) == codes[1:].to_bytes()


def test_different_stages_are_not_joined(client, pictures):
    """One file has as many for all of its images."""
    codes = client.encode(pictures[:1])
    with pytest.raises(CodesError, match=r"first\(1\)"):
        Codes.joined([codes, codes.first(1)])
    assert len(Codes.joined([codes.first(1), codes.first(1)])) == 2


def test_every_decoder_decodes_any_number_of_stages(client, pictures):
    """Four pictures of one; the default decoder has a name too, an unknown one is refused."""
    codes = client.encode(pictures)
    found = [
        client.decode(part, decoder=decoder)
        for part in (codes, codes.first(1))
        for decoder in (None, "texture")
    ]
    for images in found:
        assert [image.shape for image in images] == [picture.shape for picture in pictures]
    assert len({images[0].tobytes() for images in found}) == 4
    named = client.decode(codes, decoder="default")
    assert all(np.array_equal(*pair) for pair in zip(named, found[0], strict=True))
    with pytest.raises(ServerError, match="default, texture") as refused:
        client.decode(codes, decoder="sharp")
    assert refused.value.code == "decoder_not_found"


def test_reconstructions_by_decoder_and_stages(client, pictures):
    """As decoding what was encoded, and the rate is of these stages."""
    for stages in (1, 2):
        codes = client.encode(pictures, stages=stages)
        decoded = client.decode(codes, decoder="texture")
        near = client.reconstruct(pictures, decoder="texture", stages=stages)
        for one, image in zip(near, decoded, strict=True):
            assert np.array_equal(one.pixels, image)
        assert near[0].bits_per_pixel == pytest.approx((8, 12)[stages - 1] / 64)


def test_vectors_are_of_the_first_stage(client, pictures):
    """Images, all of their codes and the first of them give one vector."""
    codes = client.encode(pictures)
    vectors = client.embed(pictures)
    assert np.array_equal(vectors, client.embed(codes))
    assert np.array_equal(vectors, client.embed(codes.first(1)))


def test_recoding_drops_stages(client, pictures):
    """On the server, for what can't be read here."""
    codes = client.encode(pictures)
    thin = client.recode(codes.to_bytes(), "fixed", stages=1)
    assert thin == codes.first(1).to_bytes()


def test_the_asynchronous_client_does_the_same(address, client, pictures):
    """Every argument, the same answers."""

    async def run():
        async with AsyncClient(address) as other:
            codes = await other.encode(pictures, stages=2)
            images = await other.decode(codes, decoder="texture")
            near = await other.reconstruct(pictures, decoder="texture", stages=1)
            thin = await other.recode(codes.to_bytes(), "fixed", 1)
            return codes, images, near, thin

    codes, images, near, thin = asyncio.run(run())
    assert codes.to_bytes() == client.encode(pictures).to_bytes()
    for image, expected in zip(images, client.decode(codes, decoder="texture"), strict=True):
        assert np.array_equal(image, expected)
    expected = client.reconstruct(pictures, decoder="texture", stages=1)
    assert [one.psnr for one in near] == [one.psnr for one in expected]
    assert thin == codes.first(1).to_bytes()
