"""Images and grids of any sizes through a codec, those of one size together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from training.data.dataset import Pixels
from training.onnx_export.codec import Codec, Codes, first_stage, pad_to_stride

# Pixels that are encoded together: a few photographs, far from any memory limit.
_BATCH_PIXELS = 1 << 20


def encode_first_stage(codec: Codec, images: Sequence[Pixels]) -> list[Codes]:
    """The first stage alone, which is all that embedders and recognizers see: `[rows, columns]`."""
    return [first_stage(codes[None])[0] for codes in encode_images(codec, images)]


def encode_images(codec: Codec, images: Sequence[Pixels]) -> list[Codes]:
    """Codes of images of any sizes, those of equal size batched; in the order given."""
    padded = [pad_to_stride(image, codec.stride) for image in images]
    results: dict[int, Codes] = {}
    for indices in _batches([image.shape[:2] for image in padded]):
        codes = codec.encode(np.stack([padded[i] for i in indices]))
        results.update(zip(indices, codes, strict=True))
    return [results[i] for i in range(len(images))]


def decode_grids(codec: Codec, grids: Sequence[Codes]) -> list[Pixels]:
    """Pictures uint8 `[rows·s, columns·s, 3]` of grids of any sizes; in the order given."""
    results: dict[int, Pixels] = {}
    side = codec.stride
    for indices in _batches([g.shape for g in grids], side * side):
        pictures = codec.decode(np.stack([grids[i] for i in indices]))
        results.update(zip(indices, pictures, strict=True))
    return [results[i] for i in range(len(grids))]


def embed_codes(codec: Codec, codes: Sequence[Codes]) -> NDArray[np.float32] | None:
    """Embeddings float32 `[len(codes), e]` of grids of any sizes; None: no embedder."""
    results: dict[int, NDArray[np.float32]] = {}
    for indices in _batches([grid.shape for grid in codes], 64):
        vectors = codec.embed(np.stack([codes[i] for i in indices]))
        if vectors is None:
            return None
        results.update(zip(indices, vectors, strict=True))
    return np.stack([results[i] for i in range(len(codes))])


def _batches(shapes: Sequence[tuple[int, ...]], pixels: int = 1) -> Iterator[list[int]]:
    """Indices of equal shape `[…, h, w]`, as many together as `_BATCH_PIXELS` allows, or one.

    Args:
        shapes: of images or grids.
        pixels: that one element of the last two axes stands for.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, shape in enumerate(shapes):
        groups.setdefault(shape, []).append(index)
    for shape, indices in groups.items():
        size = max(1, _BATCH_PIXELS // (shape[-2] * shape[-1] * pixels))
        for first in range(0, len(indices), size):
            yield indices[first : first + size]
