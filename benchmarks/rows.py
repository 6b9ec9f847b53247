"""Measurements as rows of named values: some picked, their middle, and Markdown made of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any


def pick(rows: Iterable[dict[str, Any]], **fields: Any) -> list[dict[str, Any]]:
    """The rows that have these values."""
    return [row for row in rows if all(row[name] == value for name, value in fields.items())]


def middle(rows: Iterable[dict[str, Any]], what: str, **fields: Any) -> Any:
    """The median of a value over the rows that have these; None if there are none."""
    values = [row[what] for row in pick(rows, **fields)]
    return median(values) if values else None


def values(rows: Iterable[dict[str, Any]], name: str) -> list[Any]:
    """The different values of a name, in the order of their first appearance."""
    return list(dict.fromkeys(row[name] for row in rows))


def times(ours: float | None, theirs: float) -> str:
    """How many times as large ours is; a dash where either is missing."""
    return f"{ours / theirs:.2f}×" if ours and theirs else "–"


def spread(values: Iterable[float]) -> str:
    """The least and the greatest, as whole numbers."""
    known = list(values)
    return f"{min(known):.0f}–{max(known):.0f}"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
