"""What is reported of a recognizer, and its figures as Markdown; `report_html` makes the page."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.data.dataset import Pixels
from training.evaluation.linear_probe import Labelled
from training.recognition.augmented_views import Views
from training.recognition.bundle import TrainedRecognizer
from training.recognition.calibration import Logits, probabilities
from training.recognition.metrics import Classification


@dataclass(frozen=True)
class Example:
    """A test image as it was recognized.

    Attributes:
        image: uint8 `[h, w, 3]`.
        truth, label: its class, and the one it was taken for.
        probability: of the latter.
        activation: the latter's map, float32 `[rows, columns]`.
    """

    image: Pixels
    truth: str
    label: str
    probability: float
    activation: NDArray[np.float32]


@dataclass(frozen=True)
class Baseline:
    """Another way to recognize the same test images, for comparison.

    Attributes:
        name: what it sees, and by what.
        top1: share recognized.
        bytes: per image that have to be kept for it; None where that was not measured.
    """

    name: str
    top1: float
    bytes: float | None = None


@dataclass(frozen=True)
class Report:
    """Everything that the report shows.

    Attributes:
        model: name of the tokenizer.
        name: of the recognizer.
        figures: on the test images.
        facts: of the training, by what they are.
        examples: test images.
        baselines: on the same images, the recognizer itself first; empty without a comparison.
    """

    model: str
    name: str
    figures: Classification
    facts: Mapping[str, str]
    examples: Sequence[Example]
    baselines: Sequence[Baseline]


def to_markdown(report: Report) -> str:
    """The figures as Markdown tables."""
    f = report.figures
    lines = [
        f"# {report.name} on codes of {report.model}",
        "",
        "| figure | value |",
        "|---|---|",
        f"| top-1, {f.images} test images | {f.top1:.3f} |",
        f"| top-5 | {f.top5:.3f} |",
        f"| calibration error, 15 bins | {f.error:.3f} |",
        f"| before temperature scaling | {f.error_uncalibrated:.3f} |",
        f"| negative log-likelihood | {f.loss:.3f} |",
    ]
    lines += [f"| {name} | {value} |" for name, value in report.facts.items()]
    lines += [
        "",
        "| class | images | recall | precision | most often mistaken for |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {c.name} | {c.images} | {c.recall:.3f} | {c.precision:.3f} | {c.mistaken_for or ''} |"
        for c in f.classes
    ]
    if report.baselines:
        lines += ["", "| from | top-1 | bytes an image |", "|---|---|---|"]
        lines += [f"| {p.name} | {p.top1:.3f} | {bytes_text(p)} |" for p in report.baselines]
    names = [c.name for c in f.classes]
    lines += ["", "Rows are the true classes, columns what they were taken for.", ""]
    lines += [f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    lines += [
        f"| {name} | {' | '.join(map(str, row))} |"
        for name, row in zip(names, f.confusion, strict=True)
    ]
    return "\n".join(lines) + "\n"


def bytes_text(baseline: Baseline) -> str:
    """Bytes an image as they are shown; empty where they were not measured."""
    return "" if baseline.bytes is None else f"{baseline.bytes:.0f}"


_EXAMPLES = 16


def examples(
    images: list[Pixels],
    labelled: Labelled,
    logits: Logits,
    maps: list[NDArray[np.float32]],
    count: int = _EXAMPLES,
) -> list[Example]:
    """The surest right and the surest wrong answers, as evenly over the classes as they allow."""
    shares, labels = probabilities(logits), labelled.test_labels
    taken = shares.argmax(axis=1)
    chosen: list[int] = []
    for right in (True, False):
        order = [i for i in np.argsort(-shares.max(axis=1)) if (taken[i] == labels[i]) == right]
        by_class = [[i for i in order if labels[i] == c] for c in range(len(labelled.classes))]
        turns = itertools.chain.from_iterable(itertools.zip_longest(*by_class))
        chosen += [i for i in turns if i is not None][:count]
    return [
        Example(
            images[i],
            labelled.classes[labels[i]],
            labelled.classes[taken[i]],
            float(shares[i, taken[i]]),
            maps[i][taken[i]],
        )
        for i in chosen
    ]


def figures_for_manifest(
    figures: Classification, learnt: TrainedRecognizer, baselines: list[Baseline]
) -> dict[str, float | int | str]:
    """What manifest and model card say of a recognizer."""
    parts = {
        "top1": figures.top1,
        "top5": figures.top5,
        "ece": figures.error,
        "ece_uncalibrated": figures.error_uncalibrated,
        "nll": figures.loss,
        "temperature": learnt.temperature,
        "n_train": learnt.fitted,
        "n_held_out": learnt.held_out,
        "n_test": figures.images,
        "epochs": learnt.trained.best_epoch,
        **{
            f"top1 of {baseline.name}": baseline.top1
            for baseline in baselines
            if baseline.bytes is None
        },
    }
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in parts.items()}


def facts(learnt: TrainedRecognizer, views: Views, licence: str) -> dict[str, str]:
    """What the report says of the training."""
    parameters = sum(weight.numel() for weight in learnt.network.parameters())
    return {
        "images learnt from": str(learnt.fitted),
        "images that stopped it and set the temperature": str(learnt.held_out),
        "views of each image": str(views.count),
        "epochs, of which kept": f"{learnt.trained.epochs}, {learnt.trained.best_epoch}",
        "minutes of training": f"{learnt.seconds / 60:.2f}",
        "held-out top-1": f"{learnt.trained.accuracy:.3f}",
        "held-out likelihood, and calibrated": (
            f"{learnt.trained.loss:.3f}, {learnt.calibrated_loss:.3f}"
        ),
        "temperature": f"{learnt.temperature:.3f}",
        "parameters": f"{parameters}",
        "bytes of the graph": f"{len(learnt.graph)}",
        "licence of the data": licence,
    }
