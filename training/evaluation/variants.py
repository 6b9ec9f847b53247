"""The ways to read a model's codes back: each decoder with each number of stages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from training.data.dataset import Pixels
from training.onnx_export.codec import Codec, Codes

DEFAULT_DECODER = "default"


@dataclass(frozen=True)
class Variant:
    """One way to read codes back.

    Attributes:
        name: for people to read.
        decoder: its name; `default` is the one for the least squared error.
        stages: how many stages of the codes it uses.
        decode: all codes of an image, its height and its width → uint8 `[h, w, 3]`.
        size: all codes of an image → bytes that the stages used take as stored.
    """

    name: str
    decoder: str
    stages: int
    decode: Callable[[Codes, int, int], Pixels]
    size: Callable[[Codes], int]

    def reconstruct(self, codec: Codec, image: Pixels) -> tuple[Pixels, int]:
        """One image there and back: uint8 `[h, w, 3]` → the same, and its bytes as stored."""
        codes = codec.encode_image(image)
        height, width = image.shape[:2]
        return self.decode(codes, height, width), self.size(codes)

    def reconstruct_all(self, codec: Codec, images: Pixels) -> Pixels:
        """A batch there and back: uint8 `[n, h, w, 3]` → the same."""
        return np.stack([self.reconstruct(codec, image)[0] for image in images])


def variants_of(codec: Codec) -> list[Variant]:
    """Every decoder with every number of stages; the first is the default decoder with all."""
    return [
        _variant(codec, decoder, stages)
        for decoder in (None, *codec.decoders)
        for stages in range(codec.stages, 0, -1)
    ]


def _variant(codec: Codec, decoder: str | None, stages: int) -> Variant:
    def decode(codes: Codes, height: int, width: int) -> Pixels:
        return codec.decode_image(prefix(codes, stages), height, width, decoder)

    def size(codes: Codes) -> int:
        return packed_bytes(codec, codes.shape[-2] * codes.shape[-1], stages)

    parts = [codec.name, *([decoder] if decoder else [])]
    if stages < codec.stages:
        parts.append("1 stage" if stages == 1 else f"{stages} stages")
    return Variant(", ".join(parts), decoder or DEFAULT_DECODER, stages, decode, size)


def prefix(codes: Codes, stages: int) -> Codes:
    """The first stages of an image's codes `[(stages,) rows, columns]`."""
    return codes if codes.ndim == 2 else np.ascontiguousarray(codes[:stages])


def packed_bytes(codec: Codec, patches: int, stages: int = 1) -> int:
    """Bytes of that many patches' codes, packed without gaps and without any header."""
    return -(-patches * (codec.bits + sum(codec.stage_bits[1:stages])) // 8)
