"""Labels: a recognizer's scores as the best few names, and where in the image they come from."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from app.errors import InvalidParameter, TesseraError
from app.problems import item_problem
from app.replies import json_response

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from starlette.responses import Response

    from app.models import Model
    from app.operations import Item, Recognition

# What a map must reach, of its highest value, to belong to the main region.
_REGION_THRESHOLD = 0.5


@dataclass(frozen=True, slots=True)
class Question:
    """What a request wants to know.

    Attributes:
        model, name, graph, classes: which recognizer, and what its scores are of.
        k: most labels.
        with_map: whether to add the map and box of the first label.
    """

    model: Model
    name: str
    graph: str
    classes: tuple[str, ...]
    k: int
    with_map: bool

    @classmethod
    def to(cls, model: Model, name: str | None, k: int, *, with_map: bool) -> Question:
        """A question to a model's recognizer of that name, or to its first.

        Raises:
            RecognizerNotFound: the model carries none, or none of that name.
            InvalidParameter: a map is asked for, but the graph gives none.
        """
        name, recognizer = model.recognizer(name)
        if with_map and len(model.manifest.graphs[recognizer.graph].outputs) < 2:
            raise InvalidParameter("map: this recognizer gives no activation maps")
        return cls(model, name, recognizer.graph, recognizer.classes, k, with_map)


def labels_reply(question: Question, items: Sequence[Item[Recognition]]) -> Response:
    """Labels as JSON, of each item that didn't fail."""
    data = []
    for item in items:
        entry: dict[str, Any] = {"index": item.index}
        if item.name is not None:
            entry["name"] = item.name
        if isinstance(item.value, TesseraError):
            entry["error"] = item_problem(item.value)
        else:
            entry |= _labels(question, item.value)
        data.append(entry)
    return json_response(
        {
            "model": question.model.name,
            "code_space": question.model.manifest.code_space,
            "recognizer": question.name,
            "data": data,
        }
    )


def probabilities_of(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Softmax over the last axis: `[…, classes]`, which sums to 1."""
    scores = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    probabilities: NDArray[np.float64] = scores / scores.sum(axis=-1, keepdims=True)
    return probabilities


def _labels(question: Question, found: Recognition) -> dict[str, Any]:
    probabilities = probabilities_of(found.logits)
    best = np.argsort(-probabilities, kind="stable")[: question.k]
    entry: dict[str, Any] = {
        "labels": [
            {"label": question.classes[i], "probability": round(float(probabilities[i]), 6)}
            for i in best
        ]
    }
    if question.with_map and found.maps is not None:
        scaled = _scaled(found.maps[best[0]])
        entry["map"] = np.ascontiguousarray(scaled.round(4))
        left, top, right, bottom = _box(scaled, question.model.manifest.stride)
        # The last codes may stand for less than a whole patch of the picture.
        entry["box"] = [left, top, min(right, found.width), min(bottom, found.height)]
    return entry


def _scaled(activation: NDArray[np.float32]) -> NDArray[np.float64]:
    """To 0…1: what speaks against the label counts as nothing."""
    positive = np.maximum(activation.astype(np.float64), 0)
    highest = positive.max()
    return positive / highest if highest > 0 else positive


def _box(scaled: NDArray[np.float64], stride: int) -> list[int]:
    """`[x0, y0, x1, y1]` in pixels around the region that holds the highest value."""
    rows, columns = scaled.shape
    start = divmod(int(scaled.argmax()), columns)
    inside = scaled >= _REGION_THRESHOLD * scaled.max()
    seen = {start}
    queue = deque([start])
    while queue:
        row, column = queue.popleft()
        for next_row, next_column in (
            (row - 1, column),
            (row + 1, column),
            (row, column - 1),
            (row, column + 1),
        ):
            place = next_row, next_column
            if (
                0 <= next_row < rows
                and 0 <= next_column < columns
                and inside[place]
                and place not in seen
            ):
                seen.add(place)
                queue.append(place)
    top, bottom = min(r for r, _ in seen), max(r for r, _ in seen)
    left, right = min(c for _, c in seen), max(c for _, c in seen)
    return [left * stride, top * stride, (right + 1) * stride, (bottom + 1) * stride]
