"""What a training run is made of: frozen dataclasses, each field with its meaning.

A run is described by one `Config`; it is saved inside every checkpoint and in
the manifest of every exported bundle, so that each explains itself. An impossible
value is refused with one line that names it; `training.tokenizer.config_file` reads TOML.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from bundle.manifest import NAME

# Three scales of an 11-pixel window: below this side the term `ms_ssim` isn't defined.
_MS_SSIM_SIDE = 44


class ConfigError(ValueError):
    """A configuration that can't be: unknown key, wrong type, impossible value."""


@dataclass(frozen=True)
class DataConfig:
    """Which crops of the images a model sees.

    Attributes:
        crop: side of the square training crops, pixels; a multiple of the stride.
        flip: mirror half of the crops left to right.
        validation_fraction: share of the images held out, chosen by a hash of each file's stem.
        cache_gib: decoded images kept in memory at most, GiB; what is beyond is decoded anew.
        seed: of the order of the images, crops and flips.
    """

    crop: int = 96
    flip: bool = True
    validation_fraction: float = 0.02
    cache_gib: float = 4.0
    seed: int = 0

    def __post_init__(self) -> None:
        _require(self.crop >= 8, f"data.crop must be at least 8 pixels, not {self.crop}")
        _require(
            0 <= self.validation_fraction < 1,
            f"data.validation_fraction must be in [0, 1), not {self.validation_fraction}",
        )
        _require(self.cache_gib >= 0, f"data.cache_gib must not be negative: {self.cache_gib}")
        _require(0 <= self.seed < 2**32, f"data.seed must be in [0, 2³²), not {self.seed}")


@dataclass(frozen=True)
class NetworkConfig:
    """The shape of encoder and decoder, from fine to coarse.

    The stem's strided convolution divides height and width by `stem_stride`;
    each further stage divides them by 2.

    Attributes:
        stem_stride: 2 or 4.
        widths: channels of each stage.
        encoder_depths: residual blocks of each stage of the encoder.
        decoder_depths: the same for the decoder, also written from fine to coarse.
    """

    stem_stride: int = 4
    widths: tuple[int, ...] = (96, 192)
    encoder_depths: tuple[int, ...] = (2, 4)
    decoder_depths: tuple[int, ...] = (3, 6)

    def __post_init__(self) -> None:
        _require(self.stem_stride in (2, 4), f"network.stem_stride is 2 or 4: {self.stem_stride}")
        stages = len(self.widths)
        _require(stages >= 1, "network.widths needs at least one stage")
        _require(
            len(self.encoder_depths) == stages == len(self.decoder_depths),
            "network.widths, encoder_depths and decoder_depths must be equally long",
        )
        _require(
            all(w >= 4 and w % 4 == 0 for w in self.widths),
            f"network.widths must be multiples of 4: {list(self.widths)}",
        )
        _require(
            all(d >= 0 for d in self.encoder_depths + self.decoder_depths),
            "network depths must not be negative",
        )

    @property
    def stride(self) -> int:
        """Pixels along one side of the patch that one code stands for."""
        return self.stem_stride << (len(self.widths) - 1)


@dataclass(frozen=True)
class QuantizerConfig:
    """How latents become codes.

    Attributes:
        kind: `ema` learns the codebook as a moving average of the latents
            assigned to it, `gradient` by the codebook loss of the original
            paper, `none` is a plain autoencoder to compare with.
        distance: `cosine` compares directions only, `euclidean` positions.
        size: number of codes K.
        width: dimension d of a code vector.
        initialization: `kmeans` on the first latents, or `random`.
        decay: of the moving average, per step.
        commitment: weight beta of the commitment term ‖z − sg(e)‖².
        restart_below: a code whose moving share of the latents is below this
            fraction of the uniform share 1/K is moved onto a latent of the
            batch; 0 never does so.
    """

    kind: Literal["ema", "gradient", "none"] = "ema"
    distance: Literal["cosine", "euclidean"] = "cosine"
    size: int = 4096
    width: int = 8
    initialization: Literal["kmeans", "random"] = "kmeans"
    decay: float = 0.99
    commitment: float = 0.25
    restart_below: float = 0.05

    def __post_init__(self) -> None:
        _require(2 <= self.size <= 65536, f"quantizer.size must be in [2, 65536], not {self.size}")
        _require(self.width >= 1, f"quantizer.width must be positive, not {self.width}")
        _require(0 < self.decay < 1, f"quantizer.decay must be in (0, 1), not {self.decay}")
        _require(self.commitment >= 0, "quantizer.commitment must not be negative")
        _require(0 <= self.restart_below < 1, "quantizer.restart_below must be in [0, 1)")


