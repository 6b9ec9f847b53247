"""A tokenizer while it learns: weights, their moving average, the optimizer, and one step of it."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from training.data.dataset import Pixels
from training.perceptual.features import FrozenFeatures
from training.tokenizer.averaging import early_decay, move_average
from training.tokenizer.checkpoint import Checkpoint
from training.tokenizer.config import MAIN_DECODER, Config, LossConfig, OptimizerConfig, Phase
from training.tokenizer.discriminator import (
    Adversary,
    FeatureDiscriminator,
    PatchDiscriminator,
    backward_balanced,
)
from training.tokenizer.distributed import DistributedContext
from training.tokenizer.initial_weights import InitialWeights, put_into
from training.tokenizer.losses import Losses
from training.tokenizer.model import Output, Tokenizer, to_float
from training.tokenizer.optimizer import Optimizer, make_optimizer
from training.tokenizer.schedule import warmup_cosine


class TrainingDiverged(ArithmeticError):
    """Loss or gradient is no longer a number; the weights are those of the step before."""


@dataclass(frozen=True)
class StepResult:
    """What a step was like.

    Attributes:
        loss: that was minimised, without the adversarial term.
        terms: of it, unweighted, by name.
        norm: of the gradient, before it was clipped.
        codes: int64 `[n, h, w]` or `[n, stages, h, w]` of this process' crops.
        discriminator: its figures, where there is one at work.
    """

    loss: Tensor
    terms: dict[str, Tensor]
    norm: Tensor
    codes: Tensor
    discriminator: dict[str, float]


class Trainer:
    """Everything that a step of training changes.

    Args:
        config: of the run.
        context: device and process.
        state: to go on from; None begins with random weights.
        model: to train; None makes the one that the configuration describes.

    Attributes:
        model: as it is trained.
        averaged: the model with the moving average of the weights, in evaluation mode.
        optimizer: whose learning rate is that of the last step.
        phase: of the run, to which the next step belongs.

    Raises:
        ConfigError: a frozen network of the loss can't be read.
    """

    optimizer: Optimizer

    def __init__(
        self,
        config: Config,
        context: DistributedContext,
        state: Checkpoint | None = None,
        model: Tokenizer | None = None,
    ) -> None:
        torch.manual_seed(config.run.seed)
        model = (Tokenizer(config) if model is None else model).to(context.device)
        self.model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = copy.deepcopy(self.model).requires_grad_(requires_grad=False).eval()
        self._config, self._context, self._device = config, context, context.device
        step = 0
        if state is not None:
            self.model.load_state_dict(state.model)
            self.averaged.load_state_dict(state.averaged)
            step = state.step
        if config.run.compile:
            self.model.encoder.compile()
            for name in (MAIN_DECODER, *config.other_decoders):
                self.model.decoder_named(name).compile()
        phase = config.phase_of(step)
        self._enter(phase, beginning=0 < step == phase.first)
        if state is not None and step > phase.first:
            self.optimizer.load_state_dict(state.optimizer)
            if self._adversary is not None and state.discriminator:
                self._adversary.load_state_dict(state.discriminator)

    def start_from(self, start: InitialWeights) -> list[str]:
        """Takes trained weights before the first step.

        Returns:
            A line for each part that begins anew.

        Raises:
            ConfigError: the encoder or the codebook has another shape.
        """
        lines = put_into(self.model, start)
        self.averaged.load_state_dict(self.model.state_dict())
        return lines

    def step(self, number: int, pixels: Pixels) -> StepResult:
        """Learns from this process' share of a batch.

        Args:
            number: of the step, from 0; of the same phase as the step before, or of the next.
            pixels: uint8 or uint16 `[n, crop, crop, channels]`.

        Raises:
            TrainingDiverged: loss or gradient is NaN or infinite; no weight was changed.
            DiscriminatorCollapsed: the discriminator no longer teaches anything.
        """
        if number >= self.phase.last:
            self._enter(self._config.phase_of(number), beginning=True)
        config = self.phase.config
        within = number - self.phase.first
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(config.optimizer, within)
        images = torch.from_numpy(pixels).to(self._device)
        images = to_float(images, config.data.sample_maximum)
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=config.run.bf16):
            output: Output = self._forward(images, number, self.phase.decoder)
        loss, terms = self._losses(output, images)
        self.optimizer.zero_grad()
        adversary = self._adversary if within >= config.loss.adversarial_start else None
        if adversary is None:
            loss.backward()
        else:
            beside, made = self._losses.of_quantizer(terms), output.reconstruction
            backward_balanced(loss, beside, adversary.loss(made), made, config.loss.adversarial)
        norm = nn.utils.clip_grad_norm_(self._learning(), config.optimizer.clip)
        # One look at both, since on CUDA each waits for the step. A gradient of NaN with a sound
        # loss would reach the weights, and the averaged ones, a step before the loss shows it.
        if not torch.isfinite(torch.stack([loss.detach(), norm])).all():
            raise TrainingDiverged(
                f"at step {number} the loss became {loss.item()}, the gradient's norm {norm.item()}"
            )
        discriminator: dict[str, float] = {}
        if adversary is not None:
            discriminator = adversary.learn(output.reconstruction, images)
        self.optimizer.step()
        self._average(early_decay(within, config.optimizer.weight_ema))
        return StepResult(loss, terms, norm, output.quantized.codes, discriminator)

    def checkpoint(self, done: int, facts: dict[str, Any]) -> Checkpoint:
        """The state after so many steps."""
        return Checkpoint(
            self._config,
            done,
            self.model.state_dict(),
            self.averaged.state_dict(),
            self.optimizer.state_dict(),
            facts,
            {} if self._adversary is None else self._adversary.state_dict(),
        )

    @property
    def networks(self) -> list[dict[str, str]]:
        """Facts about the frozen networks that take part in this phase, for the model card."""
        adversary = self._adversary
        return self._losses.networks + (adversary.networks if adversary is not None else [])

    def _enter(self, phase: Phase, *, beginning: bool) -> None:
        """Makes ready for the steps of a phase, with a new optimizer.

        Args:
            phase: of the next step.
            beginning: the next step is its first, and other phases came before it.
        """
        self.phase = phase
        config, context = phase.config, self._context
        if beginning:
            self._begin_from_averages(phase)
        frozen = set(config.optimizer.freeze)
        self.model.requires_grad_(requires_grad=False)
        learning: list[nn.Module] = []
        if "encoder" not in frozen:
            learning.append(self.model.encoder)
        if "codebook" not in frozen:
            learning.append(self.model.quantizer)
        if "decoder" not in frozen:
            learning.append(self.model.decoder_named(phase.decoder))
        for part in learning:
            part.requires_grad_(requires_grad=True)
        self.model.quantizer.frozen = "codebook" in frozen
        self.optimizer = make_optimizer(self._learning(), config.optimizer)
        self._losses = Losses(config.loss, config.quantizer, bf16=config.run.bf16)
        self._losses.to(self._device)
        # Of its own, so that a run resumed at the phase's first step makes the same one.
        torch.manual_seed(config.run.seed + phase.first)
        self._adversary = self._make_adversary(config.loss) if config.loss.adversarial else None
        self._forward: nn.Module = self.model
        if context.processes > 1:
            self._forward = DistributedDataParallel(self.model)

    def _begin_from_averages(self, phase: Phase) -> None:
        """What a phase freezes, and what it starts from, is what would be exported."""
        known = self._config.decoders_at(phase.first)
        if phase.decoder not in known:
            source = self.averaged.decoder_named(phase.start_from).state_dict()
            self.averaged.decoder_named(phase.decoder).load_state_dict(source)
        self.model.load_state_dict(self.averaged.state_dict())

    def _make_adversary(self, loss: LossConfig) -> Adversary:
        discriminator: nn.Module
        bf16 = self._config.run.bf16
        if loss.discriminator == "patch":
            discriminator = PatchDiscriminator()
        else:
            features = FrozenFeatures(loss.discriminator, bf16=bf16).to(self._device)
            discriminator = FeatureDiscriminator(features)
        return Adversary(
            discriminator,
            self._device,
            learning_rate=loss.discriminator_learning_rate,
            lecam=loss.lecam,
            bf16=bf16,
        )

    def _learning(self) -> list[nn.Parameter]:
        return [p for p in self.model.parameters() if p.requires_grad]

    @torch.no_grad()
    def _average(self, decay: float) -> None:
        """Moves the averages of what is trained by one step; the quantizer's state is copied."""
        frozen = self.phase.config.optimizer.freeze
        if "encoder" not in frozen:
            move_average(self.averaged.encoder, self.model.encoder, decay)
        if "decoder" not in frozen:
            name = self.phase.decoder
            move_average(self.averaged.decoder_named(name), self.model.decoder_named(name), decay)
        self.averaged.quantizer.load_state_dict(self.model.quantizer.state_dict())


def learning_rate(config: OptimizerConfig, step: int) -> float:
    """Linear warm-up, then a cosine down to `final_learning_rate` × the peak at the last step."""
    share = warmup_cosine(step, config.steps, config.warmup_steps, config.final_learning_rate)
    return config.learning_rate * share
