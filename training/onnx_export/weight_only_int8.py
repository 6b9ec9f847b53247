"""Weight-only int8: weights are stored in eight bits, the graph computes in float32.

A quarter of the file's size at no cost in time: ONNX Runtime converts the weights to
float32 once, when it loads the file (constant folding). Each row (output channel, or code
of a table) has a scale of its own (Jacob et al. 2018, "Quantization and training of neural
networks for efficient integer-arithmetic-only inference", there of weights and activations).
"""

from __future__ import annotations

import io

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import Tensor

# Smaller tensors stay as they are: they take few bytes, and biases need their precision.
_SMALLEST = 1024


def rounded(weight: Tensor) -> Tensor:
    """A weight with the values that it has after being stored in eight bits.

    Args:
        weight: float32 `[rows, …]`.

    Returns:
        The same shape and dtype; the tensor itself where it is too small to be worth it.
    """
    if weight.ndim < 2 or weight.numel() < _SMALLEST:
        return weight
    steps, scales = _quantized(weight.detach().numpy())
    return torch.from_numpy(steps.astype(np.float32) * scales)


def store_as_int8(graph: bytes) -> bytes:
    """An ONNX file whose larger float32 weights are int8 with a scale for each row.

    Args:
        graph: an ONNX file, weights inside; those that went through `rounded` keep their values
            up to float32 rounding.
    """
    model = onnx.load_from_string(graph)
    kept, first_nodes = [], []
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.dtype != np.float32 or value.ndim < 2 or value.size < _SMALLEST:
            kept.append(tensor)
            continue
        steps, scales = _quantized(value)
        names = [f"{tensor.name}.{part}" for part in ("steps", "scales", "cast")]
        kept += [
            numpy_helper.from_array(steps, names[0]),
            numpy_helper.from_array(scales, names[1]),
        ]
        first_nodes += [
            helper.make_node("Cast", [names[0]], [names[2]], to=onnx.TensorProto.FLOAT),
            helper.make_node("Mul", [names[2], names[1]], [tensor.name]),
        ]
    nodes = [*first_nodes, *model.graph.node]
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(kept)
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    buffer = io.BytesIO()
    onnx.save_model(model, buffer)
    return buffer.getvalue()


def _quantized(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Whole steps −127…127 of the weight's shape, and each row's step `[rows, 1, …]`."""
    axes = tuple(range(1, weight.ndim))
    highest = np.abs(weight).max(axis=axes, keepdims=True)
    scales = np.maximum(highest / 127, np.finfo(np.float32).tiny).astype(np.float32)
    return np.clip(np.rint(weight / scales), -127, 127).astype(np.int8), scales
