"""Whether a model with another decoder may keep the code space of an earlier bundle.

`bundle/FORMAT.md`, "A better decoder for the same codes", has the rule: the same codebooks, the
same codes, and no worse pictures from them.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from bundle import Bundle, BundleError
from bundle.manifest import codebook_file
from training.data.dataset import Pixels
from training.onnx_export.codec import BundleCodec, CheckpointCodec, Codes, pad_to_stride
from training.onnx_export.proof import Proof, mean_psnr
from training.tokenizer.model import Tokenizer

# Share of the codes that have to be the same; half-precision weights alone move about 0.1 %.
_LEAST_AGREEMENT = 0.995
# Two runtimes round a few pixels differently, dB.
_SAME_PSNR = 0.001


class CodeSpaceLost(BundleError):
    """The code space can't be kept; the text says which part of the rule fails."""


def kept_code_space(earlier: Bundle, model: Tokenizer, images: Sequence[Pixels]) -> dict[str, Any]:
    """Holds a model to the rule for keeping an earlier bundle's code space.

    Args:
        earlier: whose code space it is.
        model: with the weights that are exported.
        images: uint8 `[h, w, 3]` of any sizes.

    Returns:
        What was measured, for the manifest's `training.code_space`.

    Raises:
        CodeSpaceLost: codebooks or codes are others, or pictures are worse.
    """
    what = f"the code space of {earlier.path} can't be kept"
    books = [book.detach().numpy() for book in model.quantizer.codebooks()]
    if len(books) != earlier.manifest.stages:
        raise CodeSpaceLost(f"{what}: it has {earlier.manifest.stages} stages, not {len(books)}")
    for stage, book in enumerate(books):
        content = earlier.read(codebook_file(stage))
        if not np.array_equal(np.load(io.BytesIO(content), allow_pickle=False), book):
            raise CodeSpaceLost(f"{what}: the codebook of stage {stage + 1} is another")
    before, now = BundleCodec(earlier), CheckpointCodec(model)
    padded = [pad_to_stride(image, now.stride)[None] for image in images]
    codes = [before.encode(image) for image in padded]
    proof = Proof(model, torch.nn.Identity(), list(images))
    agreement = min(proof.agreement(codes).values())
    if not agreement >= _LEAST_AGREEMENT:
        raise CodeSpaceLost(f"{what}: only {agreement:.2%} of the codes are the same")

    def psnr(codec: BundleCodec | CheckpointCodec, stages: int) -> float:
        made = [codec.decode(_first(grid, stages)) for grid in codes]
        return round(mean_psnr(made, padded), 4)

    counts = range(1, len(books) + 1)
    old, new = [psnr(before, n) for n in counts], [psnr(now, n) for n in counts]
    for stages, wanted, reached in zip(counts, old, new, strict=True):
        if not reached >= wanted - _SAME_PSNR:
            raise CodeSpaceLost(
                f"{what}: from {stages} stage{'s' if stages > 1 else ''} of the same codes the new "
                f"decoder reaches {reached:.3f} dB, the earlier one {wanted:.3f}"
            )
    return {
        "bundle": f"{earlier.manifest.name}@{earlier.manifest.version}",
        "images": len(images),
        "code_agreement": round(agreement, 6),
        "psnr": new,
        "psnr_before": old,
    }


def _first(codes: Codes, stages: int) -> Codes:
    return codes if codes.ndim == 3 else np.ascontiguousarray(codes[:, :stages])
