"""Which form an answer takes: `Accept` read as RFC 9110 section 12.5.1 says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.api.media_types import ALIASES
from app.errors import NotAcceptable

if TYPE_CHECKING:
    from collections.abc import Sequence

# A browser sends about eight; what comes after that many is not read.
_MAX_RANGES = 32

# What tells one form of a type from another.
_PARAMETERS = ("coding", "depth")


def choose(accept: str | None, offers: Sequence[str]) -> str:
    """The media type to answer with.

    The highest quality wins; among equals what `Accept` names more exactly, then what it names
    first, then the order of the offers.

    Args:
        accept: the header; None or empty accepts everything.
        offers: media types the answer exists in, the default first; one with the parameter
            `coding` or `depth` is chosen only by a range that names it, and a range that names a
            depth is content with its type alone.

    Raises:
        NotAcceptable: none of the offers is acceptable.
    """
    if not accept or accept == "*/*":
        return offers[0]
    ranges = _ranges(accept)
    best: tuple[float, int, int] | None = None
    chosen = ""
    for offer in offers:
        # Of all ranges that match a type, the most exact one says its quality.
        matching = [
            (exactness, quality, position)
            for position, (pattern, quality) in enumerate(ranges)
            if (exactness := _exactness(pattern, offer))
        ]
        if not matching:
            continue
        exactness, quality, position = max(matching, key=lambda match: (match[0], -match[2]))
        rank = (quality, exactness, -position)
        if quality > 0 and (best is None or rank > best):
            best, chosen = rank, offer
    if best is None:
        raise NotAcceptable(f"the answer exists as {', '.join(offers)}")
    return chosen


def _ranges(accept: str) -> list[tuple[str, float]]:
    ranges = []
    for part in accept.split(",", _MAX_RANGES)[:_MAX_RANGES]:
        pattern, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = 1.0
        for parameter in parameters:
            name, _, value = (piece.strip() for piece in parameter.partition("="))
            if name == "q":
                quality = _quality(value)
            elif name in _PARAMETERS:
                pattern += f";{name}=" + value.strip('"')
        if pattern:
            pattern = ALIASES.get(pattern, pattern)
            ranges.append((pattern, quality))
    return ranges


def _quality(text: str) -> float:
    """A weight, 0…1; what isn't one counts as 0, so that the range is not chosen."""
    if not text.replace(".", "", 1).isascii() or not text.replace(".", "", 1).isdigit():
        return 0.0
    return min(1.0, float(text))


def _exactness(pattern: str, offer: str) -> int:
    """3 for the type itself, 2 for `type/*`, 1 for `*/*`, 0 for no match."""
    if pattern == offer:
        return 3
    if any(f";{name}=" in offer for name in _PARAMETERS):
        return 0
    if pattern.startswith(f"{offer};depth="):
        return 2
    if pattern == "*/*":
        return 1
    return 2 if pattern == f"{offer.partition('/')[0]}/*" else 0
