"""The parity proof: how far each graph, in each precision, is from the trained network.

Measured on real photographs of odd sizes before a bundle is written. Where fp32 is outside its
budget nothing is written; a lower precision is then left out. Precisions are held to
*quality* and to a share of equal codes, never to bitwise equality: near ties
between codes fall differently wherever rounding differs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from training.onnx_export.graphs import run


class ParityError(ValueError):
    """A graph is further from the trained network than its budget allows."""


@dataclass(frozen=True)
class Budget:
    """What a precision may cost.

    Attributes:
        latent_error: root mean square of the latents' difference over that of the latents.
        code_agreement: smallest share of codes that are equal, or equally near to the latent.
        psnr_loss: dB of mean PSNR that encoding, or decoding, with the graph may lose; from all
            stages and from the first alone.
        residual_agreement: as `code_agreement`, of the further stages, where the stages before
            agree.
        embedding_cosine: smallest cosine between the two embeddings of one code grid.
        score_error: largest difference of a recognizer's logits or map, over the largest
            value of the map.
    """

    latent_error: float
    code_agreement: float
    psnr_loss: float
    embedding_cosine: float = 0.9999
    score_error: float = 1e-4
    residual_agreement: float = 0.0


BUDGETS = {
    "fp32": Budget(
        latent_error=1e-4, code_agreement=0.999, psnr_loss=0.01, residual_agreement=0.999
    ),
    "fp16": Budget(latent_error=2e-2, code_agreement=0.93, psnr_loss=0.03),
    "int8": Budget(latent_error=0.25, code_agreement=0.70, psnr_loss=0.1),
}


@dataclass(frozen=True)
class Parity:
    """What was measured for one graph in one precision; absent figures don't apply to it.

    `code_agreement` is of the first stage, `residual_agreement` of the further ones, and
    `psnr_first_stage` of decoding the first stage alone.
    """

    images: int
    latent_error: float | None = None
    code_agreement: float | None = None
    residual_agreement: float | None = None
    psnr: float | None = None
    psnr_torch: float | None = None
    psnr_first_stage: float | None = None
    psnr_first_stage_torch: float | None = None
    embedding_cosine: float | None = None
    score_error: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The figures that apply, rounded to what they mean."""
        values = dataclasses.asdict(self)
        # Six digits after the point, but of an error that is far smaller, two that count.
        return {
            k: float(f"{v:.2g}") if k == "score_error" else round(v, 6)
            for k, v in values.items()
            if v is not None
        }


def check(
    measured: Mapping[str, Mapping[str, Parity]], budgets: Mapping[str, Budget] = BUDGETS
) -> None:
    """Holds every graph and precision to its budget.

    Args:
        measured: graph → precision → figures.
        budgets: precision → budget.

    Raises:
        ParityError: naming every figure that is out of its budget.
    """
    found = [
        f"{graph} {precision}: {fault}"
        for graph, precisions in measured.items()
        for precision, figures in precisions.items()
        for fault in faults(figures, budgets[precision])
    ]
    if found:
        raise ParityError("the parity proof failed, nothing was written: " + "; ".join(found))


def faults(figures: Parity, budget: Budget) -> list[str]:
    """The figures that are out of their budget, each in words; empty where all are in it."""
    found = []
    # Written so that a NaN is a fault too.
    if figures.latent_error is not None and not figures.latent_error <= budget.latent_error:
        found.append(f"latent error {figures.latent_error:.3g}")
    if figures.code_agreement is not None and not figures.code_agreement >= budget.code_agreement:
        found.append(f"only {figures.code_agreement:.2%} of the codes agree")
    if figures.residual_agreement is not None and not (
        figures.residual_agreement >= budget.residual_agreement
    ):
        found.append(f"only {figures.residual_agreement:.2%} of the further stages' codes agree")
    for made, wanted, where in (
        (figures.psnr, figures.psnr_torch, ""),
        (figures.psnr_first_stage, figures.psnr_first_stage_torch, " from the first stage alone"),
    ):
        if made is not None and wanted is not None and not wanted - made <= budget.psnr_loss:
            found.append(f"{wanted - made:.3f} dB lost{where}")
    if figures.embedding_cosine is not None and not (
        figures.embedding_cosine >= budget.embedding_cosine
    ):
        found.append(f"embedding cosine {figures.embedding_cosine:.5f}")
    if figures.score_error is not None and not figures.score_error <= budget.score_error:
        found.append(f"score error {figures.score_error:.3g}")
    return found


def prove_recognizer(
    network: nn.Module, session: onnxruntime.InferenceSession, grids: Sequence[NDArray[np.int64]]
) -> Parity:
    """A recognizer's graph against its network: grids one by one, then several in one batch.

    Args:
        network: codes int64 `[n, rows, columns]` → logits `[n, classes]` and map
            `[n, classes, rows, columns]`.
        session: of the graph.
        grids: codes int64 `[rows, columns]` of images; each is also cut to odd sizes.
    """
    batches = [grid[None] for grid in grids]
    batches += [grid[None, : 1 + i % grid.shape[0], i % 3 :] for i, grid in enumerate(grids)]
    smallest = tuple(min(grid.shape[axis] for grid in grids) for axis in (0, 1))
    batches.append(np.stack([grid[: smallest[0], : smallest[1]] for grid in grids]))
    errors, largest = [], 1e-12
    for codes in (batch for batch in batches if batch.size):
        with torch.no_grad():
            wanted = [value.numpy() for value in network(torch.from_numpy(codes.copy()))]
        made = session.run(["logits", "map"], {"codes": codes})
        errors += [np.abs(a - b).max() for a, b in zip(made, wanted, strict=True)]
        largest = max(largest, float(np.abs(wanted[1]).max()))
    # NumPy's max, since a NaN is to stay one.
    return Parity(images=len(grids), score_error=float(np.max(errors)) / largest)


def prove_embedder(
    embedder: nn.Module, session: onnxruntime.InferenceSession, batches: Sequence[NDArray[np.int64]]
) -> Parity:
    """An embedder's graph against its network.

    Args:
        embedder: codes int64 `[n, rows, columns]` → float32 `[n, e]`.
        session: of the graph.
        batches: codes int64 `[n, rows, columns]` of images, of any sizes.
    """
    cosines = []
    for codes in batches:
        with torch.no_grad():
            wanted = embedder(torch.from_numpy(codes)).numpy()
        cosines.append((run(session, codes) * wanted).sum(axis=1).min())
    # NumPy's min, since a NaN is to stay one.
    return Parity(images=len(batches), embedding_cosine=float(np.min(cosines)))
