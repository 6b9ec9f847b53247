"""Calibration: how well probabilities match accuracy, and temperature scaling.

Guo et al. 2017, "On calibration of modern neural networks": the expected calibration
error over equal bins of confidence, and temperature scaling, which divides all logits
by a number chosen on images that were not trained on. It changes no ranking.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]
Labels = NDArray[np.int64]

BINS = 15
# A few held-out images, all of them recognized, would ask for a temperature of zero.
_COLDEST, _HOTTEST = 0.3, 10.0


@dataclass(frozen=True)
class Bin:
    """The images whose highest probability lies in one interval.

    Attributes:
        low, high: the interval, `(low, high]`.
        count: images in it.
        confidence: mean of their highest probabilities; 0 where there are none.
        accuracy: share of them whose most probable class is theirs; 0 where there are none.
    """

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


def probabilities(logits: Logits) -> NDArray[np.float64]:
    """Softmax: float32 `[n, classes]` → float64 of the same shape, rows sum to 1."""
    scores = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = scores / scores.sum(axis=1, keepdims=True)
    return shares


def reliability(shares: NDArray[np.float64], labels: Labels, bins: int = BINS) -> list[Bin]:
    """Confidence and accuracy in equal bins of confidence.

    Args:
        shares: probabilities `[n, classes]`.
        labels: int64 `[n]`.
        bins: how many.
    """
    confidence = shares.max(axis=1)
    right = shares.argmax(axis=1) == labels
    # (low, high]: a confidence of exactly 1 belongs to the last bin.
    places = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    made = []
    for index in range(bins):
        inside = places == index
        count = int(inside.sum())
        made.append(
            Bin(
                low=index / bins,
                high=(index + 1) / bins,
                count=count,
                confidence=float(confidence[inside].mean()) if count else 0.0,
                accuracy=float(right[inside].mean()) if count else 0.0,
            )
        )
    return made


def calibration_error(bins: list[Bin]) -> float:
    """Expected calibration error: mean distance of accuracy from confidence, by images."""
    total = sum(b.count for b in bins)
    if not total:
        return 0.0
    return sum(b.count * abs(b.accuracy - b.confidence) for b in bins) / total


def negative_log_likelihood(logits: Logits, labels: Labels, temperature: float = 1.0) -> float:
    """Mean −log of the probability of the true class, nats.

    Args:
        logits: `[n, classes]`, divided by …
        labels: int64 `[n]`.
        temperature: … this.
    """
    scaled = logits.astype(np.float64) / temperature
    highest = scaled.max(axis=1, keepdims=True)
    total = highest[:, 0] + np.log(np.exp(scaled - highest).sum(axis=1))
    return float(np.mean(total - scaled[np.arange(len(labels)), labels]))


def fit_temperature(logits: Logits, labels: Labels) -> float:
    """The temperature of least negative log-likelihood.

    Args:
        logits: `[n, classes]` of images that were not trained on.
        labels: int64 `[n]`.
    """
    # One minimum: the likelihood is convex in 1/T. Steps of 1 % are finer than it is known.
    candidates = np.geomspace(_COLDEST, _HOTTEST, 352)
    losses = [negative_log_likelihood(logits, labels, float(t)) for t in candidates]
    return float(candidates[int(np.argmin(losses))])
