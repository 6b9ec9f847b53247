"""The parity proof of a tokenizer: each graph against the trained network, on photographs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.data.dataset import Pixels
from training.data.metrics import psnr
from training.onnx_export.codec import first_stage, pad_to_stride
from training.onnx_export.graphs import run
from training.onnx_export.parity import Parity, prove_embedder
from training.tokenizer.config import MAIN_DECODER
from training.tokenizer.model import Tokenizer, to_float

# Codes agree too where both are as near to the latent, but for this share of its squared length
# and theirs: after a short run many codes are still almost one vector, and rounding chooses.
_TIE = 1e-5


class Proof:
    """Compares graphs with the network they were made from.

    Args:
        model: the trained network, in float32.
        embedder: codes of the first stage int64 `[n, rows, columns]` → float32 `[n, e]`.
        images: uint8 `[h, w, 3]` of any sizes; padded like the service does.
    """

    def __init__(self, model: Tokenizer, embedder: nn.Module, images: list[Pixels]) -> None:
        self._model, self._embedder = model, embedder
        stride, maximum = model.config.network.stride, model.config.data.sample_maximum
        self._images = [pad_to_stride(image, stride)[None] for image in images]
        with torch.no_grad():
            self._latents = [
                model.encoder(to_float(torch.from_numpy(p), maximum)).numpy() for p in self._images
            ]
            self._codes = [
                model.quantizer(torch.from_numpy(latents)).codes.numpy()
                for latents in self._latents
            ]
        self._psnr: dict[str, dict[str, float]] = {}

    @property
    def psnr(self) -> float:
        """Mean PSNR of the network's own reconstructions, dB."""
        return self._wanted(MAIN_DECODER)["psnr_torch"]

    def encoder(self, session: onnxruntime.InferenceSession) -> Parity:
        """An encoder graph, followed by the network's own quantizer and decoder."""
        latents = [run(session, image) for image in self._images]
        codes = [self._model.quantizer(torch.from_numpy(made)).codes.numpy() for made in latents]
        error = np.concatenate(
            [(a - b).ravel() for a, b in zip(latents, self._latents, strict=True)]
        )
        size = np.concatenate([wanted.ravel() for wanted in self._latents])
        made = [self._decode(c, MAIN_DECODER) for c in codes]
        return Parity(
            images=len(self._images),
            latent_error=float(np.sqrt(np.mean(error**2) / np.mean(size**2))),
            **self.agreement(codes),
            psnr=mean_psnr(made, self._images, self._maximum),
            psnr_torch=self.psnr,
        )

    def quantizer(self, session: onnxruntime.InferenceSession) -> Parity:
        """A quantizer graph on the network's own latents."""
        codes = [run(session, latents) for latents in self._latents]
        return Parity(images=len(self._images), **self.agreement(codes))

    def decoder(self, session: onnxruntime.InferenceSession, decoder: str = MAIN_DECODER) -> Parity:
        """A decoder graph on the network's own codes: of all stages, and of the first alone."""
        made = [run(session, codes) for codes in self._codes]
        figures = {"psnr": mean_psnr(made, self._images, self._maximum)}
        if self._stages > 1:
            first = [run(session, codes[:, :1]) for codes in self._codes]
            figures["psnr_first_stage"] = mean_psnr(first, self._images, self._maximum)
        return Parity(images=len(self._images), **figures, **self._wanted(decoder))

    def embedder(self, session: onnxruntime.InferenceSession) -> Parity:
        """An embedder graph on the network's own codes."""
        codes = [np.ascontiguousarray(first_stage(codes)) for codes in self._codes]
        return prove_embedder(self._embedder, session, codes)

    def measure(self, graph: str, session: onnxruntime.InferenceSession) -> Parity:
        """A graph by its name in the bundle."""
        measures = {
            "encoder": self.encoder,
            "quantizer": self.quantizer,
            "decoder": self.decoder,
            "embedder": self.embedder,
        }
        if graph in measures:
            return measures[graph](session)
        return self.decoder(session, graph.removeprefix("decoder-"))

    @property
    def _maximum(self) -> int:
        return self._model.config.data.sample_maximum

    @property
    def _stages(self) -> int:
        return len(self._model.quantizer.sizes)

    def _decode(self, codes: NDArray[np.int64], decoder: str) -> Pixels:
        made: Pixels = self._model.decode(torch.from_numpy(codes), decoder).numpy()
        return made

    def _wanted(self, decoder: str) -> dict[str, float]:
        """What the network's own decoder reaches, measured once."""
        if decoder not in self._psnr:
            made = [self._decode(codes, decoder) for codes in self._codes]
            self._psnr[decoder] = {"psnr_torch": mean_psnr(made, self._images, self._maximum)}
            if self._stages > 1:
                first = [self._decode(codes[:, :1], decoder) for codes in self._codes]
                value = mean_psnr(first, self._images, self._maximum)
                self._psnr[decoder]["psnr_first_stage_torch"] = value
        return self._psnr[decoder]

    def agreement(self, codes: list[NDArray[np.int64]]) -> dict[str, float]:
        """Shares of equal codes, of the first stage and of the further ones."""
        first: list[NDArray[np.bool_]] = []
        further: list[NDArray[np.bool_]] = []
        for made, wanted, latents in zip(codes, self._codes, self._latents, strict=True):
            for stage, agree in enumerate(self._agree(made, wanted, latents)):
                (further if stage else first).append(agree)
        shares = {"code_agreement": float(np.concatenate(first).mean())}
        if further:
            shares["residual_agreement"] = float(np.concatenate(further).mean())
        return shares

    def _agree(
        self, made: NDArray[np.int64], wanted: NDArray[np.int64], latents: NDArray[np.float32]
    ) -> Iterator[NDArray[np.bool_]]:
        """Stage by stage, where two codes are the same or equally near but for rounding.

        Of a further stage only where the codes of the stages before are equal: it codes what
        they left over.
        """
        quantizer = self._model.quantizer
        with torch.no_grad():
            points = quantizer.project(torch.from_numpy(latents))
            equal = np.ones(points[:, 0].shape, np.bool_)
            for stage in range(self._stages):
                # The same but for this stage, where the stages before are equal.
                one, other = (
                    torch.from_numpy(c if c.ndim == 3 else c[:, : stage + 1])
                    for c in (made, wanted)
                )
                vectors = [quantizer.vectors_of(codes) for codes in (one, other)]
                further, nearest = ((points - v).square().sum(dim=1) for v in vectors)
                scale = points.square().sum(dim=1) + vectors[1].square().sum(dim=1)
                near = ((further - nearest).abs() <= _TIE * scale).numpy()
                same = one == other if one.ndim == 3 else one[:, stage] == other[:, stage]
                yield (same.numpy() | near)[equal]
                equal &= same.numpy()


def odd_sizes(images: list[Pixels]) -> list[Pixels]:
    """The images cut to sizes that are no multiple of any stride, as real ones seldom are."""
    cut = []
    for index, image in enumerate(images):
        height, width = image.shape[:2]
        cut.append(image[: max(1, height - 1 - index % 7), : max(1, width - 3 - index % 5)])
    return cut


def mean_psnr(made: Sequence[Pixels], wanted: Sequence[Pixels], maximum: int = 255) -> float:
    """Mean PSNR in dB of pictures `[n, h, w, channels]`, batch by batch; `maximum` is white."""

    def unit(pixels: Pixels) -> Tensor:
        return torch.tensor(pixels.astype(np.float64)) / maximum

    pairs = zip(made, wanted, strict=True)
    return float(np.mean([psnr(unit(a), unit(b)).mean().item() for a, b in pairs]))
