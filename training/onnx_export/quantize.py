"""8-bit graphs: static quantization of the convolutions, calibrated on real images.

Weights per channel in signed, activations in unsigned 8 bit, written as
QuantizeLinear/DequantizeLinear pairs (QDQ) that ONNX Runtime fuses into 8-bit
kernels where the processor has them (VNNI) and computes anyway where not.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from training.data.dataset import Pixels
from training.onnx_export.codec import pad_to_stride

# Enough for stable ranges; more makes export slower and changes nothing: so many images of this
# side, the same number of pixels in smaller ones, but no more images than _MOST.
_IMAGES = 32
_SIDE = 160
_MOST = 256
# Of so many images at least, where there are so many, the side should be had.
_ENOUGH = 16


class _Batches(CalibrationDataReader):  # type: ignore[misc]
    """Feeds calibration inputs, one after the other."""

    def __init__(self, name: str, batches: list[NDArray[Any]]) -> None:
        self._inputs: Iterator[dict[str, NDArray[Any]]] = iter([{name: b} for b in batches])

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        return next(self._inputs, None)


def to_int8(graph: bytes, batches: list[NDArray[Any]]) -> bytes:
    """An fp32 graph with its convolutions in 8 bits.

    The first and the last convolution stay in float32: they are cheap, and the
    pixels and latents they touch suffer most from rounding.

    Args:
        graph: an ONNX file with one input.
        batches: inputs to calibrate the activations' ranges on.
    """
    logging.getLogger("root").setLevel(logging.ERROR)  # ORT's quantizer logs to the root logger
    with tempfile.TemporaryDirectory() as folder:
        source, prepared, target = (Path(folder) / f"{n}.onnx" for n in ("in", "prepared", "out"))
        source.write_bytes(graph)
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
            _quantize(prepared, target, batches)
        quantized = onnx.load(target)
    # The passes that ran leave a note of themselves and of where they ran; the graph is enough.
    del quantized.metadata_props[:]
    for part in [quantized.graph, *quantized.graph.node, *quantized.graph.value_info]:
        del part.metadata_props[:]
    return quantized.SerializeToString()  # type: ignore[no-any-return]


def _quantize(prepared: Path, target: Path, batches: list[NDArray[Any]]) -> None:
    model = onnx.load(prepared)
    convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"]
    quantize_static(
        prepared,
        target,
        _Batches(model.graph.input[0].name, batches),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.Percentile,
        op_types_to_quantize=["Conv", "Add"],
        nodes_to_exclude=[*convolutions[:1], *convolutions[-1:]],
        extra_options={"CalibPercentile": 99.999},
    )


def calibration_batches(images: Sequence[Pixels], stride: int) -> list[Pixels]:
    """The middle of images as batches of one: uint8 `[1, side, side, 3]`.

    All of one shape, because ONNX Runtime's calibration stacks activations: 160 pixels or, where
    images are smaller, the largest multiple of the stride that enough of them have. Smaller sides
    take more images, so that about as many pixels are seen.

    Args:
        images: uint8 `[h, w, 3]` of any sizes, one at least.
        stride: of the model.
    """
    padded = [pad_to_stride(image, stride) for image in images]
    sides = sorted((min(image.shape[:2]) for image in padded), reverse=True)
    # Of the image that is the last of enough, so that one large image among many small ones
    # isn't all that is calibrated on.
    side = min(_SIDE, sides[min(len(sides), _ENOUGH) - 1]) // stride * stride
    side = max(side, stride)
    cut = []
    for image in padded:
        top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
        if min(top, left) >= 0:
            cut.append(image[None, top : top + side, left : left + side])
    return cut[: min(_MOST, _IMAGES * _SIDE**2 // side**2)]
