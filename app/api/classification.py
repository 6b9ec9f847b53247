"""Labels: a recognizer's scores as the best few names, and where in the image they come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from app.api.responses import entry_of, head, json_response
from app.errors import InvalidParameter, TesseraError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from starlette.responses import Response

    from app.runtime.model import Model
    from app.service.results import Item, Recognition

# Share of its highest value that a map must reach in a cell of the main region.
_REGION_THRESHOLD = 0.5


@dataclass(frozen=True, slots=True)
class Question:
    """What a request asks of a recognizer.

    Attributes:
        model: the model that the recognizer belongs to.
        name: name of the recognizer.
        graph: name of its graph.
        classes: names of the classes that its scores stand for.
        k: most labels of an item.
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
        entry = entry_of(item)
        if not isinstance(item.value, TesseraError):
            entry |= _labels(question, item.value)
        data.append(entry)
    return json_response({**head(question.model), "recognizer": question.name, "data": data})


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
        stride = question.model.manifest.stride
        left, top, right, bottom = (stride * edge for edge in main_region(scaled))
        # The last codes may stand for less than a whole patch of the picture.
        entry["box"] = [left, top, min(right, found.width), min(bottom, found.height)]
    return entry


def _scaled(activation: NDArray[np.float32]) -> NDArray[np.float64]:
    """To 0…1: what speaks against the label counts as nothing."""
    positive = np.maximum(activation.astype(np.float64), 0)
    highest = positive.max()
    return positive / highest if highest > 0 else positive


def main_region(scaled: NDArray[np.float64]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom, in cells, of the region that holds most of the activation.

    Cells that share a side and reach the threshold are of one region. They are joined as runs of
    cells in a row, which are few even in the map of a large picture.
    """
    inside = scaled >= _REGION_THRESHOLD * scaled.max()
    edges = np.diff(np.pad(inside, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    row, start = np.nonzero(edges == 1)
    _, end = np.nonzero(edges == -1)
    upto = np.pad(np.cumsum(scaled, axis=1), ((0, 0), (1, 0)))
    region = list(range(len(row)))

    def root(run: int) -> int:
        while region[run] != run:
            region[run] = run = region[region[run]]
        return run

    first = np.searchsorted(row, np.arange(len(scaled) + 1)).tolist()
    starts, ends = start.tolist(), end.tolist()
    for above, here, below in zip(first, first[1:], first[2:], strict=False):
        a, b = above, here
        while a < here and b < below:
            if starts[a] < ends[b] and starts[b] < ends[a]:
                region[root(b)] = root(a)
            if ends[a] < ends[b]:
                a += 1
            else:
                b += 1
    roots = np.array([root(run) for run in range(len(row))])
    members = roots == np.bincount(roots, upto[row, end] - upto[row, start]).argmax()
    rows = row[members]
    return (
        int(start[members].min()),
        int(rows.min()),
        int(end[members].max()),
        int(rows.max()) + 1,
    )
