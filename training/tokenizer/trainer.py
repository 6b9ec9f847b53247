"""A tokenizer while it learns: weights, their moving average, the optimizer, and one step of it."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from training.data.dataset import Pixels
from training.tokenizer.checkpoint import Checkpoint
from training.tokenizer.config import Config, OptimizerConfig
from training.tokenizer.distributed import Place
from training.tokenizer.losses import Losses
from training.tokenizer.model import Tokenizer, to_float


class TrainingDiverged(ArithmeticError):
    """Loss or gradient is no longer a number; the weights are those of the step before."""


@dataclass(frozen=True)
class Taken:
    """What a step was like.

    Attributes:
        loss: that was minimised.
        terms: of it, unweighted, by name.
        norm: of the gradient, before it was clipped.
        codes: int64 `[n, h, w]` of this process' crops.
    """

    loss: Tensor
    terms: dict[str, Tensor]
    norm: Tensor
    codes: Tensor


class Learner:
    """Everything that a step of training changes.

    Args:
        config: of the run.
        place: device and process.
        state: to go on from; None begins with random weights.

    Attributes:
        averaged: the model with the moving average of the weights, in evaluation mode.
        optimizer: whose learning rate is that of the last step.

    Raises:
        ConfigError: the file with the LPIPS network can't be read.
    """

    def __init__(self, config: Config, place: Place, state: Checkpoint | None = None) -> None:
        torch.manual_seed(config.run.seed)
        model = Tokenizer(config).to(place.device)
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = copy.deepcopy(model).requires_grad_(requires_grad=False).eval()
        self.optimizer = _make_optimizer(model, config.optimizer)
        if state is not None:
            model.load_state_dict(state.model)
            self.averaged.load_state_dict(state.averaged)
            self.optimizer.load_state_dict(state.optimizer)
        if config.run.compile:
            model.encoder.compile()
            model.decoder.compile()
        self._config, self._device, self._model = config, place.device, model
        self._forward: nn.Module = DistributedDataParallel(model) if place.processes > 1 else model
        self._losses = Losses(config.loss, config.quantizer).to(place.device)

    def step(self, number: int, pixels: Pixels) -> Taken:
        """Learns from this process' share of a batch.

        Args:
            number: of the step, from 0.
            pixels: uint8 `[n, crop, crop, 3]`.

        Raises:
            TrainingDiverged: loss or gradient is NaN or infinite; no weight was changed.
        """
        config = self._config
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(config.optimizer, number)
        images = to_float(torch.from_numpy(pixels).to(self._device))
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=config.run.bf16):
            output = self._forward(images, number)
        loss, terms = self._losses(output, images)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self._model.parameters(), config.optimizer.clip)
        # One look at both, since on CUDA each waits for the step. A gradient of NaN with a sound
        # loss would reach the weights, and the averaged ones, a step before the loss shows it.
        if not torch.isfinite(torch.stack([loss.detach(), norm])).all():
            raise TrainingDiverged(
                f"at step {number} the loss became {loss.item()}, the gradient's norm {norm.item()}"
            )
        self.optimizer.step()
        self._average(number)
        return Taken(loss, terms, norm, output.quantized.codes)

    def checkpoint(self, done: int, facts: dict[str, Any]) -> Checkpoint:
        """The state after so many steps."""
        return Checkpoint(
            self._config,
            done,
            self._model.state_dict(),
            self.averaged.state_dict(),
            self.optimizer.state_dict(),
            facts,
        )

    @torch.no_grad()
    def _average(self, number: int) -> None:
        """Moves the average by one step; early on it forgets faster, or it stays at the start."""
        decay = min(self._config.optimizer.weight_ema, (1 + number) / (10 + number))
        targets, sources = self.averaged.state_dict(), self._model.state_dict()
        for name, target in targets.items():
            if target.is_floating_point() and not name.startswith("quantizer."):
                target.lerp_(sources[name], 1 - decay)
            else:
                target.copy_(sources[name])


def learning_rate(config: OptimizerConfig, step: int) -> float:
    """Linear warm-up, then a cosine down to `final_learning_rate` × the peak at the last step."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    span = max(1, config.steps - config.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, (step - config.warmup_steps) / span)))
    floor = config.final_learning_rate
    return config.learning_rate * (floor + (1 - floor) * cosine)


def _make_optimizer(model: Tokenizer, config: OptimizerConfig) -> torch.optim.AdamW:
    kernels = [p for p in model.parameters() if p.ndim == 4]
    others = [p for p in model.parameters() if p.ndim != 4]
    return torch.optim.AdamW(
        [
            {"params": kernels, "weight_decay": config.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
        betas=config.betas,
    )
