"""NVIDIA Triton Inference Server, as the package nvidia-pytriton carries it.

Set up as its documentation recommends for throughput (binding_configuration, "Dynamic batching";
binding_models, "Multi-instance model inference"): dynamic batching on, one callable for each
instance. The client speaks the KServe v2 protocol over HTTP with the binary tensor extension both
ways, the fastest there is without gRPC.
"""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

BUNDLE = Path(os.environ["BUNDLE"])
INSTANCES = int(os.environ.get("INSTANCES", "1"))
MAX_BATCH = int(os.environ.get("MAX_BATCH", "8"))
DELAY_US = int(os.environ.get("DELAY_US", "0"))


def session(name: str) -> onnxruntime.InferenceSession:
    """One graph, on all cores together."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ["THREADS"])
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(
        BUNDLE / f"{name}.onnx", options, providers=["CPUExecutionProvider"]
    )


class Encode:
    """One instance: JPEG files → codes."""

    def __init__(self) -> None:
        self.encoder, self.quantizer = session("encoder"), session("quantizer")

    @batch
    def __call__(self, jpeg: np.ndarray) -> dict[str, np.ndarray]:
        """A batch: files as objects `[n, 1]` → codes int64 `[n, rows, columns]`."""
        pixels = np.stack(
            [np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for (file,) in jpeg]
        )
        (latents,) = self.encoder.run(None, {"pixels": pixels})
        return {"codes": self.quantizer.run(None, {"latents": latents})[0]}


def main() -> None:
    """Serve until killed."""
    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=int(os.environ["PORT"]),
        grpc_port=int(os.environ["PORT"]) + 1,
        metrics_port=int(os.environ["PORT"]) + 2,
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="encode",
            infer_func=[Encode() for _ in range(INSTANCES)],
            inputs=[Tensor(name="jpeg", dtype=bytes, shape=(1,))],
            outputs=[Tensor(name="codes", dtype=np.int64, shape=(-1, -1))],
            config=ModelConfig(
                max_batch_size=MAX_BATCH,
                batcher=DynamicBatcher(max_queue_delay_microseconds=DELAY_US),
            ),
        )
        triton.serve()


if __name__ == "__main__":
    main()
