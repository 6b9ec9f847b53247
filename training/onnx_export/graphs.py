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
from bundle import Tensor as TensorSpec
from bundle.manifest import MAX_STAGES
from training.tokenizer.config import MAIN_DECODER
from training.tokenizer.model import Tokenizer, to_float, to_samples
from training.tokenizer.quantizers.protocol import sum_of_vectors

# GroupNormalization-free graphs run alike from 17 on; 20 is what this torch exports natively.
OPSET = 20

# The exporter doesn't check the output's name against the names it gives to values inside.
_OUTPUT = "tessera_output"


class EncoderGraph(nn.Module):
    """Samples `[n, h, w, channels]` → latents float32 `[n, d, h/s, w/s]`."""

    def __init__(self, model: Tokenizer, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.encoder, self.dtype = model.encoder.to(dtype), dtype
        self.maximum = model.config.data.sample_maximum

    def forward(self, pixels: Tensor) -> Tensor:
        """See the class."""
        return self.encoder(to_float(pixels, self.maximum).to(self.dtype)).float()  # type: ignore[no-any-return]


class DecoderGraph(nn.Module):
    """codes int64 `[n, h/s, w/s]` → uint8 or uint16 `[n, h, w, channels]`.

    With several stages `[n, s, h/s, w/s]`, of all of them or the first few.

    Args:
        model: whose codes they are.
        dtype: that the decoder computes in.
        decoder: the name of one of its decoders.
    """

    def __init__(
        self, model: Tokenizer, dtype: torch.dtype = torch.float32, decoder: str = MAIN_DECODER
    ) -> None:
        super().__init__()
        self.decoder, self.dtype = model.decoder_named(decoder).to(dtype), dtype
        self.maximum = model.config.data.sample_maximum
        self.factors = model.quantizer.factors
        books = [book.detach().clone() for book in model.quantizer.codebooks()]
        self.stages = len(books)
        self.books = [f"codebook_{stage}" for stage in range(1, 1 + self.stages)]
        for name, book in zip(self.books, books, strict=True):
            self.register_buffer(name, book.to(dtype))

    def forward(self, codes: Tensor) -> Tensor:
        """See the class."""
        books = [getattr(self, name) for name in self.books]
        vectors = sum_of_vectors(codes, books, self.factors)
        return to_samples(self.decoder(vectors), self.maximum)


@dataclass(frozen=True)
class GraphSignature:
    """Names and axes of a graph's one input, its output, and a second one if there is one.

    `reach` is as in `bundle.Graph`.
    """

    input: TensorSpec
    output: TensorSpec
    second: TensorSpec | None = None
    reach: int | None = None

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """One or two."""
        return (self.output,) if self.second is None else (self.output, self.second)

    def manifest(self, files: Mapping[str, str], weights: str | None = None) -> Graph:
        """The graph's entry in the manifest."""
        return Graph((self.input,), self.outputs, files, self.reach, weights)


def graph_signatures(model: Tokenizer, embedding_size: int) -> dict[str, GraphSignature]:
    """Inputs and outputs of all graphs, as the manifest describes them."""
    network = model.config.network
    s, d = network.stride, model.config.quantizer.width
    stages = len(model.config.quantizer.stages)
    rows, columns = f"h/{s}", f"w/{s}"
    samples = model.config.data.samples
    pixels = TensorSpec("pixels", samples.dtype.name, ("n", "h", "w", samples.channels))
    latents = TensorSpec("latents", "float32", ("n", d, rows, columns))
    first = TensorSpec("codes", "int64", ("n", rows, columns))
    if stages > 1:
        made = TensorSpec("codes", "int64", ("n", stages, rows, columns))
        taken = TensorSpec("codes", "int64", ("n", "stages", rows, columns))
    else:
        made = taken = first
    embedding = TensorSpec("embedding", "float32", ("n", embedding_size))
    decoder = GraphSignature(taken, pixels, reach=_reach(model.decoder))
    return {
        "encoder": GraphSignature(pixels, latents, reach=_reach(model.encoder)),
        "quantizer": GraphSignature(latents, made),
        "decoder": decoder,
        "embedder": GraphSignature(first, embedding),
        **{f"decoder-{name}": decoder for name in model.config.other_decoders},
    }


def _reach(network: nn.Module) -> int | None:
    """How far a network sees, where it says so: one's own may not."""
    reach = getattr(network, "reach", None)
    return reach if isinstance(reach, int) else None


def export_graph(module: nn.Module, signature: GraphSignature, stride: int) -> bytes:
    """A module as one ONNX file, weights inside, every axis dynamic that the manifest names.

    Args:
        module: takes one tensor and gives one or two.
        signature: names and axes of them.
        stride: of the model; pixels come in multiples of it.
    """
    grid = {"rows": Dim("rows", min=1, max=1 << 16), "columns": Dim("columns", min=1, max=1 << 16)}
    if signature.input.name == "pixels":
        # torch derives h and w from the grid's dimensions, so that h/s is known to be whole.
        shape = (2, 3 * stride, 5 * stride, int(signature.input.axes[3]))
        example = torch.randint(0, 256, shape).to(getattr(torch, signature.input.dtype))
        axes = {1: stride * grid["rows"], 2: stride * grid["columns"]}
    elif signature.input.name == "latents":
        example = torch.randn(2, int(signature.input.axes[1]), 3, 5)
        axes = {2: grid["rows"], 3: grid["columns"]}
    elif len(signature.input.axes) == 4:
        example = torch.randint(0, 2, (2, 2, 3, 5), dtype=torch.int64)
        stages = Dim("stages", min=1, max=MAX_STAGES)
        axes = {1: stages, 2: grid["rows"], 3: grid["columns"]}
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
            input_names=[signature.input.name],
            output_names=[f"{_OUTPUT}_{port.name}" for port in signature.outputs],
            dynamic_shapes=(dynamic,),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned nothing")
    return _named_axes(program.model_proto, signature)


def _named_axes(model: onnx.ModelProto, signature: GraphSignature) -> bytes:
    """Writes the manifest's names into the file, and nothing of the machine that made it."""
    for port in signature.outputs:
        _rename_value(model, port.name, f"{port.name}_inside")
        _rename_value(model, f"{_OUTPUT}_{port.name}", port.name)
    values = [model.graph.input[0], *model.graph.output]
    for value, port in zip(values, (signature.input, *signature.outputs), strict=True):
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


def session_of(
    graph: bytes, threads: int = 0, weights: Mapping[str, bytes] | None = None
) -> onnxruntime.InferenceSession:
    """An ONNX Runtime session on the CPU.

    Args:
        graph: an ONNX file.
        threads: of a run; 0 means all cores.
        weights: files that the graph refers to, by name (`bundle.Bundle.read_weights`).
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    for name, content in (weights or {}).items():
        options.add_external_initializers_from_files_in_memory([name], [content], [len(content)])
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def run(session: onnxruntime.InferenceSession, value: NDArray[Any]) -> NDArray[Any]:
    """Runs a graph of one input and one output."""
    (result,) = session.run(None, {session.get_inputs()[0].name: value})
    return np.asarray(result)
