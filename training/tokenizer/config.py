"""What a training run is made of: frozen dataclasses, each field with its meaning.

A run is described by one `Config`; it is saved inside every checkpoint and in
the manifest of every exported bundle, so that each explains itself. An impossible
value is refused with one line that names it; `training.tokenizer.config_file` reads TOML.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, TypeVar

from bundle.manifest import NAME
from training.tokenizer.config_data import DataConfig
from training.tokenizer.config_error import ConfigError, require, require_at_least
from training.tokenizer.config_network import ConvolutionalConfig, NetworkConfig, VQGANConfig
from training.tokenizer.config_quantizer import (
    BinaryConfig,
    FSQConfig,
    NearestConfig,
    NoQuantizerConfig,
    ProductConfig,
    QuantizerConfig,
    SimVQConfig,
)
from training.tokenizer.config_recipe import (
    MAIN_DECODER,
    LossConfig,
    OptimizerConfig,
    PhaseConfig,
    RunConfig,
)

__all__ = [
    "MAIN_DECODER",
    "BinaryConfig",
    "Config",
    "ConfigError",
    "ConvolutionalConfig",
    "DataConfig",
    "FSQConfig",
    "LossConfig",
    "NearestConfig",
    "NetworkConfig",
    "NoQuantizerConfig",
    "OptimizerConfig",
    "Phase",
    "PhaseConfig",
    "ProductConfig",
    "QuantizerConfig",
    "RunConfig",
    "SimVQConfig",
    "VQGANConfig",
    "require_at_least",
    "with_larger_batches",
]

_Sized = TypeVar("_Sized", OptimizerConfig, PhaseConfig)

# Three scales of an 11-pixel window: below this side the term `ms_ssim` isn't defined.
_MS_SSIM_SIDE = 44


@dataclass(frozen=True)
class Phase:
    """A phase of a run with all of its settings; a run without phases is a single one.

    Attributes:
        name: of the phase; empty where the run has none.
        first: step at which it begins, counted from 0 over the whole run.
        decoder: which decoder is trained.
        start_from: the decoder that another one begins as a copy of.
        config: of the run, its `data`, `loss` and `optimizer` those of the phase.
    """

    name: str
    first: int
    decoder: str
    start_from: str
    config: Config

    @property
    def last(self) -> int:
        """Step at which the next phase begins, or the run ends."""
        return self.first + self.config.optimizer.steps


@dataclass(frozen=True)
class Config:
    """A whole training run.

    Attributes:
        name: of the model, and of the bundle exported from it, whose rule it follows.
        phases: parts of the run with settings of their own, in their order; none is one phase.
    """

    name: str
    data: DataConfig = field(default_factory=DataConfig)
    network: NetworkConfig = field(default_factory=ConvolutionalConfig)
    quantizer: QuantizerConfig = field(default_factory=NearestConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    run: RunConfig = field(default_factory=RunConfig)
    phases: tuple[PhaseConfig, ...] = ()

    def __post_init__(self) -> None:
        require(
            NAME.fullmatch(self.name) is not None,
            f"name must match {NAME.pattern}, and {self.name!r} doesn't",
        )
        require(
            self.data.crop % self.network.stride == 0,
            f"data.crop ({self.data.crop}) must be a multiple of the stride "
            f"({self.network.stride}) that the network's settings make",
        )
        require(
            self.loss.ms_ssim == 0 or self.data.crop >= _MS_SSIM_SIDE,
            f"loss.ms_ssim needs data.crop of at least {_MS_SSIM_SIDE} pixels, "
            f"not {self.data.crop}",
        )
        losses = [self.loss, *(phase.loss for phase in self.phases if phase.loss is not None)]
        require(
            self.data.channels == 3
            or all(loss.lpips == loss.perceptual == loss.adversarial == 0 for loss in losses),
            "loss.lpips, perceptual and adversarial see three channels: data.channels must be 3",
        )
        self._check_phases()

    def _check_phases(self) -> None:
        names = [phase.name for phase in self.phases]
        require(len(set(names)) == len(names), "two phases have the same name")
        trained: set[str] = {MAIN_DECODER}
        for phase in self.resolved_phases() if self.phases else ():
            frozen = set(phase.config.optimizer.freeze)
            require(
                trained == {MAIN_DECODER} or {"encoder", "codebook"} <= frozen,
                f"phase {phase.name} must freeze encoder and codebook: an earlier phase has "
                "trained another decoder for their codes",
            )
            require(
                phase.decoder in trained or phase.start_from in trained,
                f"phase {phase.name} starts from the decoder {phase.start_from!r}, which no "
                "phase before it has trained",
            )
            trained.add(phase.decoder)

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        return sum(phase.steps for phase in self.phases) or self.optimizer.steps

    @property
    def other_decoders(self) -> tuple[str, ...]:
        """Names of the decoders beside the main one, in the order in which they are trained."""
        names = dict.fromkeys(phase.decoder for phase in self.phases)
        return tuple(name for name in names if name != MAIN_DECODER)

    def decoders_at(self, step: int) -> tuple[str, ...]:
        """The decoders that have begun to be trained after so many steps, the main one first."""
        begun = [phase.decoder for phase in self.resolved_phases() if phase.first < step]
        return tuple(dict.fromkeys([MAIN_DECODER, *begun]))

    def resolved_phases(self) -> tuple[Phase, ...]:
        """The phases with all of their settings; one phase where the run has none."""
        if not self.phases:
            return (Phase("", 0, MAIN_DECODER, MAIN_DECODER, self),)
        phases, first = [], 0
        for phase in self.phases:
            phases.append(
                Phase(phase.name, first, phase.decoder, phase.start_from, self._of_phase(phase))
            )
            first += phase.steps
        return tuple(phases)

    def phase_of(self, step: int) -> Phase:
        """The phase that a step belongs to, the last one from the end of the run on."""
        phases = self.resolved_phases()
        return next((phase for phase in phases if step < phase.last), phases[-1])

    def _of_phase(self, phase: PhaseConfig) -> Config:
        def own(*names: str) -> dict[str, Any]:
            values = {name: getattr(phase, name) for name in names}
            return {name: value for name, value in values.items() if value is not None}

        freeze = dict.fromkeys([*self.optimizer.freeze, *phase.freeze])
        data = own("crop", "enlarge", "synthetic", "colour_jitter")
        optimizer = own("steps", "batch", "learning_rate", "final_learning_rate", "warmup_steps")
        return dataclasses.replace(
            self,
            phases=(),
            data=dataclasses.replace(self.data, **data),
            loss=self.loss if phase.loss is None else phase.loss,
            optimizer=dataclasses.replace(self.optimizer, freeze=tuple(freeze), **optimizer),
        )

    def to_dict(self) -> dict[str, Any]:
        """The configuration as plain JSON types, readable by `from_dict`."""
        return {name: _plain(value) for name, value in dataclasses.asdict(self).items()}


def with_larger_batches(config: Config, factor: int) -> Config:
    """Batches so many times as large, and learning rates that are its root times as high.

    Of the run and of its phases; the number of steps stays. The root keeps the size of AdamW's
    steps in proportion to the noise of the gradient (Malladi et al. 2022, arXiv:2205.10287).
    """
    rate = math.sqrt(factor)

    def enlarged(section: _Sized) -> _Sized:
        changes: dict[str, Any] = {}
        if section.batch is not None:
            changes["batch"] = factor * section.batch
        if section.learning_rate is not None:
            changes["learning_rate"] = rate * section.learning_rate
        return dataclasses.replace(section, **changes)

    return dataclasses.replace(
        config,
        optimizer=enlarged(config.optimizer),
        phases=tuple(enlarged(phase) for phase in config.phases),
    )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(inner) for inner in value]
    return value
