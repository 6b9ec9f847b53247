"""Which of two versions of a model is the newer one."""

from __future__ import annotations

import re
from typing import Any

_PARTS = re.compile(r"\d+|[^\d._]+").findall


def version_order(version: str) -> Any:
    """What versions are ordered by: numbers as numbers, and `1.0-rc1` before `1.0`."""
    release, _, before = version.partition("-")
    parts = [
        [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in _PARTS(text)]
        for text in (release, before)
    ]
    return parts[0], not before, parts[1]
