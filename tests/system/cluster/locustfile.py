"""Load with Locust: images encoded, codes decoded, images embedded, in the ratio 6 : 2 : 1.

    pip install locust
    locust -f tests/system/cluster/locustfile.py --headless -u 8 -t 60s --host http://localhost:8000

`TESSERA_LOAD_IMAGE` names the image to send; noise of 256 × 256 otherwise.
"""

import io
import os
from pathlib import Path

import numpy as np
from locust import FastHttpUser, constant, task


def _body() -> tuple[bytes, str]:
    if path := os.environ.get("TESSERA_LOAD_IMAGE"):
        return Path(path).read_bytes(), "application/octet-stream"
    file = io.BytesIO()
    np.save(file, np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8))
    return file.getvalue(), "application/x-npy"


class Caller(FastHttpUser):
    """Asks again as soon as it is answered."""

    wait_time = constant(0)

    def on_start(self) -> None:
        """Have codes to decode."""
        self.body, kind = _body()
        self.image = {"Content-Type": kind, "Accept": "application/vnd.tessera.codes"}
        self.codes = self.client.post("/v1/encode", data=self.body, headers=self.image).content

    @task(6)
    def encode(self) -> None:
        """Image to packed codes."""
        self.client.post("/v1/encode", data=self.body, headers=self.image)

    @task(2)
    def decode(self) -> None:
        """Packed codes to PNG."""
        headers = {"Content-Type": "application/vnd.tessera.codes"}
        self.client.post("/v1/decode", data=self.codes, headers=headers)

    @task(1)
    def embed(self) -> None:
        """Image to vector."""
        headers = {"Content-Type": self.image["Content-Type"]}
        self.client.post("/v1/embed", data=self.body, headers=headers)
