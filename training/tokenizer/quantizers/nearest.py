"""Vector quantization: each latent is replaced by the nearest entry of a codebook.

van den Oord et al. 2017, "Neural Discrete Representation Learning"
(arXiv:1711.00937), with the additions of later work that keep a codebook of
thousands of entries in use: low-dimensional, normalised code vectors (Yu et
al. 2021, arXiv:2110.04627), moving-average learning (the paper's appendix A.1)
and restarting of dead codes (Dhariwal et al. 2020, arXiv:2005.00341).

Everything here is float32, whatever precision the networks around it use: near
ties between codes are common and half precision would decide them at random.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.tokenizer.config import NearestConfig
from training.tokenizer.quantizers.assignment import NearestAssignment
from training.tokenizer.quantizers.protocol import (
    Quantized,
    Quantizer,
    of_all_processes,
    straight_through,
    sum_over_processes,
)

# Distances that are computed at once, 4 bytes each.
_MOST_DISTANCES = 1 << 26


def nearest_codes(latents: Tensor, codebook: Tensor, distance: str) -> Tensor:
    """The code of each latent.

    `cosine` maximises z·e over unit-length e, so z need not be normalised;
    `euclidean` minimises |e|² − 2 z·e, which is |z − e|² less a constant.
    Written without `cdist`, which exports and scales badly.

    Args:
        latents: float32 `[t, d]`.
        codebook: float32 `[K, d]`, of unit length if `distance` is `cosine`.
        distance: `cosine` or `euclidean`.

    Returns:
        int64 `[t]` in [0, K); the lowest of equally near codes.
    """
    # Tens of thousands of codes for all latents of a batch would take gigabytes at once.
    rows = max(1, _MOST_DISTANCES // len(codebook))
    if len(latents) > rows:
        parts = [nearest_codes(part, codebook, distance) for part in torch.split(latents, rows)]
        return torch.cat(parts)
    similarity = latents @ codebook.T
    if distance == "cosine":
        return similarity.argmax(dim=1)
    return (codebook.square().sum(dim=1) - 2 * similarity).argmin(dim=1)


class NearestQuantizer(Quantizer):
    """Nearest-code quantization with a straight-through gradient.

    In training mode a forward pass also moves the codebook (`ema`) or yields
    the loss that does (`gradient`), and restarts dead codes. In evaluation mode
    nothing ever changes.

    Buffers:
        codebook: float32 `[K, d]` (a parameter if `kind` is `gradient`).
        counts: float32 `[K]`, moving average of the latents assigned to each code in a step.
        sums: float32 `[K, d]`, moving average of their sums; `codebook` is sums / counts.
        initialized: bool scalar.
        settled: bool scalar; the codebook comes from a trained model, so that its averages are
            slow from the first step on.
    """

    codebook: Tensor
    counts: Tensor
    sums: Tensor
    initialized: Tensor
    settled: Tensor

    def __init__(self, config: NearestConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.seed = seed
        codebook = torch.randn(config.size, config.width)
        if config.distance == "cosine":
            codebook = F.normalize(codebook)
        if config.kind == "gradient":
            self.codebook = nn.Parameter(codebook)
        else:
            self.register_buffer("codebook", codebook)
        self.register_buffer("counts", torch.ones(config.size))
        self.register_buffer("sums", codebook.detach().clone())
        self.register_buffer("initialized", torch.tensor(config.initialization == "random"))
        self.register_buffer("settled", torch.tensor(False))
        self.register_load_state_dict_pre_hook(_unsettled_if_unknown)  # type: ignore[no-untyped-call]
        self.sizes = (config.size,)

    @torch.no_grad()
    def start_from(self, books: Sequence[Tensor]) -> list[str]:
        """Takes the codebook of a trained model, each code as if used equally often.

        Args:
            books: of which the first counts, float32 `[K, d]`.

        Returns:
            No line: all of it is taken.

        Raises:
            ValueError: it has another shape than this quantizer's.
        """
        codebook = books[0]
        if codebook.shape != self.codebook.shape:
            raise ValueError(
                f"a codebook of {list(codebook.shape)} numbers can't start one of "
                f"{list(self.codebook.shape)}"
            )
        self.codebook.copy_(codebook)
        self.counts.fill_(1.0)
        self.sums.copy_(codebook)
        self.initialized.fill_(True)
        self.settled.fill_(True)
        return []

    def codebooks(self) -> tuple[Tensor, ...]:
        """The code vectors as the decoder sees them, float32 `[K, d]`."""
        # An EMA codebook is kept at unit length; one learnt by gradient drifts off it.
        if self.config.distance == "cosine" and self.config.kind == "gradient":
            return (F.normalize(self.codebook),)
        return (self.codebook,)

    def project(self, latents: Tensor) -> Tensor:
        """Directions where `distance` is `cosine`, otherwise latents as they are."""
        latents = latents.float()
        return F.normalize(latents, dim=1) if self.config.distance == "cosine" else latents

    def assignment(self) -> nn.Module:
        """The nearest code; see `Quantizer`."""
        return NearestAssignment(self.codebooks(), self.config.distance)

    def forward(self, latents: Tensor, step: int = 0) -> Quantized:
        """Quantizes a batch.

        Args:
            latents: `[n, d, h, w]`, any float dtype.
            step: of the training run; with the seed it decides what is random here,
                so that a resumed run repeats an unbroken one.
        """
        with torch.autocast(latents.device.type, enabled=False):
            return self._quantize(latents, step)

    def _quantize(self, latents: Tensor, step: int) -> Quantized:
        n, d, h, w = latents.shape
        if d != self.config.width:
            raise ValueError(f"latents have {d} channels, the codebook {self.config.width}")
        flat = latents.float().permute(0, 2, 3, 1).reshape(-1, d)
        if self.config.distance == "cosine":
            flat = F.normalize(flat)

        learning = self.training and torch.is_grad_enabled() and not self.frozen
        # A codebook that is frozen before it has seen a latent would be a random one.
        if self.training and (learning or self.frozen) and not self.initialized:
            self._initialize(flat.detach(), step)
        codebook = self.normalized_codebook()
        codes = nearest_codes(flat.detach(), codebook.detach(), self.config.distance)
        chosen = F.embedding(codes, codebook)
        terms = {"commitment": F.mse_loss(flat, chosen.detach())}
        if self.config.kind == "gradient":
            terms["codebook"] = F.mse_loss(chosen, flat.detach())
        if learning:
            self._learn(flat.detach(), codes, step)
        vectors = straight_through(flat, chosen).reshape(n, h, w, d).permute(0, 3, 1, 2)
        return Quantized(vectors, codes.reshape(n, h, w), terms)

    @torch.no_grad()
    def _learn(self, flat: Tensor, codes: Tensor, step: int) -> None:
        """Moves the averages (eq. 6–8 of the paper's appendix), then the codebook."""
        # Early on the latents move fast, and an average that lags behind them loses most codes.
        decay = self.config.decay
        if not self.settled:
            decay = min(decay, (1 + step) / (10 + step))
        counts = torch.bincount(codes, minlength=self.config.size).to(flat.dtype)
        sums = torch.zeros_like(self.sums).index_add_(0, codes, flat)
        sum_over_processes(counts)
        sum_over_processes(sums)
        self.counts.mul_(decay).add_(counts, alpha=1 - decay)
        if self.config.kind == "ema":
            self.sums.mul_(decay).add_(sums, alpha=1 - decay)
            moved = self.sums / self.counts.clamp_min(1e-6)[:, None]
            if self.config.distance == "cosine":
                moved = F.normalize(moved)
            # A code without latents keeps its place: its sum and its count decay alike,
            # but their quotient means nothing once they are lost in rounding.
            self.codebook.copy_(torch.where(self.counts[:, None] > 1e-6, moved, self.codebook))
        if self.config.restart_below > 0:
            self._restart_dead(flat, step)

    def _restart_dead(self, flat: Tensor, step: int) -> None:
        """Moves codes that hardly any latent chooses onto latents of this batch."""
        uniform = self.counts.sum() / self.config.size
        dead = (self.counts < self.config.restart_below * uniform).nonzero().squeeze(1)
        if len(dead) == 0:
            return
        flat = of_all_processes(flat)
        # At most as many as there are latents; the others follow in later steps.
        dead = dead[: len(flat)]
        picks = self._permutation(len(flat), step)[: len(dead)].to(flat.device)
        places = flat[picks]
        self.codebook.data[dead] = places
        # Half the uniform share: long enough to prove itself, too little to stay unused for ever.
        self.counts[dead] = 0.5 * uniform
        self.sums[dead] = places * self.counts[dead, None]

    @torch.no_grad()
    def _initialize(self, flat: Tensor, step: int) -> None:
        """k-means (ten rounds of Lloyd's algorithm) on the first batch's latents."""
        size = self.config.size
        flat = of_all_processes(flat)
        order = self._permutation(len(flat), step).to(flat.device)
        # Fewer latents than codes: repeat them; restarts will spread the copies.
        places = flat[order.repeat(-(-size // len(flat)))[:size]].clone()
        for _ in range(10):
            codes = nearest_codes(flat, places, self.config.distance)
            counts = torch.bincount(codes, minlength=size).to(flat.dtype)
            sums = torch.zeros_like(places).index_add_(0, codes, flat)
            moved = sums / counts.clamp_min(1)[:, None]
            if self.config.distance == "cosine":
                moved = F.normalize(moved)
            places = torch.where(counts[:, None] > 0, moved, places)
        self.codebook.data.copy_(places)
        self.counts.fill_(len(flat) / size)
        self.sums.copy_(places * self.counts[:, None])
        self.initialized.fill_(True)

    def _permutation(self, length: int, step: int) -> Tensor:
        """Random order that depends on seed and step alone, so that resuming repeats it."""
        generator = torch.Generator().manual_seed(1_000_003 * self.seed + step)
        return torch.randperm(length, generator=generator)


def _unsettled_if_unknown(
    module: nn.Module, state: dict[str, Any], prefix: str, *_: object
) -> None:
    """Lets the state of a run from before the buffer `settled` be loaded."""
    del module
    state.setdefault(f"{prefix}settled", torch.tensor(False))
