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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
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
        nodes_to_exclude=[convolutions[0], convolutions[-1]],
        extra_options={"CalibPercentile": 99.999},
    )


def calibration_batches(images: list[NDArray[np.uint8]], side: int) -> list[NDArray[np.uint8]]:
    """The middle of each image as a batch of one: uint8 `[1, side, side, 3]`.

    All of one shape, because ONNX Runtime's calibration stacks activations. Images
    smaller than `side` are left out.
    """
    cut = []
    for image in images:
        top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
        if min(top, left) >= 0:
            cut.append(image[None, top : top + side, left : left + side])
    return cut
