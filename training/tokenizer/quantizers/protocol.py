"""What every quantizer does, whatever its codes are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
import torch.distributed
from torch import Tensor, nn


@dataclass(frozen=True)
class Quantized:
    """What quantization makes of a batch of latents.

    Attributes:
        vectors: float32 `[n, d, h, w]`, the code vectors, with the gradient of the latents.
        codes: int64 `[n, h, w]` in [0, K); `[n, stages, h, w]` of a quantizer with several stages.
        commitment: scalar ‖z − sg(e)‖², mean over latents and dimensions, unweighted.
        codebook: scalar ‖sg(z) − e‖², the same way; zero where no gradient learns the codebook.
    """

    vectors: Tensor
    codes: Tensor
    commitment: Tensor
    codebook: Tensor


class Quantizer(nn.Module, ABC):
    """Latents to codes, and codes to the vectors that a decoder sees.

    Attributes:
        sizes: how many codes each stage has; one position of the grid takes one code of each.
        frozen: a frozen quantizer learns nothing in training mode, either.
    """

    sizes: tuple[int, ...]
    frozen: bool = False

    @abstractmethod
    def forward(self, latents: Tensor, step: int = 0) -> Quantized:
        """Quantizes a batch; in training mode it also learns.

        Args:
            latents: `[n, d, h, w]`, any float dtype.
            step: of the training run; with the seed it decides what is random here,
                so that a resumed run repeats an unbroken one.
        """

    @abstractmethod
    def vectors_of(self, codes: Tensor) -> Tensor:
        """What the decoder sees of a grid of codes.

        Args:
            codes: int64 `[n, h, w]`, or `[n, stages, h, w]` of as many stages as there are or
                of the first few of them.

        Returns:
            float32 `[n, d, h, w]`.
        """

    @abstractmethod
    def codebooks(self) -> tuple[Tensor, ...]:
        """The code vectors of each stage as the decoder sees them, float32 `[K, d]`."""

    def normalized_codebook(self) -> Tensor:
        """The code vectors of the first stage as the decoder sees them, float32 `[K, d]`."""
        return self.codebooks()[0]


def processes() -> int:
    """How many processes train together."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def rank() -> int:
    """The number of this process among them."""
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def sum_over_processes(values: Tensor) -> None:
    """Adds up, in place, what every process has."""
    if processes() > 1:
        torch.distributed.all_reduce(values)


def of_all_processes(flat: Tensor) -> Tensor:
    """Every process' latents in the order in which one process would have them."""
    if processes() == 1:
        return flat
    parts = [torch.empty_like(flat) for _ in range(processes())]
    torch.distributed.all_gather(parts, flat.contiguous())
    return torch.cat(parts)
