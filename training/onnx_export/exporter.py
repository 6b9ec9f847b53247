"""A tokenizer's graphs in every precision: exported, quantized, proven.

`python -m training.export` writes them as a bundle.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

from training.data.dataset import (
    DataError,
    Pixels,
)
from training.onnx_export.graphs import (
    DecoderGraph,
    EncoderGraph,
    QuantizerGraph,
    export_graph,
    graph_signatures,
    session_of,
)
from training.onnx_export.parity import Parity, Proof, check, odd_sizes
from training.onnx_export.quantize import calibration_batches, to_int8
from training.tokenizer.model import Tokenizer

# Enough for stable ranges and shares; more makes export slower and changes nothing.
_CALIBRATION_IMAGES = 32


_CALIBRATION_SIDE = 160


_PARITY_IMAGES = 24


@dataclass(frozen=True)
class Exported:
    """Everything of a bundle before it is written.

    Attributes:
        graphs: graph → precision → ONNX file.
        parity: graph → precision → what the proof measured.
    """

    graphs: Mapping[str, Mapping[str, bytes]]
    parity: Mapping[str, Mapping[str, Parity]]


def make_graphs(
    model: Tokenizer, embedder: nn.Module, embedding_size: int, images: list[Pixels]
) -> Exported:
    """Exports, quantizes and proves.

    Args:
        model: in float32, evaluation mode.
        embedder: codes int64 `[n, rows, columns]` → float32 `[n, embedding_size]`.
        embedding_size: width of the embedding.
        images: uint8 `[h, w, 3]`, to calibrate the 8-bit graphs and for the proof.

    Raises:
        ParityError: a graph is outside its budget.
        DataError: no image is large enough to calibrate on.
    """
    stride = model.config.network.stride
    shapes = graph_signatures(model, embedding_size)

    def export(name: str, module: nn.Module) -> bytes:
        return export_graph(module, shapes[name], stride)

    side = _CALIBRATION_SIDE // stride * stride
    pixels = calibration_batches(images, side)[:_CALIBRATION_IMAGES]
    if not pixels:
        raise DataError(f"no image is at least {side}×{side} pixels, to calibrate the int8 graphs")
    codes: list[NDArray[Any]] = [model.encode(torch.from_numpy(p)).numpy() for p in pixels]
    encoder, decoder = (
        export("encoder", EncoderGraph(model)),
        export("decoder", DecoderGraph(model)),
    )
    half = copy.deepcopy(model)
    graphs = {
        "encoder": {
            "fp32": encoder,
            "fp16": export("encoder", EncoderGraph(half, torch.float16)),
            "int8": to_int8(encoder, pixels),
        },
        # Near ties are decided here: always in float32, whatever made the latents.
        "quantizer": {"fp32": export("quantizer", QuantizerGraph(model))},
        "decoder": {
            "fp32": decoder,
            "fp16": export("decoder", DecoderGraph(half, torch.float16)),
            "int8": to_int8(decoder, codes),
        },
        "embedder": {"fp32": export("embedder", embedder)},
    }
    proof = Proof(model, embedder, odd_sizes(images[:_PARITY_IMAGES]))
    parity = {
        name: {
            precision: proof.measure(name, session_of(graph)) for precision, graph in made.items()
        }
        for name, made in graphs.items()
    }
    check(parity)
    return Exported(graphs, parity)
