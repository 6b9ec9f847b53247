"""LitServe, set up as its documentation recommends for throughput.

That is (docs of `LitServer`): on a CPU one worker for each core, `fast_queue` for hundreds of
requests a second, and batching. The JPEG comes as the request's body.

No `from __future__ import annotations` here: LitServe reads the type of a request as it stands.
"""

import io
import os
from pathlib import Path
from typing import Annotated

import litserve
import numpy as np
import onnxruntime
from fastapi import Body, Response
from PIL import Image

BUNDLE = Path(os.environ["BUNDLE"])
WORKERS = int(os.environ.get("WORKERS", "2"))
API_SERVERS = int(os.environ.get("API_SERVERS", "1"))
MAX_BATCH = int(os.environ.get("MAX_BATCH", "8"))
BATCH_TIMEOUT_S = float(os.environ.get("BATCH_TIMEOUT_S", "0.001"))


def session(name: str) -> onnxruntime.InferenceSession:
    """One graph, on a worker's share of the cores."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = max(1, int(os.environ["THREADS"]) // WORKERS)
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(
        BUNDLE / f"{name}.onnx", options, providers=["CPUExecutionProvider"]
    )


class Encode(litserve.LitAPI):
    """JPEG file → codes."""

    def setup(self, device: str) -> None:  # noqa: ARG002
        """Load the graphs, once in each worker."""
        self.encoder, self.quantizer = session("encoder"), session("quantizer")

    def decode_request(
        self, request: Annotated[bytes, Body(media_type="image/jpeg")]
    ) -> np.ndarray:
        """JPEG → uint8 `[h, w, 3]`."""
        return np.asarray(Image.open(io.BytesIO(request)).convert("RGB"))

    def batch(self, inputs: list[np.ndarray]) -> np.ndarray:
        """Images of one size → one array."""
        return np.stack(inputs)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """uint8 `[n, h, w, 3]` → codes int64 `[n, rows, columns]`."""
        (latents,) = self.encoder.run(None, {"pixels": x})
        return self.quantizer.run(None, {"latents": latents})[0]

    def unbatch(self, output: np.ndarray) -> list[np.ndarray]:
        """One array → codes of each image."""
        return list(output)

    def encode_response(self, output: np.ndarray) -> Response:
        """Codes → their bytes."""
        return Response(output.tobytes(), media_type="application/octet-stream")


if __name__ == "__main__":
    server = litserve.LitServer(
        Encode(max_batch_size=MAX_BATCH, batch_timeout=BATCH_TIMEOUT_S),
        accelerator="cpu",
        workers_per_device=WORKERS,
        fast_queue=True,
    )
    server.run(
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        num_api_servers=API_SERVERS,
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )
