"""The manifest: what a bundle says of itself, as frozen dataclasses.

`bundle/FORMAT.md` is the normative description; `bundle.manifest_json` reads and writes it,
`bundle.folder` the files that it lists.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bundle.errors import PathEscapes
from bundle.prior import Prior

PRECISIONS = ("fp32", "fp16", "int8")
REQUIRED_GRAPHS = ("encoder", "quantizer", "decoder", "embedder")
CODEBOOK_FILE = "codebook.npy"
# Of models and their versions.
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")

_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True)
class Tensor:
    """An input or output of a graph.

    Attributes:
        name: in the graph.
        dtype: as NumPy names it.
        axes: each a fixed length, or the name of a dynamic one such as `n`, `h` or `h/8`.
    """

    name: str
    dtype: str
    axes: tuple[int | str, ...]


@dataclass(frozen=True)
class Graph:
    """One step of the model, in one or several precisions.

    Attributes:
        inputs, outputs: the same in every precision.
        files: name of the ONNX file of each precision; `fp32` is always among them.
        reach: cells of the code grid beyond which input no longer matters to an output (the
            radius of the receptive field); None if unknown or without bound.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    files: Mapping[str, str]
    reach: int | None = None


@dataclass(frozen=True)
class File:
    """A file of the bundle: its length in bytes and its SHA-256 in lower-case hexadecimal."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Recognizer:
    """A graph that maps codes to class scores.

    Attributes:
        graph: name of the graph in the manifest's `graphs`.
        classes: names, in the order of the scores.
        licence: of the data it was trained on.
        metrics: measured when it was made.
    """

    graph: str
    classes: tuple[str, ...]
    licence: str
    metrics: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """Everything a reader needs to know before it opens a graph.

    Attributes:
        name: of the model, lower case.
        version: of the model; two bundles of one name differ in it.
        code_space: SHA-256 of codebook and decoder, lower-case hexadecimal
            (`bundle.code_space_digest`): equal digests mean interchangeable codes.
        stride: pixels along one side of the patch that one code stands for.
        codebook_size: number of codes K; codes are in [0, K).
        codebook_width: dimension d of a code vector.
        embedding_size: dimension e of the embedder's vector.
        graphs: by name; `REQUIRED_GRAPHS` at least.
        files: every file but the manifest itself.
        recognizers: by name; may be empty.
        prior: context model of the codes, if there is one; not part of the code space.
        data: what it was trained on, each with at least `name` and `licence`.
        training: the configuration, the git commit and facts of the run.
        metrics: measured at export.
        parity: how far each graph and precision is from the trained network; with `failed`, the
            reason, for a precision that was left out.
    """

    name: str
    version: str
    code_space: str
    stride: int
    codebook_size: int
    codebook_width: int
    embedding_size: int
    graphs: Mapping[str, Graph]
    files: Mapping[str, File]
    recognizers: Mapping[str, Recognizer] = field(default_factory=dict)
    prior: Prior | None = None
    data: tuple[Mapping[str, Any], ...] = ()
    training: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    parity: Mapping[str, Any] = field(default_factory=dict)

    @property
    def bits(self) -> int:
        """Bits one code takes at a fixed length: ⌈log2 K⌉."""
        return (self.codebook_size - 1).bit_length()

    def reason_left_out(self, graph: str, precision: str) -> str | None:
        """Why export left a precision of a graph out; None where it didn't, or doesn't say."""
        figures: Any = self.parity
        for key in (graph, precision, "failed"):
            figures = figures.get(key) if isinstance(figures, Mapping) else None
        return figures if isinstance(figures, str) else None


def check_file_name(name: str) -> None:
    """Refuses names that could lead out of the folder: only plain names are allowed.

    Raises:
        PathEscapes: the name has a separator, starts with a dot or is otherwise odd.
    """
    if not _FILE.fullmatch(name):
        raise PathEscapes(f"{name!r} is not a plain file name")
