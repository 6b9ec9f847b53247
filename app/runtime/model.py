"""One bundle, ready to run."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from app.errors import (
    CodebookTooLarge,
    DecoderNotFound,
    InvalidParameter,
    PriorNotFound,
    RecognizerNotFound,
)
from app.runtime.engine import Graphs
from app.runtime.prior import Prior
from app.runtime.sessions import GraphRefused, Precision, choose_precision
from app.runtime.warm_up import warm_up
from bundle import Bundle, BundleError, Manifest, Recognizer, open_bundle, read_manifest
from bundle.manifest import MAIN_DECODER, codebook_file
from imaging.samples import SampleFormat

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from app.runtime.device import Device
    from app.runtime.operations import Operation

# What requests may call the decoder that every bundle has.
DEFAULT_DECODER = "default"
# Vectors of codes that are made up of small tables, written out at most.
_MOST_VECTORS = 1 << 16


@dataclass(frozen=True, eq=False)
class Model:
    """One bundle, ready to run.

    Attributes:
        bundle: the folder that it was loaded from.
        graphs: its graphs on their device, for exclusive runs.
        concurrent_graphs: the same on one core, for runs at the same time; `graphs` itself where
            only one runs at a time.
        codebooks: of each stage, float32 `[K, d]`; with `manifest.factors` the small tables
            that code vectors are made of, `[ΣK_i, d/m]`.
        prior: context model of its codes, if the bundle has one.
    """

    bundle: Bundle
    graphs: Graphs
    concurrent_graphs: Graphs
    codebooks: tuple[NDArray[np.float32], ...]
    prior: Prior | None = None

    @property
    def manifest(self) -> Manifest:
        """What the bundle says of itself."""
        return self.bundle.manifest

    @property
    def samples(self) -> SampleFormat:
        """What its pixels are."""
        return SampleFormat(self.manifest.channels, self.manifest.sample_maximum)

    @property
    def name(self) -> str:
        """The model's name, as requests say it."""
        return self.bundle.manifest.name

    @property
    def id(self) -> str:
        """Name and version: `photo-f8@1`, what means this model and never another."""
        return f"{self.name}@{self.manifest.version}"

    @property
    def precision(self) -> Precision:
        """What encoder and decoder run in."""
        return self.graphs.precision

    def code_vectors(self, stage: int) -> NDArray[np.float32]:
        """The vectors of all codes of a stage, counted from 0: float32 `[K, d]`.

        Raises:
            CodebookTooLarge: they are made up of small tables, and too many to be written out.
        """
        manifest, table = self.manifest, self.codebooks[stage]
        if not manifest.factors:
            return table
        size, factors = manifest.codebook_size, manifest.factors
        if size > _MOST_VECTORS:
            raise CodebookTooLarge(
                f"each of the {size} codes of {self.name} is made up of {len(factors)} choices, "
                f"and no more than {_MOST_VECTORS} vectors are written out: make those you need "
                "of codebook.npy in its bundle, as bundle/FORMAT.md says"
            )
        # The first choice counts fastest.
        choices = np.unravel_index(np.arange(size), factors, order="F")
        starts = np.cumsum((0, *factors[:-1]))
        parts = [table[start + chosen] for start, chosen in zip(starts, choices, strict=True)]
        return np.concatenate(parts, axis=1)

    def recognizer(self, name: str | None) -> tuple[str, Recognizer]:
        """A recognizer and its name; the only one, or the first by name, where none is named.

        Raises:
            RecognizerNotFound: the bundle has none, or none of that name.
        """
        there = self.manifest.recognizers
        if not there:
            raise RecognizerNotFound(
                f"the model {self.name} carries no recognizer; "
                f"{self._not_loaded(name) or 'train one with `python -m training.recognize`'}"
            )
        chosen = min(there) if name is None else name
        if chosen not in there:
            hint = self._not_loaded(name)
            raise RecognizerNotFound(
                f"the model {self.name} carries no such recognizer; it has: "
                f"{', '.join(sorted(there))}{'; ' if hint else ''}{hint}"
            )
        return chosen, there[chosen]

    def decoder(self, name: str | None) -> str:
        """The graph of a decoder; `default`, or no name, is the one for the least squared error.

        Raises:
            DecoderNotFound: the bundle has none of that name.
        """
        there = self.manifest.decoders
        if name is None or name == DEFAULT_DECODER:
            return MAIN_DECODER
        if name not in there:
            raise DecoderNotFound(
                f"the model {self.name} has no such decoder; it has: "
                f"{', '.join((DEFAULT_DECODER, *sorted(there)))}"
            )
        return there[name].graph

    def decoder_of(self, graph: str) -> str:
        """The name of the decoder that has this graph."""
        found = (name for name, entry in self.manifest.decoders.items() if entry.graph == graph)
        return next(found, DEFAULT_DECODER)

    def stages(self, asked: int | None) -> int:
        """How many stages of codes an answer has: as asked, or what the manifest says.

        Raises:
            InvalidParameter: the model hasn't so many.
        """
        if asked is None:
            return self.manifest.default_stages
        if not 1 <= asked <= self.manifest.stages:
            most = self.manifest.stages
            there = "1, the only stage that" if most == 1 else f"1 to {most}, the stages that"
            raise InvalidParameter(f"stages: must be {there} the model {self.name} has")
        return asked

    def prior_of(self, beginning: str = "", stages: int = 1) -> Prior:
        """The prior, which is what codes are coded by their context with.

        Args:
            beginning: of its digest, where codes were coded with one already.
            stages: of the codes, each of which it must have learnt.

        Raises:
            PriorNotFound: the bundle has none, another, or one of fewer stages.
        """
        if self.prior is None:
            raise PriorNotFound(
                f"the model {self.name} carries no prior{f' {beginning}…' if beginning else ''}; "
                "ask for codes without coding=context, or train one with `python -m training.prior`"
            )
        if not self.prior.digest.startswith(beginning):
            raise PriorNotFound(
                f"these codes were coded with the prior {beginning}…; the model {self.name} "
                f"carries {self.prior.digest[:16]}…: load the bundle that they were coded with"
            )
        if stages > len(self.prior.codes):
            raise PriorNotFound(
                f"the prior of the model {self.name} is for {len(self.prior.codes)} of the "
                f"{stages} stages: ask for codes without coding=context, or of fewer stages"
            )
        return self.prior

    def _not_loaded(self, name: str | None) -> str:
        """What to do where the folder has got the wanted recognizer since it was loaded."""
        try:
            there = read_manifest(self.bundle.path).recognizers
        except (BundleError, OSError):
            return ""
        if not there if name is None else name not in there:
            return ""
        return (
            "its folder has one since it was loaded: reload, with SIGHUP or POST /v1/models:reload"
        )

    def run(self, operation: Operation, batch: list[Any], *, exclusive: bool = True) -> list[Any]:
        """Run one operation on payloads of one shape.

        Args:
            operation: what to compute; it says what payloads and results are.
            batch: the payloads.
            exclusive: whether nothing else runs meanwhile, so that all cores are free for this.

        Returns:
            A result for each payload, in order.
        """
        graphs = self.graphs if exclusive else self.concurrent_graphs
        values = np.stack(batch) if len(batch) > 1 else batch[0][None]
        if operation.gives == "latents":
            return list(graphs.latents(values))
        if operation.takes == "latents":
            return list(graphs.quantize(values))
        codes = graphs.encode(values) if operation.takes == "pixels" else values
        match operation.gives:
            case "pixels":
                if operation.takes == "pixels" and codes.ndim == 4:
                    codes = codes[:, : operation.stages]
                return list(graphs.decode(codes, operation.graph))
            case "vector":
                return list(graphs.embed(codes))
            case "scores":
                return list(graphs.recognize(operation.graph, codes))
            case "codes":
                return list(codes)


