"""How latents become codes: the section `quantizer`, one class of settings for each kind.

`quantizer.kind` says which of them a table holds. Each has the same four properties, which are
all that the rest of training asks for: `width`, the dimension of the latents; `stages`, how many
codes each stage has; `factors`, of which a code is made up; `term_weights`, of the quantizer's
terms in the loss.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from training.tokenizer.config_error import require

# Codes of one stage: as many as the embedder's tables and the counters of codes can hold.
MAX_CODES = 1 << 18
# Code vectors of a table, each of which every latent is compared with.
_MAX_VECTORS = 1 << 16


@dataclass(frozen=True)
class NearestConfig:
    """A learnt codebook, of which the nearest entry is taken.

    Attributes:
        kind: `ema` learns the codebook as a moving average of the latents assigned to it,
            `gradient` by the codebook loss of the original paper.
        distance: `cosine` compares directions only, `euclidean` positions.
        size: number of codes K; of the first stage, where there are several.
        width: dimension d of a code vector.
        initialization: `kmeans` on the first latents, or `random`.
        decay: of the moving average, per step.
        commitment: weight beta of the commitment term ‖z − sg(e)‖².
        restart_below: a code whose moving share of the latents is below this fraction of the
            uniform share 1/K is moved onto a latent of the batch; 0 never does so.
        residual_sizes: number of codes of each further stage, which codes what the stages before
            it left over; none by default.
        stage_dropout: share of the training images that are decoded without some of their further
            stages, so that every prefix of the stages decodes well.
    """

    kind: Literal["ema", "gradient"] = "ema"
    distance: Literal["cosine", "euclidean"] = "cosine"
    size: int = 4096
    width: int = 8
    initialization: Literal["kmeans", "random"] = "kmeans"
    decay: float = 0.99
    commitment: float = 0.25
    restart_below: float = 0.05
    residual_sizes: tuple[int, ...] = ()
    stage_dropout: float = 0.5

    def __post_init__(self) -> None:
        _check_table("size", self.size)
        _check_width(self.width)
        _check_learning(self.decay, self.commitment, self.restart_below)
        require(
            all(2 <= size <= _MAX_VECTORS for size in self.residual_sizes),
            f"quantizer.residual_sizes must be in [2, 65536]: {list(self.residual_sizes)}",
        )
        require(
            0 <= self.stage_dropout <= 1,
            f"quantizer.stage_dropout must be in [0, 1], not {self.stage_dropout}",
        )

    @property
    def stages(self) -> tuple[int, ...]:
        """Number of codes of every stage."""
        return (self.size, *self.residual_sizes)

    @property
    def factors(self) -> tuple[int, ...]:
        """A code is a single choice."""
        return ()

    @property
    def term_weights(self) -> dict[str, float]:
        """Weights of the quantizer's terms in the loss, by their names."""
        # The weight beta belongs to the commitment term, which moves the encoder; the
        # codebook term has weight 1. Several well-known repositories have them swapped.
        learnt = {"codebook": 1.0} if self.kind == "gradient" else {}
        return {"commitment": self.commitment, **learnt}


@dataclass(frozen=True)
class SimVQConfig:
    """A frozen random codebook, seen through a linear layer that is learnt.

    Attributes:
        kind: `simvq`.
        size: number of codes K.
        width: dimension d of a code vector; the layer has d × d weights, so that a codebook of
            few dimensions can hardly move.
        commitment: weight beta of the commitment term ‖z − sg(e)‖².
    """

    kind: Literal["simvq"] = "simvq"
    size: int = 4096
    width: int = 32
    commitment: float = 0.25

    def __post_init__(self) -> None:
        _check_table("size", self.size)
        _check_width(self.width)
        require(self.commitment >= 0, "quantizer.commitment must not be negative")

    @property
    def stages(self) -> tuple[int, ...]:
        """Number of codes of the one stage."""
        return (self.size,)

    @property
    def factors(self) -> tuple[int, ...]:
        """A code is a single choice."""
        return ()

    @property
    def term_weights(self) -> dict[str, float]:
        """Weights of the quantizer's terms in the loss, by their names."""
        return {"commitment": self.commitment, "codebook": 1.0}


@dataclass(frozen=True)
class FSQConfig:
    """Each dimension is rounded to one of a few levels; there is no codebook to learn.

    Attributes:
        kind: `fsq`.
        levels: of each dimension; their product is the number of codes. The paper's are
            `[7, 5, 5, 5, 5]` for about 2¹² codes and `[8, 8, 8, 5, 5, 5]` for about 2¹⁶.
    """

    kind: Literal["fsq"] = "fsq"
    levels: tuple[int, ...] = (7, 5, 5, 5, 5)

    def __post_init__(self) -> None:
        require(len(self.levels) >= 1, "quantizer.levels needs at least one dimension")
        require(
            all(level >= 3 for level in self.levels),
            f"quantizer.levels must be at least 3 each: {list(self.levels)}",
        )
        _check_codes("levels", math.prod(self.levels))

    @property
    def width(self) -> int:
        """Dimension of the latents: one for each entry of `levels`."""
        return len(self.levels)

    @property
    def stages(self) -> tuple[int, ...]:
        """Number of codes of the one stage."""
        return (math.prod(self.levels),)

    @property
    def factors(self) -> tuple[int, ...]:
        """A code is a choice of a level in each dimension."""
        return self.levels

    @property
    def term_weights(self) -> dict[str, float]:
        """Nothing is added to the loss."""
        return {}


