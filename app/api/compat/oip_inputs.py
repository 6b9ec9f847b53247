"""A request's inputs, held to what its model takes and to the limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from app.api.compat.oip_tensors import BYTES
from app.codecs.grids import (
    CodeGrid,
    check_count,
    check_range,
    check_size,
    check_stages,
    first_stages,
)
from app.errors import (
    CodesInvalid,
    ImageCorrupt,
    ImageTooLarge,
    InvalidParameter,
    MalformedRequest,
    TooManyImages,
)
from app.service.preprocessing import ImageInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from app.api.compat.oip_models import Target
    from app.api.compat.oip_tensors import Inference
    from app.service.preprocessing import Limits


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
        there = target.accepted
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
        self._parameters = asked.parameters
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
        port = self._target.pixels
        pixels = self._array("pixels", (port.datatype,), 4)
        n, height, width, channels = pixels.shape
        if channels != port.shape[-1] or height < 1 or width < 1:
            raise ImageCorrupt(f"pixels must have the shape [n, h, w, {port.shape[-1]}]")
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
        values = self._tensors["codes"].values
        several = manifest.stages > 1
        staged = several and isinstance(values, np.ndarray) and values.ndim == 4
        codes = self._array("codes", ("INT", "UINT"), 4 if staged else 3)
        if codes.size == 0:
            raise CodesInvalid("codes are empty")
        codes = codes if staged else codes[:, None]
        n, stages, rows, columns = codes.shape
        check_count(n, self._limits.images)
        check_stages(stages, manifest.codebook_sizes)
        check_range(codes, manifest.codebook_sizes)
        sizes: Sequence[tuple[int | None, int | None]] = [(None, None)] * n
        if "size" in self._tensors:
            given = self._array("size", ("INT", "UINT"), 2)
            if given.shape != (n, 2):
                raise CodesInvalid("size must have the shape [n, 2]: width, height of each")
            sizes = [(width, height) for width, height in given.tolist()]
        return [
            CodeGrid(
                first_stages(grid, stages),
                *check_size((rows, columns), width, height, manifest.stride, self._limits.pixels),
            )
            for grid, (width, height) in zip(codes.astype(np.int64), sizes, strict=True)
        ]

    @property
    def stages(self) -> int | None:
        """How many stages of codes are wanted; None where nothing is said.

        Raises:
            InvalidParameter: not a whole number.
        """
        stages = self._parameters.get("stages")
        if stages is not None and type(stages) is not int:
            raise InvalidParameter("stages must be a whole number")
        return stages

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