def load_model(
    path: Path, device: Device, precision: str, tile_pixels: int, concurrent: bool
) -> Model:
    """Open a bundle, load its graphs and run each of them once.

    Args:
        path: folder of the bundle.
        device: device that the graphs are to run on.
        precision: precision asked for, as in `choose_precision`.
        tile_pixels: most pixels of one run, as in `Graphs`.
        concurrent: load everything for concurrent runs on one core each too, where the device
            has several cores.

    Raises:
        BundleError: the bundle is broken.
        GraphRefused: a graph can't be loaded, or isn't what the manifest says.
    """
    bundle = open_bundle(path)
    manifest = bundle.manifest
    chosen = choose_precision(precision, device, bundle)
    graphs = single = Graphs(bundle, device, chosen, tile_pixels)
    warm_up(graphs)
    if concurrent and device.kind == "cpu" and device.threads > 1:
        # The same files, so what has been proven of them needn't be proven again.
        single = Graphs(bundle, replace(device, threads=1), chosen, tile_pixels)
    codebooks = tuple(_codebook(bundle, stage) for stage in range(manifest.stages))
    prior = None if manifest.prior is None else Prior(bundle, manifest.prior)
    return Model(bundle, graphs, single, codebooks, prior)


def _codebook(bundle: Bundle, stage: int) -> NDArray[np.float32]:
    """The code vectors of a stage: float32 `[K, d]`."""
    name, manifest = codebook_file(stage), bundle.manifest
    try:
        codebook = np.load(io.BytesIO(bundle.read(name)), allow_pickle=False)
    except ValueError as error:
        raise GraphRefused(f"{name} can't be read as an array of numbers") from error
    shape = (manifest.codebook_sizes[stage], manifest.codebook_width)
    if codebook.shape != (shape if stage else manifest.codebook_shape):
        raise GraphRefused(f"{name} isn't of the size that the manifest says")
    vectors: NDArray[np.float32] = codebook.astype(np.float32, copy=False)
    return vectors
