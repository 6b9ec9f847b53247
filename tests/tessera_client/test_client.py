"""The client against the real service, whose limits it doesn't know and must live with."""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tessera_client import (
    AsyncClient,
    Client,
    Codes,
    CodesError,
    ServerError,
    SetupError,
    Unreachable,
)
from tessera_client.tess import split_file

ROOT = Path(__file__).parents[2]


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def client(address):
    with Client(address, api_key="right") as client:
        yield client


def same(images: list[np.ndarray], others: list[np.ndarray]) -> bool:
    return all(np.array_equal(*pair) for pair in zip(images, others, strict=True))


def equal(codes: Codes, others: Codes) -> bool:
    return len(codes) == len(others) and all(
        np.array_equal(one.codes, other.codes)
        and (one.width, one.height) == (other.width, other.height)
        for one, other in zip(codes, others, strict=True)
    )


def test_paths_bytes_arrays_and_pil_images_give_the_same_codes(client, pictures, tmp_path):
    """However an image is passed, its pixels arrive unchanged."""
    paths = []
    for index, pixels in enumerate(pictures[:3]):
        paths.append(tmp_path / f"{index}.png")
        paths[-1].write_bytes(png(pixels))
    codes = client.encode(paths)
    assert [grid.name for grid in codes] == ["0.png", "1.png", "2.png"]
    assert [(grid.width, grid.height) for grid in codes] == [(24, 16), (21, 9), (8, 40)]
    assert codes[0].codes.shape == (2, 3)
    assert equal(codes, client.encode([str(path) for path in paths]))
    assert equal(codes, client.encode([path.read_bytes() for path in paths]))
    assert equal(codes, client.encode(pictures[:3]))
    assert equal(codes, client.encode(Image.fromarray(pixels) for pixels in pictures[:3]))
    assert equal(codes[:1], client.encode(pictures[0]))
    assert equal(codes[:1], client.encode(paths[0]))


def test_images_keep_their_names_and_the_nameless_have_none(client, pictures, tmp_path):
    """Whatever is in a name; an array has none, and an empty file is refused in its place."""
    names = ["a.png", 'quo"te.png', "übung.jpg", "two\nlines.png", os.fsdecode(b"caf\xe9.png")]
    for name in names:
        (tmp_path / name).write_bytes(png(pictures[0]))
    codes = client.encode([*(tmp_path / name for name in names), pictures[1]])
    named = [grid.name for grid in codes]
    assert (named[0], named[2], named[4], named[5]) == ("a.png", "übung.jpg", "caf\ufffd.png", None)
    failed: dict[int, ServerError] = {}
    assert len(client.encode([pictures[0], b"", pictures[1]], failed=failed)) == 2
    assert [*failed] == [1]


def test_any_request_can_be_sent(client):
    """With its refusals as errors: what the other methods don't cover."""
    assert client.request("GET", "/v1/models/tiny").json()["id"] == "tiny@1"
    with pytest.raises(ServerError) as caught:
        client.request("POST", "/v1/decode", json={})
    assert (caught.value.code, caught.value.index) == ("malformed_request", None)


def test_a_named_model_holds_for_codes_too(address, client, pictures):
    """Versions of one code space may embed differently: the one that was named is asked."""
    codes = client.encode(pictures[0])
    with (
        Client(address, api_key="right", model="absent") as other,
        pytest.raises(ServerError) as caught,
    ):
        other.embed(codes)
    assert caught.value.code == "model_not_found"


def test_what_may_look_wrong_is_told_by_index(client, pictures):
    """Twelve bits in sixteen, taken as what the file says or as what they are."""
    dark = np.random.default_rng(0).integers(0, 4096, (16, 16), dtype=np.uint16)
    file = io.BytesIO()
    Image.fromarray(dark).save(file, "PNG")
    warnings: dict[int, list[str]] = {}
    images = [*pictures[:4], file.getvalue()]
    codes = client.encode(images, warnings=warnings)
    assert warnings == {4: ["dark_samples"]}
    warnings.clear()
    scaled = client.encode(images, sample_bits=12, warnings=warnings)
    assert warnings == {}
    assert not np.array_equal(scaled[4].codes, codes[4].codes)


