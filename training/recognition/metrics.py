"""Metrics of a recognizer: accuracies, the confusion matrix, and calibration."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.recognition.calibration import (
    Bin,
    Labels,
    Logits,
    calibration_error,
    negative_log_likelihood,
    probabilities,
    reliability,
)


@dataclass(frozen=True)
class ClassFigures:
    """One class, seen from its images and from its predictions.

    Attributes:
        name: of the class.
        images: of it that were tested.
        recall: share of its images that were recognized.
        precision: share of the images taken for it that are; 0 where there are none.
        mistaken_for: the class that most of its other images were taken for, or None.
    """

    name: str
    images: int
    recall: float
    precision: float
    mistaken_for: str | None


@dataclass(frozen=True)
class Classification:
    """Every figure of a recognizer on test images.

    Attributes:
        images: tested.
        top1, top5: share whose class is the first, is among the first five.
        loss: negative log-likelihood, nats.
        error: expected calibration error of the probabilities.
        error_uncalibrated: the same before temperature scaling.
        bins, bins_uncalibrated: the reliability that they are of.
        confusion: `confusion[i][j]` images of class i were taken for class j.
        classes: one by one.
    """

    images: int
    top1: float
    top5: float
    loss: float
    error: float
    error_uncalibrated: float
    bins: list[Bin]
    bins_uncalibrated: list[Bin]
    confusion: list[list[int]]
    classes: list[ClassFigures]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dataclasses.asdict(self)


def classify(
    logits: Logits, labels: Labels, classes: tuple[str, ...], temperature: float
) -> Classification:
    """All figures.

    Args:
        logits: calibrated, float32 `[n, classes]`.
        labels: int64 `[n]`.
        classes: names.
        temperature: that the logits were divided by.
    """
    shares = probabilities(logits)
    bins = reliability(shares, labels)
    before = reliability(probabilities(logits * np.float32(temperature)), labels)
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(confusion, (labels, logits.argmax(axis=1)), 1)
    return Classification(
        images=len(labels),
        top1=top(logits, labels, 1),
        top5=top(logits, labels, 5),
        loss=negative_log_likelihood(logits, labels),
        error=calibration_error(bins),
        error_uncalibrated=calibration_error(before),
        bins=bins,
        bins_uncalibrated=before,
        confusion=confusion.tolist(),
        classes=[_figures(confusion, index, classes) for index in range(len(classes))],
    )


def top(logits: Logits, labels: Labels, k: int) -> float:
    """Share of the images whose class is among the k of highest logit."""
    best = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    return float((best == labels[:, None]).any(axis=1).mean())


def _figures(confusion: NDArray[np.int64], index: int, classes: tuple[str, ...]) -> ClassFigures:
    right, images = int(confusion[index, index]), int(confusion[index].sum())
    taken = int(confusion[:, index].sum())
    others = confusion[index].copy()
    others[index] = 0
    return ClassFigures(
        name=classes[index],
        images=images,
        recall=right / images if images else 0.0,
        precision=right / taken if taken else 0.0,
        mistaken_for=classes[int(others.argmax())] if others.any() else None,
    )
