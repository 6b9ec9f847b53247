"""A tokenizer's graphs in every precision: exported, quantized, proven.

`python -m training.export` writes them as a bundle.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

from bundle.manifest import PRECISIONS
from training.data.dataset import Pixels
from training.onnx_export.graphs import (
    DecoderGraph,
    EncoderGraph,
    QuantizerGraph,
    export_graph,
    graph_signatures,
    session_of,
)
from training.onnx_export.parity import BUDGETS, Proof, check, faults, odd_sizes
from training.onnx_export.quantize import calibration_batches, to_int8
from training.tokenizer.model import Tokenizer

_PARITY_IMAGES = 24


@dataclass(frozen=True)
class Exported:
    """Everything of a bundle before it is written.

    Attributes:
        graphs: graph → precision → ONNX file; those alone that passed the proof.
        parity: graph → precision → figures of the proof; with `failed`, the reason, where that
            precision was left out.
    """

    graphs: Mapping[str, Mapping[str, bytes]]
    parity: Mapping[str, Mapping[str, Mapping[str, Any]]]


def make_graphs(
    model: Tokenizer,
    embedder: nn.Module,
    embedding_size: int,
    images: list[Pixels],
    precisions: Collection[str] = PRECISIONS,
) -> Exported:
    """Exports, quantizes and proves.

    A lower precision that fails its proof is left out. It is left out of the decoder too where
    the encoder fails, since a service chooses its precision by the encoder.

    Args:
        model: in float32, evaluation mode.
        embedder: codes int64 `[n, rows, columns]` → float32 `[n, embedding_size]`.
        embedding_size: width of the embedding.
        images: uint8 `[h, w, 3]`, to calibrate the int8 graphs and for the proof.
        precisions: of encoder and decoder; fp32 is always among them.

    Raises:
        ParityError: an fp32 graph is outside its budget.
    """
    stride = model.config.network.stride
    signatures = graph_signatures(model, embedding_size)

    def export(name: str, module: nn.Module) -> bytes:
        return export_graph(module, signatures[name], stride)

    graphs = {
        "encoder": {"fp32": export("encoder", EncoderGraph(model))},
        # Near ties are decided here: always in float32, whatever made the latents.
        "quantizer": {"fp32": export("quantizer", QuantizerGraph(model))},
        "decoder": {"fp32": export("decoder", DecoderGraph(model))},
        "embedder": {"fp32": export("embedder", embedder)},
    }
    proof = Proof(model, embedder, odd_sizes(images[:_PARITY_IMAGES]))
    measured = {
        name: {"fp32": proof.measure(name, session_of(made["fp32"]))}
        for name, made in graphs.items()
    }
    check(measured)
    parity: dict[str, dict[str, Mapping[str, Any]]] = {
        name: {"fp32": figures["fp32"].to_dict()} for name, figures in measured.items()
    }
    for precision in (p for p in PRECISIONS if p in precisions and p != "fp32"):
        if precision == "fp16":
            half = copy.deepcopy(model)
            lower = {
                "encoder": export("encoder", EncoderGraph(half, torch.float16)),
                "decoder": export("decoder", DecoderGraph(half, torch.float16)),
            }
        else:
            lower = _int8(model, graphs["encoder"]["fp32"], graphs["decoder"]["fp32"], images)
        failed = ""
        for name, graph in lower.items():
            figures = proof.measure(name, session_of(graph))
            reason = "; ".join(faults(figures, BUDGETS[precision]))
            if name == "encoder":
                failed = reason
            elif failed and not reason:
                reason = "left out with the encoder"
            parity[name][precision] = figures.to_dict() | ({"failed": reason} if reason else {})
            if not reason:
                graphs[name][precision] = graph
    return Exported(graphs, parity)


def _int8(
    model: Tokenizer, encoder: bytes, decoder: bytes, images: list[Pixels]
) -> dict[str, bytes]:
    """Encoder and decoder in 8 bits, calibrated on images."""
    pixels = calibration_batches(images, model.config.network.stride)
    codes: list[NDArray[Any]] = [model.encode(torch.from_numpy(p)).numpy() for p in pixels]
    return {"encoder": to_int8(encoder, pixels), "decoder": to_int8(decoder, codes)}