@dataclass(frozen=True)
class LossConfig:
    """Weights of the reconstruction terms, on pixels in [−1, 1]; 0 leaves a term out.

    Attributes:
        mse: squared error.
        l1: absolute error.
        multiscale: absolute error of the images halved once, twice and three times.
        gradient: absolute error of horizontal and vertical differences.
        ms_ssim: 1 − multi-scale structural similarity (three scales); needs crops of 44 pixels.
        lpips: learned perceptual distance; needs `lpips_weights`.
        lpips_weights: a TorchScript file that maps two image batches in [−1, 1] to distances.
    """

    mse: float = 1.0
    l1: float = 0.0
    multiscale: float = 0.0
    gradient: float = 0.0
    ms_ssim: float = 0.0
    lpips: float = 0.0
    lpips_weights: str = ""

    def __post_init__(self) -> None:
        weights = (self.mse, self.l1, self.multiscale, self.gradient, self.ms_ssim, self.lpips)
        _require(min(weights) >= 0, "loss weights must not be negative")
        _require(max(weights) > 0, "at least one loss weight must be positive")
        _require(
            self.lpips == 0 or bool(self.lpips_weights),
            "loss.lpips needs loss.lpips_weights, the file that holds the LPIPS network",
        )


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with linear warm-up and cosine decay.

    Attributes:
        steps: optimizer steps of the whole run.
        batch: crops a step, over all processes.
        learning_rate: at its peak.
        final_learning_rate: at the end, as a fraction of the peak.
        warmup_steps: of linear growth from zero.
        betas: of AdamW.
        weight_decay: of AdamW, on convolution weights only.
        clip: the gradient's norm is scaled down to this at most.
        weight_ema: decay of the moving average of the weights, which is what is exported.
    """

    steps: int = 20000
    batch: int = 32
    learning_rate: float = 1e-3
    final_learning_rate: float = 0.02
    warmup_steps: int = 200
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 1e-4
    clip: float = 1.0
    weight_ema: float = 0.999

    def __post_init__(self) -> None:
        _require(self.steps >= 1, f"optimizer.steps must be positive, not {self.steps}")
        _require(self.batch >= 1, f"optimizer.batch must be positive, not {self.batch}")
        _require(self.learning_rate > 0, "optimizer.learning_rate must be positive")
        _require(
            0 <= self.final_learning_rate <= 1,
            f"optimizer.final_learning_rate must be in [0, 1], not {self.final_learning_rate}",
        )
        _require(self.warmup_steps >= 0, "optimizer.warmup_steps must not be negative")
        _require(
            all(0 <= beta < 1 for beta in self.betas),
            f"optimizer.betas must be in [0, 1), not {list(self.betas)}",
        )
        _require(self.weight_decay >= 0, "optimizer.weight_decay must not be negative")
        _require(self.clip > 0, "optimizer.clip must be positive")
        _require(0 <= self.weight_ema < 1, "optimizer.weight_ema must be in [0, 1)")


@dataclass(frozen=True)
class RunConfig:
    """How the run goes on a machine; all but `seed` change no result but through rounding.

    Attributes:
        bf16: convolutions in bfloat16 where the device has it; the quantizer stays float32.
        compile: `torch.compile` the two networks.
        log_every: steps between lines of numbers.
        validate_every: steps between validations with picture grids.
        checkpoint_every: steps between checkpoints.
        seed: of the initial weights and of everything random in the quantizer.
    """

    bf16: bool = True
    compile: bool = False
    log_every: int = 50
    validate_every: int = 1000
    checkpoint_every: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        _require(
            min(self.log_every, self.validate_every, self.checkpoint_every) >= 1,
            "run.log_every, validate_every and checkpoint_every must be positive",
        )
        _require(0 <= self.seed < 2**32, f"run.seed must be in [0, 2³²), not {self.seed}")


@dataclass(frozen=True)
class Config:
    """A whole training run.

    Attributes:
        name: of the model, and of the bundle exported from it, whose rule it follows.
    """

    name: str
    data: DataConfig = field(default_factory=DataConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    quantizer: QuantizerConfig = field(default_factory=QuantizerConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        _require(
            NAME.fullmatch(self.name) is not None,
            f"name must match {NAME.pattern}, and {self.name!r} doesn't",
        )
        _require(
            self.data.crop % self.network.stride == 0,
            f"data.crop ({self.data.crop}) must be a multiple of the stride "
            f"({self.network.stride}) that network.stem_stride and widths make",
        )
        _require(
            self.loss.ms_ssim == 0 or self.data.crop >= _MS_SSIM_SIDE,
            f"loss.ms_ssim needs data.crop of at least {_MS_SSIM_SIDE} pixels, "
            f"not {self.data.crop}",
        )

    def to_dict(self) -> dict[str, Any]:
        """The configuration as plain JSON types, readable by `from_dict`."""
        return dataclasses.asdict(
            self,
            dict_factory=lambda items: {
                k: list(v) if isinstance(v, tuple) else v for k, v in items
            },
        )


def require_at_least(least: int, **options: int) -> None:
    """Holds options of a command line, `name=value`, to the least that makes sense.

    Raises:
        ConfigError: naming the first that is less.
    """
    for name, value in options.items():
        _require(value >= least, f"--{name} must be at least {least}, not {value}")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)
