"""What recognizers say of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tessera_client.errors import ServerError

if TYPE_CHECKING:
    from collections.abc import MutableMapping, Sequence

    from numpy.typing import NDArray

    from tessera_client.flows import Answers

JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Label:
    """A class and how probable it is.

    Attributes:
        label: name of the class.
        probability: 0…1; over all classes of the recognizer they sum to 1.
    """

    label: str
    probability: float


@dataclass(frozen=True, slots=True, eq=False)
class Classification:
    """The labels of one image.

    Attributes:
        labels: the most probable first.
        recognizer: which one said so.
        map: float32 `[rows, columns]` over the code grid, 0…1: where the first label is seen;
            None where it wasn't asked for.
        box: left, top, right and bottom of the map's main region, in pixels of the image; None
            where the map wasn't asked for.
    """

    labels: tuple[Label, ...]
    recognizer: str
    map: NDArray[np.float32] | None = None
    box: tuple[int, int, int, int] | None = None

    @property
    def best(self) -> Label:
        """The most probable label."""
        return self.labels[0]


def classifications_of(
    answers: Sequence[Answers], failed: MutableMapping[int, ServerError] | None
) -> list[Classification]:
    """What the answers say of each item, in order.

    Args:
        answers: JSON, which says of single items that they failed.
        failed: where those go by index, and are left out; None raises the first.

    Raises:
        ServerError: an item failed.
    """
    found: dict[int, Classification] = {}
    faults: dict[int, ServerError] = {}
    for indices, response in (pair for answer in answers for pair in answer):
        body = response.json()
        for entry in body["data"]:
            index = indices[entry["index"]]
            if "error" in entry:
                error = entry["error"]
                faults[index] = ServerError(
                    *(error["code"], error["status"], error["detail"]),
                    response.headers.get("x-request-id"),
                )
                faults[index].index = index
            else:
                found[index] = _classification(entry, body["recognizer"])
    if faults and failed is None:
        raise faults[min(faults)]
    if failed is not None:
        failed.update(faults)
    return [found[index] for index in sorted(found)]


def _classification(entry: dict[str, Any], recognizer: str) -> Classification:
    labels = tuple(Label(one["label"], one["probability"]) for one in entry["labels"])
    if "map" not in entry:
        return Classification(labels, recognizer)
    left, top, right, bottom = entry["box"]
    activation = np.array(entry["map"], np.float32)
    return Classification(labels, recognizer, activation, (left, top, right, bottom))
