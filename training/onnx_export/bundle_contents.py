"""What a bundle of a checkpoint holds: its manifest and its files, ready to be written."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from bundle import Decoder, Graph, Manifest
from bundle.manifest import codebook_file
from training.onnx_export.exporter import Exported
from training.onnx_export.graphs import graph_signatures
from training.onnx_export.model_card import model_card
from training.onnx_export.provenance import git_commit
from training.onnx_export.replace_graph import MODEL_CARD_FILE, graph_file
from training.tokenizer.checkpoint import Checkpoint
from training.tokenizer.model import Tokenizer


def bundle_contents(
    checkpoint: Checkpoint,
    model: Tokenizer,
    made: Exported,
    *,
    version: str,
    code_space: str,
    embedding_size: int,
    data: tuple[Mapping[str, Any], ...],
    metrics: Mapping[str, Any],
    kept: Mapping[str, Any] | None,
) -> tuple[Manifest, dict[str, bytes]]:
    """The manifest, and every file by its name.

    Args:
        checkpoint: whose configuration and facts are recorded.
        model: of the checkpoint, with its weights as trained.
        made: its graphs.
        version: of the bundle.
        code_space: of the bundle.
        embedding_size: width of the embedding.
        data: what it was trained on, each with at least `name` and `licence`.
        metrics: that were measured.
        kept: what the rule for keeping an earlier code space measured, if that was asked for.
    """
    config = checkpoint.config
    signatures = graph_signatures(model, embedding_size)
    files: dict[str, bytes] = {}
    entries: dict[str, Graph] = {}
    for name, graphs in made.graphs.items():
        named = {precision: graph_file(name, precision) for precision in graphs}
        shared = made.weights.get(name, {})
        files |= {named[precision]: graph for precision, graph in graphs.items()} | dict(shared)
        entries[name] = signatures[name].manifest(named, next(iter(shared), None))
    for stage, codebook in enumerate(model.quantizer.codebooks()):
        files[codebook_file(stage)] = _npy(codebook)
    manifest = Manifest(
        name=config.name,
        version=version,
        code_space=code_space,
        stride=config.network.stride,
        codebook_kind=config.quantizer.kind,
        codebook_size=config.quantizer.stages[0],
        codebook_width=config.quantizer.width,
        factors=config.quantizer.factors,
        residual_sizes=config.quantizer.stages[1:],
        default_stages=len(config.quantizer.stages),
        channels=config.data.channels,
        sample_maximum=config.data.sample_maximum,
        embedding_size=embedding_size,
        graphs=entries,
        files={},
        decoders={name: _decoder(f"decoder-{name}", made) for name in made.decoders},
        data=data,
        training={
            "configuration": config.to_dict(),
            "git_commit": git_commit(),
            "steps": checkpoint.step,
            "steps_planned": config.steps,
            "torch": torch.__version__,
            "weights": {
                "stored": "float16" if made.in_half else "float32",
                "psnr_cost_of_float16": round(made.rounding, 5),
            },
            **({} if kept is None else {"code_space": dict(kept)}),
            **checkpoint.facts,
        },
        metrics=metrics,
        parity=made.parity,
    )
    files[MODEL_CARD_FILE] = model_card(manifest).encode()
    return manifest, files


def _decoder(graph: str, made: Exported) -> Decoder:
    """A further decoder's entry, with its PSNR in dB on the images of the proof."""
    proof = made.parity[graph]["fp32"]
    keys = ("psnr", "psnr_first_stage")
    return Decoder(graph, {f"proof_{key}": proof[key] for key in keys if key in proof})


def _npy(codebook: torch.Tensor) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, codebook.detach().numpy().astype("<f4"), allow_pickle=False)
    return buffer.getvalue()
