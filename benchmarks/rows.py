"""Measurements as rows of named values: picking some, and their middle."""

from __future__ import annotations

from collections.abc import Iterable
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
