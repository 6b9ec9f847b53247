"""The weights of a graph in one file for all its precisions, in half precision (FORMAT.md).

Three precisions otherwise hold a network's weights three times. The fp32 graph begins with a
`Cast` of each weight to float32, the int8 graph with a `Cast` and a `QuantizeLinear`: ONNX
Runtime computes both once, when it loads the graph (constant folding), so that a run is as fast
as with the weights inside.

What is exported is the network whose weights have been rounded (`rounded_to_half`), so that all
graphs are exactly its; what rounding costs is measured against the trained one.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

# Smaller tensors stay inside the graphs: they take few bytes.
_SMALLEST = 1024
# Offsets are multiples of this, in bytes.
_ALIGNMENT = 64
_M = TypeVar("_M", bound=nn.Module)


def rounded_to_half(network: _M) -> _M:
    """A copy of a network whose larger weights are numbers that half precision can hold."""
    rounded = copy.deepcopy(network)
    with torch.no_grad():
        for weight in rounded.parameters():
            if weight.ndim >= 2 and weight.numel() >= _SMALLEST:
                weight.copy_(weight.half().float())
    return rounded


def share_weights(
    graphs: Mapping[str, bytes], location: str
) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Moves the larger weights of a graph's precisions into one file.

    A weight moves where each precision can get it exactly as it was: in fp32 if half precision
    can hold it, in int8 if quantizing that gives the same numbers. Others stay where they are.

    Args:
        graphs: precision → ONNX file, weights inside, all of one network; fp32 is among them.
        location: name of the file.

    Returns:
        The new ONNX files, and the file of weights by its name; empty if nothing moved.
    """
    models = {precision: onnx.load_from_string(graph) for precision, graph in graphs.items()}
    halves = {
        tensor.name: values.astype(np.float16)
        for tensor in models["fp32"].graph.initializer
        if _is_large(values := numpy_helper.to_array(tensor), np.float32)
        and np.array_equal(values.astype(np.float16).astype(np.float32), values)
    }
    file = _WeightsFile(location)
    made = {}
    for precision, model in models.items():
        moved = _move_quantized if precision == "int8" else _move_floats
        moved(model, halves, file)
        made[precision] = model.SerializeToString(deterministic=True)
    return (made, {location: file.content()}) if file.content() else (dict(graphs), {})


class _WeightsFile:
    """The bytes of the file; equal tensors are in it once."""

    def __init__(self, location: str) -> None:
        self._location, self._content = location, bytearray()
        self._offsets: dict[bytes, int] = {}

    def content(self) -> bytes:
        return bytes(self._content)

    def put(self, name: str, half: NDArray[np.float16]) -> TensorProto:
        """A tensor of the graph that refers to the file."""
        raw = half.astype("<f2").tobytes()
        if raw not in self._offsets:
            self._content.extend(bytes(-len(self._content) % _ALIGNMENT))
            self._offsets[raw] = len(self._content)
            self._content.extend(raw)
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT16, dims=half.shape)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (
            ("location", self._location),
            ("offset", str(self._offsets[raw])),
            ("length", str(len(raw))),
        ):
            tensor.external_data.add(key=key, value=value)
        return tensor


def _move_floats(
    model: onnx.ModelProto, halves: Mapping[str, NDArray[np.float16]], file: _WeightsFile
) -> None:
    """Moves weights of an fp32 graph, which casts them, or of an fp16 graph, which doesn't."""
    known = {half.tobytes() for half in halves.values()}
    tensors, casts = [], []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.name in halves and values.dtype == np.float32:
            tensors.append(file.put(tensor.name, halves[tensor.name]))
            casts.append(_cast(tensor.name))
        elif _is_large(values, np.float16) and values.tobytes() in known:
            tensors.append(file.put(tensor.name, values))
        else:
            tensors.append(tensor)
    _rebuild(model, tensors, casts)


def _move_quantized(
    model: onnx.ModelProto, halves: Mapping[str, NDArray[np.float16]], file: _WeightsFile
) -> None:
    """Moves weights of an int8 graph: those it holds in 8 bits, and those it left in float32."""
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    scaled = {
        node.input[0]: node for node in model.graph.node if node.op_type == "DequantizeLinear"
    }
    tensors, first = [], []
    for tensor in model.graph.initializer:
        values, name = constants[tensor.name], tensor.name.removesuffix("_quantized")
        if tensor.name in halves and values.dtype == np.float32:
            tensors.append(file.put(tensor.name, halves[tensor.name]))
            first.append(_cast(tensor.name))
        elif name in halves and tensor.name in scaled and values.dtype == np.int8:
            node = scaled[tensor.name]
            scale, zero = constants[node.input[1]], constants[node.input[2]]
            axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
            if not np.array_equal(_quantized(halves[name], scale, zero, axis), values):
                tensors.append(tensor)
                continue
            tensors.append(file.put(name, halves[name]))
            first += [
                _cast(name),
                helper.make_node(
                    "QuantizeLinear",
                    [f"{name}.float32", node.input[1], node.input[2]],
                    [tensor.name],
                    axis=axis,
                ),
            ]
        else:
            tensors.append(tensor)
    _rebuild(model, tensors, first)


def _quantized(
    half: NDArray[np.float16], scale: NDArray[Any], zero: NDArray[Any], axis: int
) -> NDArray[np.int8]:
    """What `QuantizeLinear` makes of a weight."""
    shape = [1] * half.ndim
    if scale.ndim:
        shape[axis] = -1
    steps = np.rint(half.astype(np.float32) / scale.reshape(shape)) + zero.reshape(shape)
    quantized: NDArray[np.int8] = np.clip(steps, -128, 127).astype(np.int8)
    return quantized


def _cast(name: str) -> onnx.NodeProto:
    return helper.make_node("Cast", [name], [f"{name}.float32"], to=TensorProto.FLOAT)


def _rebuild(
    model: onnx.ModelProto, tensors: list[TensorProto], first: list[onnx.NodeProto]
) -> None:
    """Puts new tensors and first nodes into a graph; the others use what the casts give."""
    cast = {node.input[0]: node.output[0] for node in first if node.op_type == "Cast"}
    rest = list(model.graph.node)
    for node in rest:
        for index, name in enumerate(node.input):
            node.input[index] = cast.get(name, name)
    nodes = [*first, *rest]
    del model.graph.initializer[:], model.graph.node[:]
    # A tensor that two nodes need is in the graph once.
    model.graph.initializer.extend({tensor.name: tensor for tensor in tensors}.values())
    model.graph.node.extend(nodes)


def _is_large(values: NDArray[Any], dtype: type[np.floating[Any]]) -> bool:
    return values.dtype == dtype and values.ndim >= 2 and values.size >= _SMALLEST
