"""What is asked: requests as bytes, each with the answer that it must get.

Expected answers are learnt from the service while it is quiet, one request at a time, and held
against each other: the three forms of codes must agree, an image's vector must be its codes'
vector, a picture's reconstruction what its codes decode to. Under load every answer must then be
the same, byte for byte: on a CPU a batch gives what its items give alone.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.system.stress.wire import Answer, Client, request

PHOTOS = Path(__file__).parents[2] / "data" / "photos"
JSON = "application/json"
NPY = "application/x-npy"
PACKED = "application/vnd.tessera.codes"


@dataclass(frozen=True, slots=True)
class Case:
    """A request and its answer.

    Attributes:
        name: operation, form and size.
        request: its bytes.
        pixels: that it makes the service work on.
        status: of the answer.
        body: of the answer; None where it isn't the same each time.
        code: of the problem, where the request is one that must be refused.
    """

    name: str
    request: bytes
    pixels: int = 0
    status: int = 200
    body: bytes | None = None
    code: str | None = None

    def fault(self, answer: Answer) -> str | None:
        """What is wrong with an answer; None if it is the expected one."""
        if answer.status != self.status:
            return f"{self.name}: status {answer.status}, not {self.status}"
        if self.body is not None and answer.body != self.body:
            return f"{self.name}: another body of {len(answer.body)} bytes"
        if self.code is not None and json.loads(answer.body).get("code") != self.code:
            return f"{self.name}: code {json.loads(answer.body).get('code')}, not {self.code}"
        return None


class NotAsPromised(Exception):
    """Quiet answers contradict each other: the service is wrong before any load."""


def photographs() -> list[Image.Image]:
    """The committed photographs."""
    return [Image.open(path).convert("RGB") for path in sorted(PHOTOS.glob("*.webp"))]


def picture(photo: Image.Image, width: int, height: int, form: str = "JPEG") -> bytes:
    """A photograph at that size, as a file."""
    file = io.BytesIO()
    photo.resize((width, height), Image.Resampling.LANCZOS).save(file, form, quality=85)
    return file.getvalue()


def npy(array: Any) -> bytes:
    """An array as an npy file."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def multipart(files: Sequence[tuple[str, bytes]]) -> tuple[bytes, str]:
    """Files as a multipart body, and its content type."""
    parts = [
        b'--edge\r\nContent-Disposition: form-data; name="images"; filename="%s"\r\n\r\n%s\r\n'
        % (name.encode(), content)
        for name, content in files
    ]
    return b"".join([*parts, b"--edge--\r\n"]), "multipart/form-data; boundary=edge"


def images_json(files: Iterable[bytes]) -> bytes:
    """Files as a JSON body."""
    return json.dumps({"images": [base64.b64encode(file).decode() for file in files]}).encode()


async def learn(client: Client, name: str, sent: bytes, pixels: int) -> Case:
    """Ask twice and expect what came from now on.

    Raises:
        NotAsPromised: it isn't 200, or isn't the same twice.
    """
    first, second = await client.ask(sent), await client.ask(sent)
    if first.status != 200 or first.body != second.body:
        raise NotAsPromised(f"{name}: {first.status}, then {second.status}: {first.body[:300]!r}")
    return Case(name, sent, pixels, body=first.body)


async def learn_photo(
    client: Client, model: str, photo: bytes, size: tuple[int, int]
) -> list[Case]:
    """Every way to ask for one photograph, and for its codes.

    Args:
        client: of a quiet server.
        model: its name.
        photo: a JPEG file.
        size: its width and height.

    Raises:
        NotAsPromised: two forms of one thing disagree.
    """
    width, height = size
    pixels, label = width * height, f"{model} {width}×{height}"
    query = f"?model={model}"

    async def case(name: str, path: str, body: bytes, kind: str, accept: str = "*/*") -> Case:
        sent = request("POST", f"/v1/{path}{query}", body, kind, accept)
        return await learn(client, f"{name} {label}", sent, pixels)

    array = np.asarray(Image.open(io.BytesIO(photo)))
    encoded = await case("encode jpeg→json", "encode", photo, "image/jpeg", JSON)
    packed = await case("encode json→packed", "encode", images_json([photo]), JSON, PACKED)
    as_npy = await case("encode npy→npy", "encode", npy(array), NPY, NPY)
    assert encoded.body is not None
    assert packed.body is not None
    assert as_npy.body is not None
    codes = json.loads(encoded.body)["data"][0]["codes"]
    if not np.array_equal(np.load(io.BytesIO(as_npy.body))[0], codes):
        raise NotAsPromised(f"{label}: codes as npy aren't those as JSON")

    decoded = await case("decode json→png", "decode", encoded.body, JSON, "image/png")
    pixels_again = await case("decode packed→npy", "decode", packed.body, PACKED, NPY)
    webp = await case("decode npy→jpeg", "decode", as_npy.body, NPY, "image/jpeg")
    rebuilt = await case("reconstruct jpeg→png", "reconstruct", photo, "image/jpeg", "image/png")
    assert decoded.body is not None
    assert pixels_again.body is not None
    shown = np.asarray(Image.open(io.BytesIO(decoded.body)))
    if not np.array_equal(np.load(io.BytesIO(pixels_again.body)).reshape(shown.shape), shown):
        raise NotAsPromised(f"{label}: the decoded picture depends on its form")
    if rebuilt.body != decoded.body:
        raise NotAsPromised(f"{label}: the reconstruction isn't what the codes decode to")

    embedded = await case("embed jpeg→json", "embed", photo, "image/jpeg", JSON)
    by_codes = await case("embed packed→json", "embed", packed.body, PACKED, JSON)
    assert embedded.body is not None
    assert by_codes.body is not None
    if json.loads(embedded.body)["data"] != json.loads(by_codes.body)["data"]:
        raise NotAsPromised(f"{label}: the image's vector isn't its codes' vector")
    return [
        encoded,
        packed,
        as_npy,
        decoded,
        pixels_again,
        webp,
        rebuilt,
        embedded,
        by_codes,
    ]


async def learn_several(client: Client, model: str, files: Sequence[bytes], pixels: int) -> Case:
    """Several photographs in one request, the second of them broken: an error in its item only."""
    broken = [files[0], files[0][: len(files[0]) // 2], *files[1:]]
    body, kind = multipart([(f"{index}.jpg", content) for index, content in enumerate(broken)])
    sent = request("POST", f"/v1/encode?model={model}", body, kind, JSON)
    case = await learn(client, f"encode multipart, one broken {model}", sent, pixels)
    assert case.body is not None
    items = json.loads(case.body)["data"]
    if [item.get("error", {}).get("code") for item in items] != [
        None,
        "image_corrupt",
        *[None] * (len(files) - 1),
    ]:
        raise NotAsPromised(f"{model}: a broken image among good ones: {items}")
    return case


async def learn_facts(client: Client, model: str) -> list[Case]:
    """What needs no run: models, codebook, health."""
    plain = [
        await learn(client, f"GET {path}", request("GET", path), 0)
        for path in ("/v1/models", f"/v1/models/{model}", f"/v1/models/{model}/codebook")
    ]
    health = [
        Case(f"GET {path}", request("GET", path)) for path in ("/livez", "/readyz", "/metrics")
    ]
    return plain + health
