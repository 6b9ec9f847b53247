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
from torch import Tensor, nn

from training.data.dataset import Pixels
from training.data.metrics import psnr
from training.onnx_export.codec import pad_to_stride
from training.onnx_export.graphs import run
from training.tokenizer.model import Tokenizer, to_float

# Codes agree too where both are as near to the latent, but for this share of its squared length
# and theirs: after a short run many codes are still almost one vector, and rounding chooses.
_TIE = 1e-5


class ParityError(ValueError):
    """A graph is further from the trained network than its budget allows."""


@dataclass(frozen=True)
class Budget:
    """What a precision may cost.

    Attributes:
        latent_error: root mean square of the latents' difference over that of the latents.
        code_agreement: smallest share of codes that are equal, or equally near to the latent.
        psnr_loss: dB of mean PSNR that encoding, or decoding, with the graph may lose.
        embedding_cosine: smallest cosine between the two embeddings of one code grid.
        score_error: largest difference of a recognizer's logits or map, over the largest
            value of the map.
    """

    latent_error: float
    code_agreement: float
    psnr_loss: float
    embedding_cosine: float = 0.9999
    score_error: float = 1e-4


BUDGETS = {
    "fp32": Budget(latent_error=1e-4, code_agreement=0.999, psnr_loss=0.01),
    "fp16": Budget(latent_error=2e-2, code_agreement=0.93, psnr_loss=0.03),
    "int8": Budget(latent_error=0.25, code_agreement=0.70, psnr_loss=0.1),
}


@dataclass(frozen=True)
class Parity:
    """What was measured for one graph in one precision; absent figures don't apply to it."""

    images: int
    latent_error: float | None = None
    code_agreement: float | None = None
    psnr: float | None = None
    psnr_torch: float | None = None
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


class Proof:
    """Compares graphs with the network they were made from.

    Args:
        model: the trained network, in float32.
        embedder: codes int64 `[n, rows, columns]` → float32 `[n, e]`.
        images: uint8 `[h, w, 3]` of any sizes; padded like the service does.
    """

    def __init__(self, model: Tokenizer, embedder: nn.Module, images: list[Pixels]) -> None:
        self._model, self._embedder = model, embedder
        self._codebook = model.quantizer.normalized_codebook().detach().numpy()
        stride = model.config.network.stride
        self._images = [pad_to_stride(image, stride)[None] for image in images]
        with torch.no_grad():
            self._latents = [
                model.encoder(to_float(torch.from_numpy(p))).numpy() for p in self._images
            ]
            self._codes = [
                model.quantizer(torch.from_numpy(latents)).codes.numpy()
                for latents in self._latents
            ]
            self._decoded = [self._decode(codes) for codes in self._codes]
        self._psnr = _mean_psnr(self._decoded, self._images)

    @property
    def psnr(self) -> float:
        """Mean PSNR of the network's own reconstructions, dB."""
        return self._psnr

    def encoder(self, session: onnxruntime.InferenceSession) -> Parity:
        """An encoder graph, followed by the network's own quantizer and decoder."""
        latents = [run(session, image) for image in self._images]
        codes = [self._model.quantizer(torch.from_numpy(made)).codes.numpy() for made in latents]
        error = np.concatenate(
            [(a - b).ravel() for a, b in zip(latents, self._latents, strict=True)]
        )
        size = np.concatenate([wanted.ravel() for wanted in self._latents])
        return Parity(
            images=len(self._images),
            latent_error=float(np.sqrt(np.mean(error**2) / np.mean(size**2))),
            code_agreement=self._agreement(codes),
            psnr=_mean_psnr([self._decode(c) for c in codes], self._images),
            psnr_torch=self._psnr,
        )

    def quantizer(self, session: onnxruntime.InferenceSession) -> Parity:
        """A quantizer graph on the network's own latents."""
        codes = [run(session, latents) for latents in self._latents]
        return Parity(images=len(self._images), code_agreement=self._agreement(codes))

    def decoder(self, session: onnxruntime.InferenceSession) -> Parity:
        """A decoder graph on the network's own codes."""
        made = [run(session, codes) for codes in self._codes]
        return Parity(
            images=len(self._images),
            psnr=_mean_psnr(made, self._images),
            psnr_torch=self._psnr,
        )

    def embedder(self, session: onnxruntime.InferenceSession) -> Parity:
        """An embedder graph on the network's own codes."""
        return prove_embedder(self._embedder, session, self._codes)

    def measure(self, graph: str, session: onnxruntime.InferenceSession) -> Parity:
        """A graph by its name in the bundle."""
        measures = {
            "encoder": self.encoder,
            "quantizer": self.quantizer,
            "decoder": self.decoder,
            "embedder": self.embedder,
        }
        return measures[graph](session)

    def _decode(self, codes: NDArray[np.int64]) -> Pixels:
        made: Pixels = self._model.decode(torch.from_numpy(codes)).numpy()
        return made

    def _agreement(self, codes: list[NDArray[np.int64]]) -> float:
        groups = zip(codes, self._codes, self._latents, strict=True)
        same = [self._as_near(a, b, latents).ravel() for a, b, latents in groups]
        return float(np.concatenate(same).mean())

    def _as_near(
        self, made: NDArray[np.int64], wanted: NDArray[np.int64], latents: NDArray[np.float32]
    ) -> NDArray[np.bool_]:
        """Where two codes are the same, or equally near to the latent but for rounding."""
        vectors = latents.transpose(0, 2, 3, 1)
        if self._model.config.quantizer.distance == "cosine":
            vectors = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True).clip(1e-12)
        further, nearest = (
            np.square(vectors - self._codebook[codes]).sum(axis=-1) for codes in (made, wanted)
        )
        scale = np.square(vectors).sum(axis=-1) + np.square(self._codebook[wanted]).sum(axis=-1)
        near = np.abs(further - nearest) <= _TIE * scale
        agree: NDArray[np.bool_] = (made == wanted) | near
        return agree


def odd_sizes(images: list[Pixels]) -> list[Pixels]:
    """The images cut to sizes that are no multiple of any stride, as real ones seldom are."""
    cut = []
    for index, image in enumerate(images):
        height, width = image.shape[:2]
        cut.append(image[: max(1, height - 1 - index % 7), : max(1, width - 3 - index % 5)])
    return cut


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
    if figures.psnr is not None and figures.psnr_torch is not None:
        loss = figures.psnr_torch - figures.psnr
        if not loss <= budget.psnr_loss:
            found.append(f"{loss:.3f} dB lost")
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


def _mean_psnr(made: list[Pixels], wanted: list[Pixels]) -> float:
    pairs = zip(made, wanted, strict=True)
    return float(np.mean([psnr(_unit(a), _unit(b)).item() for a, b in pairs]))


def _unit(pixels: Pixels) -> Tensor:
    return torch.tensor(pixels, dtype=torch.float64) / 255
