"""The manifest: what a bundle says of itself, as frozen dataclasses.

`bundle/FORMAT.md` is the normative description; `bundle.manifest_json` reads and writes it,
`bundle.folder` the files that it lists.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bundle.errors import PathEscapes
from bundle.prior import Prior

PRECISIONS = ("fp32", "fp16", "int8")
REQUIRED_GRAPHS = ("encoder", "quantizer", "decoder", "embedder")
CODEBOOK_FILE = "codebook.npy"
MAIN_DECODER = "decoder"
MAX_STAGES = 16
MAX_CHANNELS = 16
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
        weights: name of the file that holds the weights of all precisions; None where each ONNX
            file holds its own.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    files: Mapping[str, str]
    reach: int | None = None
    weights: str | None = None


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
class Decoder:
    """A further decoder for the same codes, such as one for texture.

    Attributes:
        graph: name of the graph in the manifest's `graphs`: `decoder-` and the decoder's name.
        metrics: measured when it was made.
    """

    graph: str
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
        codebook_size: number of codes K of the first stage; codes are in [0, K).
        codebook_width: dimension d of a code vector.
        codebook_kind: which quantizer makes the codes, such as `ema` or `fsq`; empty if unknown.
        factors: of codes that are made up of several choices, how many rows each has in the
            codebook's file; empty where a code is a row of its own.
        residual_sizes: number of codes of each further stage; empty with one stage.
        default_stages: how many stages an encoder's answer has where nobody says.
        channels: of the pixels, 1…16.
        sample_maximum: the sample that is white, 1…65535; above 255 pixels are uint16.
        embedding_size: dimension e of the embedder's vector.
        graphs: by name; `REQUIRED_GRAPHS` at least.
        files: every file but the manifest itself.
        recognizers: by name; may be empty.
        decoders: further decoders by name, beside the main one; may be empty.
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
    residual_sizes: tuple[int, ...] = ()
    default_stages: int = 1
    channels: int = 3
    sample_maximum: int = 255
    codebook_kind: str = ""
    factors: tuple[int, ...] = ()
    decoders: Mapping[str, Decoder] = field(default_factory=dict)
    data: tuple[Mapping[str, Any], ...] = ()
    training: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    parity: Mapping[str, Any] = field(default_factory=dict)

    @property
    def format_version(self) -> int:
        """The lowest version of the format that can say all of this."""
        if (self.channels, self.sample_maximum) != (3, 255):
            return 3
        shared = any(graph.weights is not None for graph in self.graphs.values())
        return 2 if self.residual_sizes or self.factors or self.decoders or shared else 1

    @property
    def sample_dtype(self) -> str:
        """Of the pixels: `uint8`, or `uint16` where a sample may be above 255."""
        return "uint8" if self.sample_maximum <= 255 else "uint16"

    @property
    def bits(self) -> int:
        """Bits one code of the first stage takes at a fixed length: ⌈log2 K⌉."""
        return (self.codebook_size - 1).bit_length()

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes of each stage, the first one first."""
        return (self.codebook_size, *self.residual_sizes)

    @property
    def codebook_shape(self) -> tuple[int, int]:
        """Rows and columns of the first codebook's file."""
        if self.factors:
            return sum(self.factors), self.codebook_width // len(self.factors)
        return self.codebook_size, self.codebook_width

    @property
    def stages(self) -> int:
        """How many codes each patch has at most; any number of them from the first on is valid."""
        return len(self.codebook_sizes)

    @property
    def stage_bits(self) -> tuple[int, ...]:
        """Bits that one code of each stage takes at a fixed length."""
        return tuple((size - 1).bit_length() for size in self.codebook_sizes)

    @property
    def stage_information(self) -> tuple[float, ...]:
        """Bits that one code of each stage can tell: log2 K, also where it isn't whole."""
        return tuple(math.log2(size) for size in self.codebook_sizes)

    def decoder_graph(self, name: str | None = None) -> str:
        """The graph of a decoder by its name; of the main one for None.

        Raises:
            KeyError: there is no such decoder.
        """
        return MAIN_DECODER if name is None else self.decoders[name].graph

    def reason_left_out(self, graph: str, precision: str) -> str | None:
        """Why export left a precision of a graph out; None where it didn't, or doesn't say."""
        figures: Any = self.parity
        for key in (graph, precision, "failed"):
            figures = figures.get(key) if isinstance(figures, Mapping) else None
        return figures if isinstance(figures, str) else None


def codebook_file(stage: int) -> str:
    """The file of a stage's code vectors, counted from 0: `codebook.npy`, then `codebook-2.npy`."""
    return CODEBOOK_FILE if stage == 0 else f"codebook-{stage + 1}.npy"


def check_file_name(name: str) -> None:
    """Refuses names that could lead out of the folder: only plain names are allowed.

    Raises:
        PathEscapes: the name has a separator, starts with a dot or is otherwise odd.
    """
    if not _FILE.fullmatch(name):
        raise PathEscapes(f"{name!r} is not a plain file name")