def test_more_images_than_the_server_takes_arrive_in_order(client, pictures):
    """Twelve in one call; the server takes three at once and queues three: halved and retried."""
    together = client.encode(pictures)
    assert equal(together, Codes.joined([client.encode(one) for one in pictures]))


def test_decoded_images_have_their_true_size_and_order(client, pictures):
    """Sizes are mixed, so decoding goes in groups."""
    decoded = client.decode(client.encode(pictures))
    assert [image.shape for image in decoded] == [image.shape for image in pictures]
    assert all(image.dtype == np.uint8 for image in decoded)


def test_images_and_their_codes_embed_alike(client, pictures):
    """float32, length 1."""
    vectors = client.embed(pictures)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-4)
    assert np.array_equal(vectors, client.embed(client.encode(pictures)))


def test_reconstructions_say_how_near_they_are(client, pictures):
    """What decoding the codes gives, with PSNR and rate."""
    decoded = client.decode(client.encode(pictures[:4]))
    for pixels, image, near in zip(
        pictures, decoded, client.reconstruct(pictures[:4]), strict=False
    ):
        assert np.array_equal(near.pixels, image)
        error = np.mean((pixels.astype(float) - image) ** 2)
        assert near.psnr == pytest.approx(10 * np.log10(255**2 / error), abs=1e-3)
        rows, columns = -(-pixels.shape[0] // 8), -(-pixels.shape[1] // 8)
        assert near.bits_per_pixel == pytest.approx(rows * columns * 8 / pixels[..., 0].size, 1e-4)


def test_images_can_be_resized_on_the_way(client, pictures):
    """All to one size."""
    assert {grid.codes.shape for grid in client.encode(pictures[:3], size=(32, 16))} == {(2, 4)}


def test_an_images_fault_is_raised_with_its_index(client, pictures):
    """Also where the image was one of a batch."""
    files = [png(pixels) for pixels in pictures]
    files[4] = files[4][:60]
    with pytest.raises(ServerError, match="item 4") as caught:
        client.encode(files)
    assert (caught.value.code, caught.value.status, caught.value.index) == ("image_corrupt", 422, 4)
    assert caught.value.request_id


def test_faults_can_be_collected_instead(client, pictures):
    """The others are still encoded, each in its place."""
    files = [png(pixels) for pixels in pictures]
    files[4], files[9] = files[4][:60], b"no image"
    failed: dict[int, ServerError] = {}
    codes = client.encode(files, failed=failed)
    assert {index: error.code for index, error in failed.items()} == {
        4: "image_corrupt",
        9: "unsupported_media_type",
    }
    assert equal(codes, client.encode([p for i, p in enumerate(pictures) if i not in {4, 9}]))
    assert len(client.embed(files, failed=failed)) == 10


def test_an_image_above_the_servers_limit_is_its_own_fault(client):
    """A single one can't be halved."""
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    with pytest.raises(ServerError) as caught:
        client.encode(noise)
    assert (caught.value.code, caught.value.index) == ("body_too_large", 0)


def test_faults_of_the_whole_request_are_not_halved(address, pictures):
    """An unknown model and a bad size are not the images' fault."""
    with (
        Client(address, api_key="right", model="absent") as client,
        pytest.raises(ServerError) as caught,
    ):
        client.encode(pictures[:3], failed={})
    assert (caught.value.code, caught.value.index) == ("model_not_found", None)
    with Client(address, api_key="right") as client, pytest.raises(ServerError) as caught:
        client.encode(pictures[:3], size=(0, 8), failed={})
    assert caught.value.code == "invalid_parameter"


def test_codes_of_another_space_are_refused(client, pictures):
    """By the server, with its code."""
    codes = client.encode(pictures[0])
    stranger = Codes("ab" * 32, codes.codebook_size, codes.stride, "fp32", codes.grids)
    with pytest.raises(ServerError) as caught:
        client.decode(stranger)
    assert (caught.value.code, caught.value.status) == ("code_space_mismatch", 409)
    with pytest.raises(CodesError, match="different code spaces"):
        Codes.joined([codes, stranger])


def test_codes_survive_a_file(client, pictures, tmp_path):
    """Saved, loaded, decoded."""
    codes = client.encode(pictures[:5])
    codes.save(tmp_path / "five.tess")
    loaded = Codes.load(tmp_path / "five.tess")
    assert equal(codes, loaded)
    assert [path.name for path in tmp_path.iterdir()] == ["five.tess"]
    assert same(client.decode(codes), client.decode(loaded))


def test_keys_and_models(address, pictures):
    """A wrong key is the server's error; models say what they are."""
    with Client(address, api_key="right", model="tiny@1") as client:
        assert len(client.encode(pictures[:2])) == 2
        assert client.is_ready()
        (model,) = client.models()
        assert (model["id"], model["aliases"]) == ("tiny@1", ["tiny"])
    with Client(address, api_key="wrong") as client, pytest.raises(ServerError) as caught:
        client.models()
    assert (caught.value.code, caught.value.status) == ("unauthorized", 401)


def test_a_server_that_is_not_there_is_unreachable(pictures):
    """After the time given for retries, not for ever."""
    with Client("http://127.0.0.1:9", retry_for_s=0.5) as client:
        assert not client.is_ready()
        with pytest.raises(Unreachable):
            client.encode(pictures)


@pytest.mark.parametrize("given", [3, [3], np.zeros((4, 4)), np.zeros((4, 4, 3))])
def test_what_is_no_image_is_refused_before_it_is_sent(client, given):
    """With a TypeError, as Python does."""
    with pytest.raises(TypeError):
        client.encode(given)


async def _asynchronously(address, pictures, path):
    async with AsyncClient(address, api_key="right") as client:
        codes = await client.encode(pictures)
        assert await client.is_ready()
        assert len(await client.models()) == 1
        failed: dict[int, ServerError] = {}
        await client.encode([b"no image", path], failed=failed)
        assert [*failed] == [0]
        with pytest.raises(ServerError):
            await client.encode([b"no image", path])
        near = await client.reconstruct(pictures[:2])
        return codes, await client.decode(codes), await client.embed(codes), near


def test_asynchronous_client_does_the_same(address, client, pictures, tmp_path):
    """The same flows, awaited."""
    (tmp_path / "a.png").write_bytes(png(pictures[0]))
    codes, images, vectors, near = asyncio.run(
        _asynchronously(address, pictures, tmp_path / "a.png")
    )
    assert equal(codes, client.encode(pictures))
    assert same(images, client.decode(codes))
    assert np.array_equal(vectors, client.embed(codes))
    assert np.array_equal(near[1].pixels, images[1])


def test_client_stands_alone():
    """It needs neither Pillow nor anything of the service."""
    absent = ["PIL", "app", "bundle", "training", "pydantic", "fastapi", "onnxruntime"]
    code = f"import sys; sys.modules.update(dict.fromkeys({absent})); import tessera_client"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


def test_one_failed_batch_ends_the_wait_for_the_others(pictures):
    """While one is refused for good, another would be asked again for two minutes."""
    asked = []

    class Server(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            asked.append(self.path)
            self.send_response(401 if len(asked) == 2 else 503)
            self.send_header("retry-after", "1")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        started = time.monotonic()
        with Client(url, batch_images=1, concurrency=2) as client:
            with pytest.raises(ServerError) as caught:
                client.encode(pictures[:4])
            assert caught.value.status == 401
        assert time.monotonic() - started < 30
        server.shutdown()


def test_a_file_is_recoded_there_and_back(client, address, pictures):
    """Coded by context it comes back byte for byte, from both clients, in however many requests."""
    plain = client.encode(pictures).to_bytes()
    small = client.recode(plain)
    assert small != plain
    assert len(split_file(small)) == len(pictures)
    assert client.recode(small, "fixed") == plain

    async def both() -> tuple[bytes, bytes]:
        async with AsyncClient(address, api_key="right") as other:
            return await other.recode(plain), await other.recode(small, "fixed")

    assert asyncio.run(both()) == (small, plain)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SSL_CERT_FILE", "/absent/ca.pem"),
        ("ALL_PROXY", "gopher://127.0.0.1:1"),
        ("NO_PROXY", "::1,[::1]"),
    ],
)
def test_an_environment_that_cannot_be_used_is_said(monkeypatch, kind, variable, value):
    """Certificates and proxies are read from it before anything is sent, even over plain HTTP."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv(variable, value)
    with pytest.raises(SetupError, match=variable):
        kind("http://127.0.0.1:9")
