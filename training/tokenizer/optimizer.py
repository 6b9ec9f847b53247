"""The optimizers: AdamW, and Muon for the convolutions' kernels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from training.tokenizer.config import OptimizerConfig


class MuonAdamW:
    """Muon for kernels, AdamW for all other parameters.

    Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/) makes the momentum of a
    matrix orthogonal before it takes a step along it, so that directions in which gradients are
    small are learnt as fast as the others. A kernel `[out, in, h, w]` is the matrix
    `[out, h·w·in]`. Steps have the root mean square of AdamW's (Liu et al. 2025,
    arXiv:2502.16982): one learning rate does for both.

    Args:
        kernels: float `[out, in, h, w]` in the memory format `channels_last`, which the matrices
            share.
        others: of any shape.
        config: of the optimizer.

    Attributes:
        param_groups: of both; setting `lr` in each sets the learning rate.
    """

    def __init__(
        self, kernels: list[nn.Parameter], others: list[nn.Parameter], config: OptimizerConfig
    ) -> None:
        self._kernels = kernels
        # Views: a step on a matrix changes the kernel.
        self._matrices = [nn.Parameter(_rows(kernel.detach())) for kernel in kernels]
        self._muon = torch.optim.Muon(
            self._matrices,
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            momentum=config.momentum,
            adjust_lr_fn="match_rms_adamw",
        )
        self._adamw = torch.optim.AdamW(
            others, lr=config.learning_rate, betas=config.betas, weight_decay=0.0
        )
        self.param_groups = self._muon.param_groups + self._adamw.param_groups

    def zero_grad(self) -> None:
        """Forgets the gradients of the step before."""
        for kernel in self._kernels:
            kernel.grad = None
        self._adamw.zero_grad()

    def step(self) -> None:
        """Changes all parameters by their gradients."""
        for kernel, matrix in zip(self._kernels, self._matrices, strict=True):
            # A gradient has the memory format that the kernel of its computation liked.
            matrix.grad = (
                None
                if kernel.grad is None
                else _rows(kernel.grad.contiguous(memory_format=torch.channels_last))
            )
        self._muon.step()  # type: ignore[no-untyped-call]
        self._adamw.step()

    def state_dict(self) -> dict[str, Any]:
        """The state of both, by name."""
        return {"muon": self._muon.state_dict(), "adamw": self._adamw.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from what `state_dict` gave."""
        self._muon.load_state_dict(state["muon"])
        self._adamw.load_state_dict(state["adamw"])
        self.param_groups = self._muon.param_groups + self._adamw.param_groups


Optimizer = torch.optim.AdamW | MuonAdamW


def make_optimizer(parameters: Iterable[nn.Parameter], config: OptimizerConfig) -> Optimizer:
    """The optimizer that a configuration names.

    Args:
        parameters: that learn; kernels are those with four axes.
        config: of the optimizer.
    """
    learning = list(parameters)
    kernels = [p for p in learning if p.ndim == 4]
    others = [p for p in learning if p.ndim != 4]
    if config.kind == "muon":
        return MuonAdamW(kernels, others, config)
    return torch.optim.AdamW(
        [
            {"params": kernels, "weight_decay": config.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
        betas=config.betas,
    )


def _rows(kernel: torch.Tensor) -> torch.Tensor:
    """`[out, in, h, w]` in `channels_last` → `[out, h·w·in]` of the same memory."""
    return kernel.permute(0, 2, 3, 1).view(len(kernel), -1)
