"""The Open Inference Protocol's models: what each takes, gives, and is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from app.api.compat.oip_tensors import BYTES, Inference, datatype_of
from app.codecs.grids import CodeGrid, check_count, check_size, out_of_range
from app.errors import (
    CodesInvalid,
    ImageCorrupt,
    ImageTooLarge,
    MalformedRequest,
    TooManyImages,
)
from app.service.preprocessing import ImageInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from app.runtime.model import Model
    from app.runtime.registry import Models
    from app.service.preprocessing import Limits
    from bundle import Recognizer

GRAPHS = ("encoder", "quantizer", "decoder", "embedder")
COMPOSED = ("encode", "decode", "embed")
# Of each recognizer, by name behind another dot: its graph as it is, and images or codes to
# probabilities.
RECOGNIZER = "recognizer"
CLASSIFY = "classify"


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output.

    Attributes:
        name: name of the input or output.
        datatype: its datatype, as the protocol names it.
        shape: its shape, -1 where a side is free.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]

    def described(self) -> dict[str, Any]:
        """As the metadata has it."""
        return {"name": self.name, "datatype": self.datatype, "shape": self.shape}


@dataclass(frozen=True, slots=True)
class Target:
    """One of the protocol's models.

    Attributes:
        model: the loaded model that it is part of.
        name: its name, as the client wrote it.
        task: what it does: one of `GRAPHS` or `COMPOSED`, `RECOGNIZER` or `CLASSIFY`.
        recognizer: its recognizer, if it is one of the latter two.
    """

    model: Model
    name: str
    task: str
    recognizer: Recognizer | None = None

    @classmethod
    def named(cls, models: Models, name: str, version: str | None) -> Target:
        """The model of that name and version.

        Raises:
            ModelNotFound: there is none.
            RecognizerNotFound: the model has none, or none of that name.
        """
        for task in (RECOGNIZER, CLASSIFY):
            base, found, rest = name.partition(f".{task}")
            if base and found and (not rest or rest.startswith(".")):
                model = models.get(base, version)
                return cls(model, name, task, model.recognizer(rest[1:] or None)[1])
        base, _, task = name.rpartition(".")
        if not base or task not in {*GRAPHS, *COMPOSED}:
            base, task = name, "encode"
        return cls(models.get(base, version), name, task)

    @property
    def inputs(self) -> tuple[Port, ...]:
        """What it takes: exactly one of them; but `size`, of `decode`, goes with the codes."""
        images = (Port("image", BYTES, (-1,)), Port("pixels", "UINT8", (-1, -1, -1, 3)))
        codes = Port("codes", "INT64", (-1, -1, -1))
        return {
            "encode": images,
            "decode": (codes, Port("size", "INT32", (-1, 2))),
            "embed": (*images, codes),
            CLASSIFY: (*images, codes),
        }.get(self.task) or self._ports("inputs")

    @property
    def outputs(self) -> tuple[Port, ...]:
        """What it gives; sizes are width, height in pixels."""
        classes = len(self.recognizer.classes) if self.recognizer else 0
        return {
            "encode": (Port("codes", "INT64", (-1, -1, -1)), Port("size", "INT32", (-1, 2))),
            "decode": (Port("pixels", "UINT8", (-1, -1, -1, 3)),),
            "embed": (Port("embedding", "FP32", (-1, self.model.manifest.embedding_size)),),
            CLASSIFY: (Port("probabilities", "FP32", (-1, classes)),),
        }.get(self.task) or self._ports("outputs")

    def _ports(self, which: str) -> tuple[Port, ...]:
        graph = self.recognizer.graph if self.recognizer else self.task
        return tuple(
            Port(
                tensor.name,
                datatype_of(tensor.dtype),
                tuple(axis if isinstance(axis, int) else -1 for axis in tensor.axes),
            )
            for tensor in getattr(self.model.manifest.graphs[graph], which)
        )


class Inputs:
    """A request's inputs, held to what the target takes and to the limits.

    Args:
        target: the protocol's model that is to be run.
        asked: the request, parsed.
        limits: limits of one request.

    Raises:
        MalformedRequest: an input that the target doesn't have, or not exactly one of those that
            exclude each other.
    """

    def __init__(self, target: Target, asked: Inference, limits: Limits) -> None:
        there = [port.name for port in target.inputs]
        for name in asked.inputs:
            if name not in there:
                raise MalformedRequest(f"there is no such input; there are: {', '.join(there)}")
        main = [name for name in there if name != "size" and name in asked.inputs]
        if len(main) != 1:
            raise MalformedRequest(
                f"exactly one of these inputs must be given: "
                f"{', '.join(name for name in there if name != 'size')}"
            )
        self._target = target
        self._tensors = asked.inputs
        self._limits = limits

    def has(self, name: str) -> bool:
        """Whether this input is given."""
        return name in self._tensors

    def images(self) -> list[ImageInput]:
        """Of `image` or `pixels`.

        Raises:
            MalformedRequest, ImageCorrupt, TooManyImages, ImageTooLarge: not as they should be.
        """
        if "image" in self._tensors:
            elements = self._tensors["image"]
            if elements.datatype != BYTES or not isinstance(elements.values, list):
                raise MalformedRequest("image must be BYTES: an encoded image in each element")
            self._check_images(len(elements.values))
            return [ImageInput(element) for element in elements.values]
        pixels = self._array("pixels", ("UINT8",), 4)
        n, height, width, channels = pixels.shape
        if channels != 3 or height < 1 or width < 1:
            raise ImageCorrupt("pixels must have the shape [n, h, w, 3]")
        self._check_images(n)
        if height * width > self._limits.pixels:
            raise ImageTooLarge(
                f"the images have {width} × {height} = {width * height} pixels; "
                f"the limit is {self._limits.pixels} (TESSERA_MAX_PIXELS)"
            )
        stride = self._target.model.manifest.stride
        if self._target.task == "encoder" and (height % stride or width % stride):
            raise ImageCorrupt(f"height and width must be multiples of {stride}; .encode pads them")
        return [ImageInput(image) for image in pixels]

    def grids(self) -> list[CodeGrid]:
        """Of `codes`, and `size` where it is given.

        Raises:
            MalformedRequest, CodesInvalid, TooManyImages, ImageTooLarge: not as they should be.
        """
        manifest = self._target.model.manifest
        codes = self._array("codes", ("INT", "UINT"), 3)
        if codes.size == 0:
            raise CodesInvalid("codes are empty")
        n, rows, columns = codes.shape
        check_count(n, self._limits.images)
        if codes.min() < 0 or codes.max() >= manifest.codebook_size:
            raise out_of_range(manifest.codebook_size)
        sizes: Sequence[tuple[int | None, int | None]] = [(None, None)] * n
        if "size" in self._tensors:
            given = self._array("size", ("INT", "UINT"), 2)
            if given.shape != (n, 2):
                raise CodesInvalid("size must have the shape [n, 2]: width, height of each")
            sizes = [(width, height) for width, height in given.tolist()]
        return [
            CodeGrid(
                grid,
                *check_size((rows, columns), width, height, manifest.stride, self._limits.pixels),
            )
            for grid, (width, height) in zip(codes.astype(np.int64), sizes, strict=True)
        ]

    def latents(self) -> list[NDArray[np.float32]]:
        """Of the quantizer's one input: `[d, rows, columns]` each.

        Raises:
            MalformedRequest, CodesInvalid, TooManyImages, ImageTooLarge: not as they should be.
        """
        port = self._target.inputs[0]
        latents = self._array(port.name, ("FP32", "FP16"), 4).astype(np.float32)
        n, width, rows, columns = latents.shape
        if width != port.shape[1] or rows < 1 or columns < 1:
            raise CodesInvalid(f"latents must have the shape {list(port.shape)}")
        self._check_images(n)
        stride = self._target.model.manifest.stride
        check_size((rows, columns), None, None, stride, self._limits.pixels)
        if not np.isfinite(latents).all():
            raise CodesInvalid("latents must be finite")
        return list(latents)

    def _check_images(self, n: int) -> None:
        if n == 0:
            raise MalformedRequest("the request holds no image")
        if n > self._limits.images:
            raise TooManyImages(
                f"{n} images; the limit is {self._limits.images} (TESSERA_MAX_IMAGES)"
            )

    def _array(self, name: str, datatypes: tuple[str, ...], axes: int) -> NDArray[Any]:
        tensor = self._tensors[name]
        if not isinstance(tensor.values, np.ndarray) or not tensor.datatype.startswith(datatypes):
            raise MalformedRequest(f"{name} must be {' or '.join(datatypes)}")
        if tensor.values.ndim != axes:
            raise MalformedRequest(f"{name} must have {axes} axes, the first for the items")
        return tensor.values
