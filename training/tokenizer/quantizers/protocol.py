"""What every quantizer does, whatever its codes are.

A quantizer maps latents to codes and codes to vectors. What code vectors are is the same for all
of them, so that it is settled here: a position of the grid has one code for each stage, and the
vector that a decoder sees is the sum of the stages' code vectors. A code vector is a row of a
table; or, where there are `factors`, the code stands for one choice from each of several small
tables, whose rows stand one behind the other in the vector. Members differ in how latents choose
(`assignment`) and in what is learnt (`forward`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.distributed
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Quantized:
    """What quantization makes of a batch of latents.

    Attributes:
        vectors: float32 `[n, d, h, w]`, the code vectors, with a gradient for the latents.
        codes: int64 `[n, h, w]` in [0, K); `[n, stages, h, w]` of a quantizer with several stages.
        terms: scalars for the loss by their names, unweighted: means over latents and dimensions.
            `commitment` is ‖z − sg(e)‖², `codebook` ‖sg(z) − e‖².
    """

    vectors: Tensor
    codes: Tensor
    terms: Mapping[str, Tensor] = field(default_factory=dict)


class Quantizer(nn.Module, ABC):
    """Latents to codes, and codes to the vectors that a decoder sees.

    Attributes:
        sizes: how many codes each stage has; one position of the grid takes one code of each.
            Empty for a plain autoencoder.
        factors: of a code that is made up of several choices, how many rows each choice has; the
            first counts fastest. Empty where a code is a single choice.
        frozen: a frozen quantizer learns nothing in training mode, either.
    """

    sizes: tuple[int, ...]
    factors: tuple[int, ...] = ()
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
    def codebooks(self) -> tuple[Tensor, ...]:
        """The table of each stage as the decoder sees it: float32 `[K, d]`.

        With `factors` there is one, `[ΣK_i, d/m]`: the m small tables below each other.
        """

    @abstractmethod
    def project(self, latents: Tensor) -> Tensor:
        """Brings latents to where code vectors are, to be compared with them.

        Args:
            latents: float32 `[n, d, h, w]`.

        Returns:
            float32 `[n, d, h, w]`: of unit length, say, or bounded.
        """

    @abstractmethod
    def assignment(self) -> nn.Module:
        """How latents choose their codes, with nothing of training in it, for an ONNX graph.

        A module that maps float32 `[n, d, h, w]` to int64 `[n, h, w]`, or `[n, stages, h, w]`.
        """

    @torch.no_grad()
    def start_from(self, books: Sequence[Tensor]) -> list[str]:
        """Takes what a trained quantizer has learnt.

        Args:
            books: what its `codebooks` are.

        Returns:
            A line for each part that begins anew.

        Raises:
            ValueError: its codes are others than this one can have.
        """
        own = self.codebooks()
        if not all(map(torch.equal, own, books)) or len(own) != len(books):
            raise ValueError("its code vectors are others")
        return []

    def vectors_of(self, codes: Tensor) -> Tensor:
        """What the decoder sees of a grid of codes.

        Args:
            codes: int64 `[n, h, w]`, or `[n, stages, h, w]` of as many stages as there are or
                of the first few of them.

        Returns:
            float32 `[n, d, h, w]`.

        Raises:
            ValueError: the codes have more stages than the quantizer.
        """
        if codes.ndim == 4 and codes.shape[1] > len(self.sizes):
            raise ValueError(f"{codes.shape[1]} stages of codes, {len(self.sizes)} of codebooks")
        if codes.ndim == 4 and len(self.sizes) == 1:
            codes = codes[:, 0]
        elif codes.ndim == 3 and len(self.sizes) > 1:
            codes = codes[:, None]
        return sum_of_vectors(codes, self.codebooks(), self.factors)

    def normalized_codebook(self) -> Tensor:
        """All code vectors of the first stage as the decoder sees them, float32 `[K, d]`."""
        first = self.codebooks()[0]
        if not self.factors:
            return first
        codes = torch.arange(self.sizes[0], device=first.device)
        return choices_of(codes, first, self.factors)


def sum_of_vectors(codes: Tensor, books: Sequence[Tensor], factors: tuple[int, ...]) -> Tensor:
    """The vectors of a grid of codes.

    Args:
        codes: int64 `[n, h, w]` of the one stage that there is, or `[n, s, h, w]` of the first
            few of several.
        books: as `Quantizer.codebooks` gives them.
        factors: as `Quantizer.factors`.

    Returns:
        float `[n, d, h, w]`.
    """
    if factors:
        vectors = choices_of(codes, books[0], factors)
    elif len(books) == 1:
        vectors = F.embedding(codes, books[0])
    else:
        # All stages' vectors in one table, so that one look-up serves any number of stages.
        starts = [sum(len(book) for book in books[:stage]) for stage in range(len(books))]
        offsets = torch.tensor(starts, device=codes.device)[: codes.shape[1]]
        rows = codes + offsets.reshape(1, -1, 1, 1)
        vectors = F.embedding(rows, torch.cat(list(books))).sum(dim=1)
    return vectors.permute(0, 3, 1, 2)


def choices_of(codes: Tensor, table: Tensor, factors: tuple[int, ...]) -> Tensor:
    """Vectors of codes that are made up of several choices.

    Args:
        codes: int64 `[…]`.
        table: float `[ΣK_i, d/m]`.
        factors: K_i, the number of rows of each of the m small tables.

    Returns:
        float `[…, d]`: the chosen rows, one behind the other.
    """
    rows = choices(codes, factors) + torch.tensor(_starts(factors), device=codes.device)
    return F.embedding(rows, table).flatten(-2)


def choices(codes: Tensor, factors: tuple[int, ...]) -> Tensor:
    """The choices that codes are made up of: int64 `[…]` → int64 `[…, m]`, each in [0, K_i)."""
    steps = torch.tensor(_steps(factors), device=codes.device)
    sizes = torch.tensor(factors, device=codes.device)
    quotients = torch.div(codes[..., None], steps, rounding_mode="trunc")  # of no negative number
    return torch.fmod(quotients, sizes)


def codes_of_choices(chosen: Tensor, factors: tuple[int, ...]) -> Tensor:
    """The codes that choices make up: int64 `[…, m]` → int64 `[…]`."""
    steps = torch.tensor(_steps(factors), device=chosen.device)
    return (chosen * steps).sum(dim=-1)


def _steps(factors: tuple[int, ...]) -> list[int]:
    """By how much the code grows with each choice: the first counts fastest."""
    steps = [1]
    for factor in factors[:-1]:
        steps.append(steps[-1] * factor)
    return steps


def _starts(factors: tuple[int, ...]) -> list[int]:
    """The first row of each of the small tables."""
    return [sum(factors[:index]) for index in range(len(factors))]


def straight_through(points: Tensor, vectors: Tensor) -> Tensor:
    """The vectors, with the gradient of the points that they stand for.

    Bengio et al. 2013 (arXiv:1308.3432); both of one shape.
    """
    return points + (vectors - points).detach()


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
