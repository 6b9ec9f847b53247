"""Graphs before they serve: every one is run, and held to what the manifest says."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from app.runtime.engine import first_stage
from app.runtime.sessions import GraphRefused, one_line, require
from bundle.manifest import MAIN_DECODER

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from app.runtime.engine import Graphs

_SIDES = (64, 256)


def warm_up(graphs: Graphs) -> None:
    """Run every graph, and hold what comes out to the manifest.

    Raises:
        GraphRefused: a graph fails, or gives another shape, dtype or range than it should.
    """
    stride = graphs.manifest.stride
    for side in _SIDES:
        side = math.ceil(side / stride) * stride
        # A ramp, not noise: the same every time, with every level in it.
        channels, maximum = graphs.manifest.channels, graphs.manifest.sample_maximum
        ramp = np.arange(side * side * channels, dtype=np.uint32) >> 4
        ramp = ramp.reshape(1, side, side, channels) % (maximum + 1)
        try:
            _check(graphs, ramp.astype(graphs.manifest.sample_dtype))
        except GraphRefused:
            raise
        except Exception as error:
            raise GraphRefused(f"its graphs don't run: {one_line(error)}") from error


def _check(graphs: Graphs, pixels: NDArray[np.uint8]) -> None:
    manifest = graphs.manifest
    stages = (manifest.stages,) if manifest.stages > 1 else ()
    grid = (1, *stages, *(side // manifest.stride for side in pixels.shape[1:3]))
    codes = graphs.encode(pixels)
    require(codes.shape == grid, f"codes of {pixels.shape} are {codes.shape}, not {grid}")
    by_stage = np.moveaxis(codes, 1, 0) if stages else (codes,)
    for stage, size in zip(by_stage, manifest.codebook_sizes, strict=True):
        require(
            int(stage.min()) >= 0 and int(stage.max()) < size,
            f"codes are not within 0…{size - 1}",
        )
    for name in (MAIN_DECODER, *(entry.graph for entry in manifest.decoders.values())):
        for part in (codes, first_stage(codes)) if stages else (codes,):
            decoded = graphs.decode(part, name)
            require(
                decoded.shape == pixels.shape and decoded.dtype == pixels.dtype,
                f"images of {name} are {decoded.dtype} {decoded.shape}, "
                f"not {pixels.dtype} {pixels.shape}",
            )
    vector = graphs.embed(codes)
    require(
        vector.shape == (1, manifest.embedding_size)
        and abs(float(np.linalg.norm(vector)) - 1) < 1e-2,
        f"embeddings are not unit vectors of {manifest.embedding_size} numbers",
    )
    for name, recognizer in manifest.recognizers.items():
        ((logits, maps),) = graphs.recognize(recognizer.graph, codes)
        classes = len(recognizer.classes)
        require(
            logits.shape == (classes,),
            f"recognizer {name!r} doesn't give one score for each of its classes",
        )
        require(
            maps is None or maps.shape == (classes, *codes.shape[-2:]),
            f"recognizer {name!r} doesn't give one map of the code grid for each class",
        )
