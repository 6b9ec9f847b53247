"""The entropy penalty of binary codes, computed bit by bit."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from training.tokenizer.quantizers.protocol import processes, sum_over_processes


def entropy_penalty(logits: Tensor, diversity: float) -> Tensor:
    """How unsure bits are, less `diversity` times how evenly they are 0 and 1.

    Sum over the bits of E[H(q)] − γ H(E[q]), in nats, where q is a Bernoulli distribution with
    P(1) = sigmoid(logit) and the expectation is over all latents of the batch, in all processes.

    The distribution over all 2^d codes is a product over the bits, so that its entropy is the sum
    of theirs exactly; of the batch's mean distribution the sum is an upper bound, with which Zhao
    et al. 2024 (arXiv:2406.07548, equation 10) do without a table of 2^d entries.

    Args:
        logits: float32 `[t, d]`.
        diversity: γ.
    """
    sure = torch.sigmoid(logits)
    entropies = F.softplus(logits) - sure * logits  # H(q), stable where q is near 0 or 1
    mean = sure.mean(dim=0)
    if processes() > 1:
        # The mean of all processes with the gradient of this one's: since gradients are averaged
        # over the processes, the result is that of one process with the whole batch.
        total = mean.detach().clone()
        sum_over_processes(total)
        mean = mean + (total / processes() - mean).detach()
    return entropies.mean(dim=0).sum() - diversity * _entropy(mean).sum()


def _entropy(share: Tensor) -> Tensor:
    share = share.clamp(1e-6, 1 - 1e-6)
    return -(share * share.log() + (1 - share) * (1 - share).log())
