"""What a user would write in an afternoon: FastAPI, a route, and the network in PyTorch.

No batching: few afternoons get that far.
"""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import torch
from fastapi import FastAPI, UploadFile
from onnx_torch import Graph
from PIL import Image

BUNDLE = Path(os.environ["BUNDLE"])
torch.set_num_threads(int(os.environ["THREADS"]))

app = FastAPI()
encoder, quantizer = Graph(BUNDLE / "encoder.onnx"), Graph(BUNDLE / "quantizer.onnx")


@app.post("/encode")
def encode(image: UploadFile) -> list[list[int]]:
    """JPEG file → codes."""
    pixels = np.array(Image.open(io.BytesIO(image.file.read())).convert("RGB"))
    with torch.inference_mode():
        codes: list[list[int]] = quantizer(encoder(torch.from_numpy(pixels)[None]))[0].tolist()
    return codes


@app.get("/health")
def health() -> str:
    """Up."""
    return "ok"
