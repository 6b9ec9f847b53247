"""The bundle's graphs as torch modules, and their way into ONNX.

All pixel arithmetic is inside: the service hands over and receives uint8, so
that training and serving can't drift apart and transfers are a quarter of the
size. Everything between the graphs is float32, whatever a graph computes in.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import Dim

from bundle import Graph
from bundle import Tensor as Port
from training.model import Tokenizer, to_float, to_uint8
from training.quantizer import nearest_codes

# GroupNormalization-free graphs run alike from 17 on; 20 is what this torch exports natively.
OPSET = 20

# The exporter doesn't check the output's name against the names it gives to values inside.
_OUTPUT = "tessera_output"


class EncoderGraph(nn.Module):
    """uint8 `[n, h, w, 3]` → latents float32 `[n, d, h/s, w/s]`."""

    def __init__(self, model: Tokenizer, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.encoder, self.dtype = model.encoder.to(dtype), dtype

    def forward(self, pixels: Tensor) -> Tensor:
        """See the class."""
        return self.encoder(to_float(pixels).to(self.dtype)).float()  # type: ignore[no-any-return]


class QuantizerGraph(nn.Module):
    """latents float32 `[n, d, h/s, w/s]` → codes int64 `[n, h/s, w/s]`."""

    codebook: Tensor

    def __init__(self, model: Tokenizer) -> None:
        super().__init__()
        self.distance = model.config.quantizer.distance
        self.register_buffer("codebook", model.quantizer.normalized_codebook().detach().clone())

    def forward(self, latents: Tensor) -> Tensor:
        """See the class."""
        n, d, h, w = latents.shape
        flat = latents.permute(0, 2, 3, 1).reshape(-1, d)
        return nearest_codes(flat, self.codebook, self.distance).reshape(n, h, w)


class DecoderGraph(nn.Module):
    """codes int64 `[n, h/s, w/s]` → uint8 `[n, h, w, 3]`."""

    codebook: Tensor

    def __init__(self, model: Tokenizer, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.decoder = model.decoder.to(dtype)
        self.register_buffer(
            "codebook", model.quantizer.normalized_codebook().detach().clone().to(dtype)
        )

    def forward(self, codes: Tensor) -> Tensor:
        """See the class."""
        vectors = nn.functional.embedding(codes, self.codebook).permute(0, 3, 1, 2)
        return to_uint8(self.decoder(vectors))


@dataclass(frozen=True)
class Shape:
    """Names and axes of a graph's one input and one output."""

    input: Port
    output: Port

    def manifest(self, files: Mapping[str, str]) -> Graph:
        """The graph's entry in the manifest."""
        return Graph((self.input,), (self.output,), files)


def graph_shapes(model: Tokenizer, embedding_size: int) -> dict[str, Shape]:
    """Inputs and outputs of the four graphs, as the manifest describes them."""
    s, d = model.config.network.stride, model.config.quantizer.width
    pixels = Port("pixels", "uint8", ("n", "h", "w", 3))
    latents = Port("latents", "float32", ("n", d, f"h/{s}", f"w/{s}"))
    codes = Port("codes", "int64", ("n", f"h/{s}", f"w/{s}"))
    embedding = Port("embedding", "float32", ("n", embedding_size))
    return {
        "encoder": Shape(pixels, latents),
        "quantizer": Shape(latents, codes),
        "decoder": Shape(codes, pixels),
        "embedder": Shape(codes, embedding),
    }


def export_graph(module: nn.Module, shape: Shape, stride: int) -> bytes:
    """A module as one ONNX file, weights inside, every axis dynamic that the manifest names.

    Args:
        module: takes and gives one tensor each.
        shape: names and axes of them.
        stride: of the model; pixels come in multiples of it.
    """
    grid = {"rows": Dim("rows", min=1, max=1 << 16), "columns": Dim("columns", min=1, max=1 << 16)}
    if shape.input.name == "pixels":
        # torch derives h and w from the grid's dimensions, so that h/s is known to be whole.
        example = torch.randint(0, 256, (2, 3 * stride, 5 * stride, 3), dtype=torch.uint8)
        axes = {1: stride * grid["rows"], 2: stride * grid["columns"]}
    elif shape.input.name == "latents":
        example = torch.randn(2, int(shape.input.axes[1]), 3, 5)
        axes = {2: grid["rows"], 3: grid["columns"]}
    else:
        example = torch.randint(0, 2, (2, 3, 5), dtype=torch.int64)
        axes = {1: grid["rows"], 2: grid["columns"]}
    # An example batch of 1 could be taken for a fixed length; 2 is not.
    dynamic: dict[int, Any] = {0: Dim("n", min=1, max=1 << 16), **axes}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns of a missing torchvision
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own internals
        program = torch.onnx.export(
            module.eval(),
            (example,),
            input_names=[shape.input.name],
            output_names=[_OUTPUT],
            dynamic_shapes=(dynamic,),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned nothing")
    return _named_axes(program.model_proto, shape)


def _named_axes(model: onnx.ModelProto, shape: Shape) -> bytes:
    """Writes the manifest's names into the file, and nothing of the machine that made it."""
    _rename_value(model, shape.output.name, f"{shape.output.name}_inside")
    _rename_value(model, _OUTPUT, shape.output.name)
    for value, port in ((model.graph.input[0], shape.input), (model.graph.output[0], shape.output)):
        for dimension, axis in zip(value.type.tensor_type.shape.dim, port.axes, strict=True):
            if isinstance(axis, int):
                dimension.dim_value = axis
            else:
                dimension.dim_param = axis
    model.doc_string = ""
    model.graph.doc_string = ""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    for node in model.graph.node:
        # Stack traces of the exporter: paths of somebody's machine, of use to nobody.
        del node.metadata_props[:]
        node.doc_string = ""
    for info in [*model.graph.value_info, *model.graph.initializer, *model.graph.input]:
        del info.metadata_props[:]
    onnx.checker.check_model(model)
    buffer = io.BytesIO()
    onnx.save_model(model, buffer)
    return buffer.getvalue()


def _rename_value(model: onnx.ModelProto, old: str, new: str) -> None:
    for node in model.graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == old:
                    names[index] = new
    for value in [*model.graph.output, *model.graph.value_info, *model.graph.initializer]:
        if value.name == old:
            value.name = new


def session_of(graph: bytes, threads: int = 0) -> onnxruntime.InferenceSession:
    """An ONNX Runtime session on the CPU; `threads` 0 means all cores."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def run(session: onnxruntime.InferenceSession, value: NDArray[Any]) -> NDArray[Any]:
    """Runs a graph of one input and one output."""
    (result,) = session.run(None, {session.get_inputs()[0].name: value})
    return np.asarray(result)
