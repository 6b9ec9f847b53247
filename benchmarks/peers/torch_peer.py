"""What a user would write in an afternoon: FastAPI, a route, and the network in PyTorch.

The network's weights are taken from the bundle, since a bundle is all that a user of the model
has; each ONNX node becomes the PyTorch call it was exported from. No batching: few afternoons
get that far.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import torch
import torch.nn.functional as F
from fastapi import FastAPI, UploadFile
from PIL import Image
from torch import Tensor, nn

BUNDLE = Path(os.environ["BUNDLE"])
torch.set_num_threads(int(os.environ["THREADS"]))


class Graph(nn.Module):
    """An ONNX file of one input and one output as a PyTorch module."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        graph = onnx.load(path).graph
        self.input, self.output = graph.input[0].name, graph.output[0].name
        self.constants = {
            tensor.name: torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy())
            for tensor in graph.initializer
        }
        self.steps = [
            (
                node.op_type,
                list(node.input),
                node.output[0],
                {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute},
            )
            for node in graph.node
        ]

    def forward(self, x: Tensor) -> Tensor:
        """Run node after node."""
        values: dict[str, Tensor] = {**self.constants, self.input: x}
        for op, inputs, output, attributes in self.steps:
            values[output] = apply(op, [values[name] for name in inputs], attributes)
        return values[self.output]


def apply(op: str, x: list[Tensor], a: dict[str, Any]) -> Tensor:
    """One ONNX operator, as far as these graphs use it."""
    match op:
        case "Conv":
            return F.conv2d(*x, stride=tuple(a["strides"]), padding=tuple(a["pads"][:2]))
        case "Relu":
            return F.relu(x[0])
        case "Add":
            return x[0] + x[1]
        case "Sub":
            return x[0] - x[1]
        case "Mul":
            return x[0] * x[1]
        case "Div":
            return x[0] / x[1]
        case "Cast":
            return x[0].to(torch.float32)
        case "Transpose":
            return x[0].permute(a["perm"])
        case "MatMul":
            return x[0] @ x[1]
        case "ArgMax":
            return x[0].argmax(a["axis"])
        case "Shape":
            return torch.tensor(x[0].shape[a.get("start", 0) : a.get("end")])
        case "Concat":
            return torch.cat(x, a["axis"])
        case "Reshape":
            return x[0].reshape(x[1].tolist())
    raise NotImplementedError(op)


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
