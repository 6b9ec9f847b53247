"""The prior of a bundle: what the manifest says of it, and what names it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bundle.tensor_digest import tensor_digest

_PREFIX = b"tessera prior 1\n"

# (stage, rows down, columns to the right) from the place that is predicted.
Neighbour = tuple[int, int, int]

# How far a neighbour may be, in rows or columns, and how many there may be: bounds of the margins
# and of the work that a reader takes upon itself.
MAX_DISTANCE = 16
MAX_NEIGHBOURS = 64


@dataclass(frozen=True)
class PriorStage:
    """The prior of one stage of the codes.

    Attributes:
        groups: name of the graph that gives the frequencies of the groups of codes.
        members: name of the graph that gives those of a group's members.
        neighbours: places that the first graph looks at, in the order of its input.
    """

    groups: str
    members: str
    neighbours: tuple[Neighbour, ...]


@dataclass(frozen=True)
class Prior:
    """A context model of the codes: what entropy coding needs.

    Attributes:
        digest: `prior_digest` of its numbers, 64 lower-case hexadecimal digits.
        stages: one for each stage of the codes, in order.
        metrics: measured when it was made.
    """

    digest: str
    stages: tuple[PriorStage, ...]
    metrics: Mapping[str, Any] = field(default_factory=dict)


def is_known_before(neighbour: Neighbour, stage: int) -> bool:
    """Whether a neighbour is coded before the place itself, and near enough.

    Args:
        neighbour: of a place in `stage`.
        stage: counted from 0; earlier ones are coded before it, everywhere.
    """
    of, down, right = neighbour
    near = max(abs(down), abs(right)) <= MAX_DISTANCE
    return near and (0 <= of < stage or (of == stage and (down < 0 or (down == 0 and right < 0))))


def prior_digest(tensors: Iterable[tuple[str, Sequence[int], bytes]]) -> str:
    """SHA-256 over all numbers of a prior, lower-case hexadecimal.

    Two priors of one digest give the same frequencies, so that what one coded the other decodes.
    The ONNX files don't enter: exporting anew keeps it (`bundle/FORMAT.md`).

    Args:
        tensors: (name, shape, little-endian int32 bytes in C order), in any order.

    Raises:
        ValueError: two tensors of one name, or bytes that don't fit the shape.
    """
    return tensor_digest(_PREFIX, "int32", tensors)
