"""What one run computes: the way from its payload through a bundle's graphs to its result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Operation:
    """Part of the way pixels → encoder → latents → quantizer → codes → another graph.

    Attributes:
        takes: what a payload is: pixels uint8 `[h, w, 3]`, latents float32 `[d, rows, columns]`
            or codes `[rows, columns]`; of a model of several stages also `[stages, rows, columns]`.
        gives: what a result is: latents, codes of all the model's stages or pixels as above, a
            vector float32 `[e]`, or scores: logits and maps as `Graphs.recognize` gives them.
        graph: name of the last graph that runs.
        stages: how many stages of codes come between pixels and pixels; None for all of them.
    """

    takes: Literal["pixels", "latents", "codes"]
    gives: Literal["latents", "codes", "pixels", "vector", "scores"]
    graph: str
    stages: int | None = None


ENCODE = Operation("pixels", "codes", "quantizer")
DECODE = Operation("codes", "pixels", "decoder")
RECONSTRUCT = Operation("pixels", "pixels", "decoder")
EMBED = Operation("codes", "vector", "embedder")
EMBED_IMAGES = Operation("pixels", "vector", "embedder")
LATENTS = Operation("pixels", "latents", "encoder")
QUANTIZE = Operation("latents", "codes", "quantizer")
# A further decoder has a graph of its own: Operation("codes", "pixels", graph).
# What a recognizer gives depends on its graph: Operation("codes", "scores", graph), or from pixels.
