"""A bundle with one graph added or replaced, everything else byte for byte as it was.

For graphs that are made after the tokenizer, on its codes alone: a learnt
embedder, a recognizer. The code space, and with it every stored code, stays.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bundle import Bundle, Graph, Manifest, open_bundle, write_bundle
from training.onnx_export.model_card import model_card

MODEL_CARD_FILE = "MODEL_CARD.md"


def graph_file(graph: str, precision: str) -> str:
    """The name of a graph's ONNX file: `embedder.onnx` in fp32, else as `embedder.int8.onnx`."""
    return f"{graph}.onnx" if precision == "fp32" else f"{graph}.{precision}.onnx"


def replace_graph(
    path: Path,
    name: str,
    graph: Graph,
    content: Mapping[str, bytes],
    parity: Mapping[str, Mapping[str, Any]],
    change: Callable[[Manifest], Manifest] = lambda manifest: manifest,
) -> Bundle:
    """Writes a graph into a bundle that is already there.

    The bundle is read, changed and replaced as a whole: a reader sees the old one or
    the new one. The model card is made anew from the manifest. Whoever calls this has
    proven the graph before (`training.onnx_export.parity`); the figures of the proof are
    written down.

    Args:
        path: of the bundle's folder.
        name: of the graph; one of that name is replaced, its files removed.
        graph: its inputs and outputs. Its `files` are ignored and made from `content`.
        content: precision → ONNX file; `fp32` is among them.
        parity: precision → what the proof measured, for each precision of `content`.
        change: gives the manifest its other new values, such as version or recognizers;
            it sees the one with the new graph in it.

    Returns:
        The bundle as opened again from disk.

    Raises:
        ValueError: the precisions of `content` and `parity` differ.
        BundleError: the folder is not a sound bundle, or would not be one afterwards;
            nothing was written.
    """
    if set(content) != set(parity):
        raise ValueError(
            f"graph {name!r} comes in {', '.join(sorted(content))}, "
            f"but was proven in {', '.join(sorted(parity)) or 'nothing'}"
        )
    bundle = open_bundle(path)
    old = bundle.manifest
    files = {file: bundle.read(file) for file in old.files}
    if name in old.graphs:
        gone = old.graphs[name]
        for file in (*gone.files.values(), *([gone.weights] if gone.weights else [])):
            del files[file]
    named = {precision: graph_file(name, precision) for precision in content}
    files |= {named[precision]: onnx for precision, onnx in content.items()}
    new = change(
        dataclasses.replace(
            old,
            graphs={**old.graphs, name: dataclasses.replace(graph, files=named, weights=None)},
            parity={**old.parity, name: {p: dict(figures) for p, figures in parity.items()}},
        )
    )
    files[MODEL_CARD_FILE] = model_card(new).encode()
    return write_bundle(path, new, files)
