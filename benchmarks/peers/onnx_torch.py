"""A bundle's ONNX graphs as PyTorch modules.

A bundle is all that a user of the model has, so PyTorch gets its weights from there; each ONNX
node becomes the call it was exported from. Only what our graphs use is known here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import onnx.numpy_helper
import torch
import torch.nn.functional as F
from torch import Tensor, nn

_CASTS = {1: torch.float32, 2: torch.uint8, 10: torch.float16}


class Graph(nn.Module):
    """An ONNX file of one input and one output.

    Args:
        path: the file, in fp32.
        dtype: what it computes in; its float output is float32 all the same.
        device: where.

    Attributes:
        macs: multiply–adds of convolutions and matrix products in the last run, when `counting`.
    """

    def __init__(self, path: Path, dtype: torch.dtype = torch.float32, device: str = "cpu") -> None:
        super().__init__()
        graph = onnx.load(path).graph
        self.input, self.output, self.dtype = graph.input[0].name, graph.output[0].name, dtype
        self.counting, self.macs = False, 0
        self.steps = [
            (
                node.op_type,
                list(node.input),
                node.output[0],
                {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute},
            )
            for node in graph.node
        ]
        shapes = {inputs[1] for op, inputs, _, _ in self.steps if op == "Reshape"}
        self.constants: dict[str, Any] = {}
        for tensor in graph.initializer:
            value = torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy())
            if tensor.name in shapes:
                self.constants[tensor.name] = tuple(value.tolist())
            elif value.is_floating_point():
                self.constants[tensor.name] = value.to(device, dtype)
            else:
                self.constants[tensor.name] = value.to(device)

    def forward(self, x: Tensor) -> Tensor:
        """Run node after node."""
        values: dict[str, Any] = {**self.constants, self.input: x}
        if x.is_floating_point():
            values[self.input] = x.to(self.dtype)
        for op, inputs, output, attributes in self.steps:
            given = [values[name] if name else None for name in inputs]
            values[output] = self._apply(op, given, attributes)
            if self.counting and op in {"Conv", "MatMul"}:
                self.macs += values[output].numel() * given[1].numel() // _outputs(op, given[1])
        result: Tensor = values[self.output]
        return result.float() if result.is_floating_point() else result

    def _apply(self, op: str, x: list[Any], a: dict[str, Any]) -> Any:
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
            case "Clip":
                return x[0].clamp(float(x[1]), float(x[2]))
            case "Round":
                return x[0].round()
            case "Cast":
                wanted = _CASTS[a["to"]]
                return x[0].to(self.dtype if wanted.is_floating_point else wanted)
            case "Transpose":
                return x[0].permute(a["perm"])
            case "MatMul":
                return x[0] @ x[1]
            case "ArgMax":
                return x[0].argmax(a["axis"], keepdim=bool(a["keepdims"]))
            case "ReduceMax":
                return x[0].amax(tuple(x[1].tolist()), keepdim=bool(a["keepdims"]))
            case "Gather" if a.get("axis", 0) == 0:
                return F.embedding(x[1], x[0])
            case "Gather":
                return x[0].select(a["axis"], int(x[1]))
            case "GatherElements":
                return x[0].gather(a["axis"], x[1])
            case "Unsqueeze":
                return x[0].unsqueeze(int(x[1]))
            case "Expand":
                return x[0].expand(torch.broadcast_shapes(x[0].shape, tuple(x[1].tolist())))
            case "DepthToSpace" if a["mode"] == b"CRD":
                return F.pixel_shuffle(x[0], a["blocksize"])
            case "Shape":
                return tuple(x[0].shape[a.get("start", 0) : a.get("end")])
            case "Concat":
                return sum(x, ()) if isinstance(x[0], tuple) else torch.cat(x, a["axis"])
            case "Reshape":
                return x[0].reshape(x[1])
        raise NotImplementedError(op)


def _outputs(op: str, weight: Tensor) -> int:
    return int(weight.shape[0] if op == "Conv" else weight.shape[1])
