"""A tokenizer's graphs in every precision: exported, quantized, their weights shared, proven.

`python -m training.export` writes them as a bundle.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

from bundle.manifest import PRECISIONS
from training.data.dataset import Pixels
from training.onnx_export.graphs import (
    DecoderGraph,
    EncoderGraph,
    export_graph,
    graph_signatures,
    session_of,
)
from training.onnx_export.parity import BUDGETS, check, faults
from training.onnx_export.proof import Proof, odd_sizes
from training.onnx_export.quantize import calibration_batches, to_int8
from training.onnx_export.shared_weights import rounded_to_half, share_weights
from training.tokenizer.config import MAIN_DECODER
from training.tokenizer.model import Tokenizer

_PARITY_IMAGES = 24
# Weights are stored in half precision where rounding them costs less than this, in dB.
_MOST_ROUNDING = 0.01


@dataclass(frozen=True)
class Exported:
    """Everything of a bundle before it is written.

    Attributes:
        graphs: graph → precision → ONNX file; those alone that passed the proof.
        weights: graph → name and content of the file of weights that its ONNX files share.
        parity: graph → precision → figures of the proof; with `failed`, the reason, where that
            precision was left out.
        decoders: names of the further decoders among the graphs.
        network: what the graphs are of: the model, its weights rounded as they are stored.
        rounding: what storing the weights in half precision costs, in dB of mean PSNR.
    """

    graphs: Mapping[str, Mapping[str, bytes]]
    weights: Mapping[str, Mapping[str, bytes]]
    parity: Mapping[str, Mapping[str, Mapping[str, Any]]]
    decoders: tuple[str, ...]
    network: Tokenizer
    rounding: float

    @property
    def in_half(self) -> bool:
        """Whether the weights are stored in half precision."""
        return self.rounding < _MOST_ROUNDING


def make_graphs(
    model: Tokenizer,
    embedder: nn.Module,
    embedding_size: int,
    images: list[Pixels],
    precisions: Collection[str] = PRECISIONS,
    decoders: Sequence[str] = (),
) -> Exported:
    """Exports, quantizes and proves.

    Weights are stored in half precision where that costs less than 0.01 dB: then all graphs are
    of the network with rounded weights. A lower precision that fails its proof is left out. It
    is left out of the decoder too where the encoder fails, since a service chooses its precision
    by the encoder.

    Args:
        model: in float32, evaluation mode.
        embedder: codes int64 `[n, rows, columns]` → float32 `[n, embedding_size]`.
        embedding_size: width of the embedding.
        images: uint8 `[h, w, 3]`, to calibrate the int8 graphs and for the proof.
        precisions: of encoder and decoders; fp32 is always among them.
        decoders: names of the further decoders that are trained.

    Raises:
        ParityError: an fp32 graph is outside its budget.
    """
    stride = model.config.network.stride
    signatures = graph_signatures(model, embedding_size)

    def export(name: str, module: nn.Module) -> bytes:
        return export_graph(module, signatures[name], stride)

    decoder_of = {"decoder": MAIN_DECODER} | {f"decoder-{name}": name for name in decoders}

    def decoder(graph: str, name: str, network: Tokenizer, dtype: torch.dtype) -> bytes:
        return export(graph, DecoderGraph(network, dtype, name))

    shown = odd_sizes(images[:_PARITY_IMAGES])
    stored = rounded_to_half(model)
    proof = Proof(stored, embedder, shown)
    rounding = Proof(model, embedder, shown).psnr - proof.psnr
    in_half = rounding < _MOST_ROUNDING
    if not in_half:
        stored, proof = model, Proof(model, embedder, shown)

    made = {
        "encoder": _in_precisions(
            lambda network, dtype: export("encoder", EncoderGraph(network, dtype)),
            stored, precisions, lambda: calibration_batches(images, stride),
        ),
        # Near ties are decided here: always in float32, whatever made the latents.
        "quantizer": {"fp32": export("quantizer", stored.quantizer.assignment())},
        **{
            graph: _in_precisions(
                partial(decoder, graph, name),
                stored, precisions, lambda: _calibration_codes(stored, images),
            )
            for graph, name in decoder_of.items()
        },
        "embedder": {"fp32": export("embedder", embedder)},
    }  # fmt: skip
    weights: dict[str, dict[str, bytes]] = {}
    for name in ("encoder", *decoder_of) if in_half else ():
        made[name], weights[name] = share_weights(made[name], f"{name}.weights")
    measured = {
        name: {
            precision: proof.measure(name, session_of(graph, weights=weights.get(name)))
            for precision, graph in graphs.items()
        }
        for name, graphs in made.items()
    }
    check({name: {"fp32": figures["fp32"]} for name, figures in measured.items()})
    graphs: dict[str, dict[str, bytes]] = {name: {} for name in made}
    parity: dict[str, dict[str, Mapping[str, Any]]] = {name: {} for name in made}
    for name, by_precision in measured.items():
        for precision, figures in by_precision.items():
            reason = "; ".join(faults(figures, BUDGETS[precision]))
            if not reason and "failed" in parity["encoder"].get(precision, {}):
                reason = "left out with the encoder"
            parity[name][precision] = figures.to_dict() | ({"failed": reason} if reason else {})
            if not reason:
                graphs[name][precision] = made[name][precision]
    return Exported(graphs, weights, parity, tuple(decoders), stored, rounding)


def _in_precisions(
    export: Callable[[Tokenizer, torch.dtype], bytes],
    model: Tokenizer,
    precisions: Collection[str],
    inputs: Callable[[], list[NDArray[Any]]],
) -> dict[str, bytes]:
    """A graph in fp32 and in the lower precisions that are wanted.

    Args:
        export: makes the graph of a model that computes in a data type.
        model: in float32.
        precisions: that are wanted.
        inputs: gives what the int8 graph is calibrated on.
    """
    made = {"fp32": export(model, torch.float32)}
    if "fp16" in precisions:
        made["fp16"] = export(copy.deepcopy(model), torch.float16)
    if "int8" in precisions:
        made["int8"] = to_int8(made["fp32"], inputs())
    return made


def _calibration_codes(model: Tokenizer, images: list[Pixels]) -> list[NDArray[Any]]:
    batches = calibration_batches(images, model.config.network.stride)
    return [model.encode(torch.from_numpy(pixels)).numpy() for pixels in batches]
