"""BentoML, set up as its documentation recommends for throughput.

That is ("Adaptive batching", "Parallelize requests handling"): a batchable API, and workers to
use every core. The JPEG comes as a file of a multipart form, BentoML's own way for images.
"""

from __future__ import annotations

import os
from pathlib import Path

import bentoml
import numpy as np
import onnxruntime
from PIL import Image

BUNDLE = Path(os.environ["BUNDLE"])
WORKERS = int(os.environ.get("WORKERS", "2"))


def session(name: str) -> onnxruntime.InferenceSession:
    """One graph, on a worker's share of the cores."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = max(1, int(os.environ["THREADS"]) // WORKERS)
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(
        BUNDLE / f"{name}.onnx", options, providers=["CPUExecutionProvider"]
    )


@bentoml.service(workers=WORKERS, logging={"access": {"enabled": False}})
class Encode:
    """JPEG files → codes."""

    def __init__(self) -> None:
        self.encoder, self.quantizer = session("encoder"), session("quantizer")

    @bentoml.api(batchable=True, max_batch_size=8, max_latency_ms=10_000)
    def encode(self, images: list[Image.Image]) -> np.ndarray:
        """A batch: images of one size → codes int64 `[n, rows, columns]`."""
        pixels = np.stack([np.asarray(image.convert("RGB")) for image in images])
        (latents,) = self.encoder.run(None, {"pixels": pixels})
        return self.quantizer.run(None, {"latents": latents})[0]
