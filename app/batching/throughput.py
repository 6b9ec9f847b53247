"""How many items are admitted and how fast they are answered: what `Retry-After` is made of."""

from __future__ import annotations

# How fast the measured rate forgets: half of it is younger than this many seconds of work.
_RATE_HALF_LIFE_S = 5.0


class Throughput:
    """Items admitted and not yet answered, and the speed at which items and weight are answered.

    Speeds are taken over the seconds in which there was anything to do, so they hold whichever
    stage is the slow one. Not safe for threads: whoever shares one holds a lock.

    Attributes:
        items: items admitted and not yet answered.
    """

    def __init__(self) -> None:
        self.items = 0
        self._updated = 0.0
        self._busy_s = 0.0
        self._weight = 0.0
        self._items = 0.0

    def arrive(self, items: int, now: float) -> None:
        """Count items as admitted."""
        self._advance(now)
        self.items += items

    def leave(self, items: int, now: float) -> None:
        """Count items as answered."""
        self._advance(now)
        self.items -= items

    def finish(self, weights: list[int], now: float) -> None:
        """Count a run's items as done."""
        self._advance(now)
        self._weight += sum(weights)
        self._items += len(weights)

    def wait_s(self, weight: int, items: int) -> float:
        """Seconds that this much weight, and items of unknown weight, take; 0 if never measured."""
        if not self._items:
            return 0.0
        return self._busy_s * (weight / self._weight + items / self._items)

    def _advance(self, now: float) -> None:
        if self.items:
            elapsed = now - self._updated
            kept = 0.5 ** (elapsed / _RATE_HALF_LIFE_S)
            self._busy_s = self._busy_s * kept + elapsed
            self._weight *= kept
            self._items *= kept
        self._updated = now