@dataclass(frozen=True)
class BinaryConfig:
    """Each dimension becomes a bit of the code; there is no codebook to learn.

    Attributes:
        kind: `lfq` takes the signs of the latent, `bsq` those of the latent on the unit sphere.
        bits: of a code, and dimensions of the latent.
        commitment: weight beta of the commitment term ‖z − sg(e)‖².
        entropy: weight of the entropy penalty, in nats a code, which makes single bits sure and
            all bits of a batch as often 0 as 1.
        diversity: weight of the second of these two aims relative to the first.
        inverse_temperature: how sure a bit is for its distance from the border, in the penalty;
            of no meaning for the codes.
    """

    kind: Literal["lfq", "bsq"] = "lfq"
    bits: int = 12
    commitment: float = 0.25
    entropy: float = 0.1
    diversity: float = 1.0
    inverse_temperature: float = 1.0

    def __post_init__(self) -> None:
        require(self.bits >= 1, f"quantizer.bits must be positive, not {self.bits}")
        _check_codes("bits", 1 << min(self.bits, 64))
        for name in ("commitment", "entropy", "diversity"):
            require(getattr(self, name) >= 0, f"quantizer.{name} must not be negative")
        require(self.inverse_temperature > 0, "quantizer.inverse_temperature must be positive")

    @property
    def width(self) -> int:
        """Dimension of the latents: one for each bit."""
        return self.bits

    @property
    def stages(self) -> tuple[int, ...]:
        """Number of codes of the one stage."""
        return (1 << self.bits,)

    @property
    def factors(self) -> tuple[int, ...]:
        """A code is a choice between two values in each dimension."""
        return (2,) * self.bits

    @property
    def term_weights(self) -> dict[str, float]:
        """Weights of the quantizer's terms in the loss, by their names."""
        return {"commitment": self.commitment, "entropy": self.entropy}


@dataclass(frozen=True)
class ProductConfig:
    """Several small codebooks side by side, each for its own part of the latent.

    Attributes:
        kind: `product`.
        sizes: number of codes of each codebook; their product is the number of codes.
        width: dimension of a whole code vector, of which each codebook has an equal part.
        distance, initialization, decay, commitment, restart_below: of each codebook, as of a
            single one (`NearestConfig`).
    """

    kind: Literal["product"] = "product"
    sizes: tuple[int, ...] = (64, 64)
    width: int = 8
    distance: Literal["cosine", "euclidean"] = "euclidean"
    initialization: Literal["kmeans", "random"] = "kmeans"
    decay: float = 0.99
    commitment: float = 0.25
    restart_below: float = 0.05

    def __post_init__(self) -> None:
        require(len(self.sizes) >= 2, "quantizer.sizes needs at least two codebooks")
        require(
            all(size >= 2 for size in self.sizes),
            f"quantizer.sizes must be at least 2 each: {list(self.sizes)}",
        )
        _check_codes("sizes", math.prod(self.sizes))
        _check_width(self.width)
        require(
            self.width % len(self.sizes) == 0,
            f"quantizer.width ({self.width}) must be a multiple of the number of codebooks "
            f"({len(self.sizes)})",
        )
        _check_learning(self.decay, self.commitment, self.restart_below)

    @property
    def stages(self) -> tuple[int, ...]:
        """Number of codes of the one stage."""
        return (math.prod(self.sizes),)

    @property
    def factors(self) -> tuple[int, ...]:
        """A code is a choice from each codebook."""
        return self.sizes

    @property
    def parts(self) -> tuple[NearestConfig, ...]:
        """The settings of each codebook."""
        return tuple(
            NearestConfig(
                size=size,
                width=self.width // len(self.sizes),
                distance=self.distance,
                initialization=self.initialization,
                decay=self.decay,
                commitment=self.commitment,
                restart_below=self.restart_below,
            )
            for size in self.sizes
        )

    @property
    def term_weights(self) -> dict[str, float]:
        """Weights of the quantizer's terms in the loss, by their names."""
        return {"commitment": self.commitment}


@dataclass(frozen=True)
class NoQuantizerConfig:
    """A plain autoencoder, whose decoder sees the latents themselves: it has no codes.

    Attributes:
        kind: `none`.
        width: dimension of the latents.
    """

    kind: Literal["none"] = "none"
    width: int = 8

    def __post_init__(self) -> None:
        _check_width(self.width)

    @property
    def stages(self) -> tuple[int, ...]:
        """There are no codes."""
        return ()

    @property
    def factors(self) -> tuple[int, ...]:
        """There are no codes."""
        return ()

    @property
    def term_weights(self) -> dict[str, float]:
        """Nothing is added to the loss."""
        return {}


QuantizerConfig = (
    NearestConfig | SimVQConfig | FSQConfig | BinaryConfig | ProductConfig | NoQuantizerConfig
)


def _check_table(name: str, size: int) -> None:
    require(
        2 <= size <= _MAX_VECTORS,
        f"quantizer.{name} must be in [2, {_MAX_VECTORS}], not {size}",
    )


def _check_codes(name: str, codes: int) -> None:
    require(
        2 <= codes <= MAX_CODES,
        f"quantizer.{name} makes {codes} codes; there can be 2 to {MAX_CODES}",
    )


def _check_width(width: int) -> None:
    require(width >= 1, f"quantizer.width must be positive, not {width}")


def _check_learning(decay: float, commitment: float, restart_below: float) -> None:
    require(0 < decay < 1, f"quantizer.decay must be in (0, 1), not {decay}")
    require(commitment >= 0, "quantizer.commitment must not be negative")
    require(0 <= restart_below < 1, "quantizer.restart_below must be in [0, 1)")
