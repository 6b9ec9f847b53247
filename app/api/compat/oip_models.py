"""The Open Inference Protocol's models: their names, and what each takes and gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.api.compat.oip_tensors import BYTES, datatype_of
from app.runtime.model import DEFAULT_DECODER

if TYPE_CHECKING:
    from app.runtime.model import Model
    from app.runtime.registry import Models
    from bundle import Recognizer

GRAPHS = ("encoder", "quantizer", "decoder", "embedder")
# Of each further decoder too, by its name behind another dot.
DECODING = ("decoder", "decode")
# Of each recognizer, by name behind another dot: its graph as it is.
RECOGNIZER = "recognizer"
CLASSIFY = "classify"

_IMAGE = "image"
_PIXELS = "pixels"
_CODES = "codes"


@dataclass(frozen=True, slots=True)
class Composed:
    """What several graphs make up together.

    Attributes:
        task: what it does.
        takes: name of the input that it declares, which is needed and sufficient.
        also: inputs that it reads besides, undeclared: tools send all that is declared.
    """

    task: str
    takes: str
    also: tuple[str, ...] = ()


COMPOSED = {
    "encode": Composed("encode", _PIXELS, also=(_IMAGE,)),
    "encode_image": Composed("encode", _IMAGE),
    "decode": Composed("decode", _CODES, also=("size",)),
    "embed": Composed("embed", _PIXELS, also=(_IMAGE, _CODES)),
    "embed_image": Composed("embed", _IMAGE),
}
# Of each recognizer too: images or codes to probabilities.
CLASSIFIERS = {
    CLASSIFY: Composed(CLASSIFY, _PIXELS, also=(_IMAGE, _CODES)),
    "classify_image": Composed(CLASSIFY, _IMAGE),
    "classify_codes": Composed(CLASSIFY, _CODES),
}


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output.

    Attributes:
        name: name of the input or output.
        datatype: its datatype, as the protocol names it.
        shape: its shape, -1 where a side is free; the first axis is the items'.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]

    def described(self) -> dict[str, Any]:
        """As the metadata has it."""
        return {"name": self.name, "datatype": self.datatype, "shape": self.shape}


_INPUTS = {
    port.name: port
    for port in (
        Port(_IMAGE, BYTES, (-1, 1)),
        Port(_CODES, "INT64", (-1, -1, -1)),
    )
}


@dataclass(frozen=True, slots=True)
class Target:
    """One of the protocol's models.

    Attributes:
        model: the loaded model that it is part of.
        kind: what follows the model's name: one of `GRAPHS`, `COMPOSED`, `CLASSIFIERS`, or
            `RECOGNIZER`.
        recognizer_name: name of its recognizer, if it is one of the latter two.
        decoder_name: name of its decoder, if it is one of `DECODING` by another than the default.
    """

    model: Model
    kind: str
    recognizer_name: str | None = None
    decoder_name: str | None = None

    @classmethod
    def named(cls, models: Models, name: str, version: str | None) -> Target:
        """The model of that name and version.

        Raises:
            ModelNotFound: there is none.
            RecognizerNotFound: the model has none, or none of that name.
            DecoderNotFound: the model has none of that name.
        """
        for kind in DECODING:
            base, found, rest = name.partition(f".{kind}.")
            if base and found:
                model = models.get(base, version)
                decoder = model.decoder_of(model.decoder(rest))
                return cls(model, kind, None, None if decoder == DEFAULT_DECODER else decoder)
        for kind in (RECOGNIZER, *CLASSIFIERS):
            base, found, rest = name.partition(f".{kind}")
            if base and found and (not rest or rest.startswith(".")):
                model = models.get(base, version)
                return cls(model, kind, model.recognizer(rest[1:] or None)[0])
        base, _, kind = name.rpartition(".")
        if not base or kind not in {*GRAPHS, *COMPOSED}:
            base, kind = name, "encode"
        return cls(models.get(base, version), kind)

    @classmethod
    def all_of(cls, model: Model) -> list[Target]:
        """All of the protocol's models that a loaded model is."""
        recognizers = sorted(model.manifest.recognizers)
        decoders = sorted(model.manifest.decoders)
        return [
            *(cls(model, kind) for kind in (*GRAPHS, *COMPOSED)),
            *(cls(model, kind, None, d) for kind in DECODING for d in decoders),
            *(cls(model, kind, r) for kind in (RECOGNIZER, *CLASSIFIERS) for r in recognizers),
        ]

    @property
    def name(self) -> str:
        """Its name in full."""
        part = self.recognizer_name or self.decoder_name
        name = f"{self.model.name}.{self.kind}"
        return name if part is None else f"{name}.{part}"

    @property
    def version(self) -> str:
        """Its version, which is that of the model."""
        return self.model.manifest.version

    @property
    def composed(self) -> Composed | None:
        """What it is made of several graphs for; None if it is one graph."""
        return COMPOSED.get(self.kind) or CLASSIFIERS.get(self.kind)

    @property
    def task(self) -> str:
        """What it does, whatever it takes: the name of its graph, or `Composed.task`."""
        return self.kind if self.composed is None else self.composed.task

    @property
    def recognizer(self) -> Recognizer | None:
        """Its recognizer, if it has one."""
        if self.recognizer_name is None:
            return None
        return self.model.manifest.recognizers[self.recognizer_name]

    @property
    def decoder(self) -> str:
        """The graph of its decoder."""
        return self.model.decoder(self.decoder_name)

    @property
    def inputs(self) -> tuple[Port, ...]:
        """What it declares to take: each is needed, and together they are sufficient."""
        composed = self.composed
        if composed is None:
            return self._ports("inputs")
        own = {_CODES: self._codes, _PIXELS: self.pixels}
        return (own.get(composed.takes) or _INPUTS[composed.takes],)

    @property
    def accepted(self) -> tuple[str, ...]:
        """Names of the inputs that it reads: exactly one of them; but `size` goes with codes."""
        also = () if self.composed is None else self.composed.also
        return (*(port.name for port in self.inputs), *also)

    @property
    def outputs(self) -> tuple[Port, ...]:
        """What it gives; sizes are width, height in pixels."""
        classes = len(self.recognizer.classes) if self.recognizer else 0
        return {
            "encode": (self._codes, Port("size", "INT32", (-1, 2))),
            "decode": (self.pixels,),
            "embed": (Port("embedding", "FP32", (-1, self.model.manifest.embedding_size)),),
            CLASSIFY: (Port("probabilities", "FP32", (-1, classes)),),
        }.get(self.task) or self._ports("outputs")

    @property
    def pixels(self) -> Port:
        """Pixels, of as many channels and bits as the model's."""
        samples = self.model.samples
        return Port(_PIXELS, datatype_of(samples.dtype.name), (-1, -1, -1, samples.channels))

    @property
    def _codes(self) -> Port:
        """Codes: of a model of several stages with an axis of them, but where the first will do."""
        staged = self.model.manifest.stages > 1 and self.task != CLASSIFY
        return Port(_CODES, "INT64", (-1,) * 4) if staged else _INPUTS[_CODES]

    def _ports(self, which: str) -> tuple[Port, ...]:
        graph = self.recognizer.graph if self.recognizer else self.kind
        graph = self.decoder if self.kind == "decoder" else graph
        return tuple(
            Port(
                tensor.name,
                datatype_of(tensor.dtype),
                tuple(axis if isinstance(axis, int) else -1 for axis in tensor.axes),
            )
            for tensor in getattr(self.model.manifest.graphs[graph], which)
        )
