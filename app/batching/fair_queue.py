"""Entries that wait for a run, by key, in the order of weighted fair queuing."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

_T = TypeVar("_T")


@dataclass(slots=True, eq=False)
class _Waiting(Generic[_T]):
    entry: _T
    weight: int
    tag: float
    since: float


class FairQueue(Generic[_T]):
    """Entries of several keys, taken in batches of one key.

    Fair queuing (Demers, Keshav & Shenker 1989): a key's turn comes when the clock, which counts
    weight served, reaches the end of its first entry. So a large image lets small ones of other
    keys pass until they add up to its own weight, and no longer.

    Where more comes in than goes out, fairness among keys starves the key that most of the work
    belongs to. So an entry older than `max_age_s` goes first, the oldest before all others.

    Not safe for threads: whoever shares one holds a lock.

    Args:
        max_age_s: seconds for which other entries may go before an older one.

    Attributes:
        weight: weight of all entries together.
    """

    def __init__(self, max_age_s: float = math.inf) -> None:
        self.weight = 0
        self._max_age_s = max_age_s
        self._size = 0
        self._clock = 0.0
        self._groups: dict[Hashable, deque[_Waiting[_T]]] = {}

    def __len__(self) -> int:
        return self._size

    def add(self, key: Hashable, entry: _T, weight: int, now: float) -> None:
        """Put an entry at the end of its key's line; `now` in seconds, of any clock."""
        group = self._groups.setdefault(key, deque())
        tag = (group[-1].tag if group else self._clock) + weight
        group.append(_Waiting(entry, weight, tag, now))
        self.weight += weight
        self._size += 1

    def discard(self, key: Hashable, entry: _T) -> None:
        """Take an entry out, if it is still in."""
        for waiting in self._groups.get(key, ()):
            if waiting.entry is entry:
                self._groups[key].remove(waiting)
                self._drop(key, waiting)
                return

    def take(self, most: int, wanted: Callable[[_T], bool], now: float) -> list[_T]:
        """Take a batch of the key whose turn it is; call it with entries in.

        Args:
            most: most weight of the batch; a single entry may weigh more.
            wanted: whether an entry is still wanted; those that aren't are dropped on the way.
            now: by the clock of `add`.

        Returns:
            Entries of one key; none if nobody wanted them.
        """
        key = min(self._groups, key=lambda key: self._groups[key][0].since)
        if now - self._groups[key][0].since < self._max_age_s:
            key = min(self._groups, key=lambda key: self._groups[key][0].tag)
        group = self._groups[key]
        batch: list[_T] = []
        weight = 0
        while group and (not batch or weight + group[0].weight <= most):
            waiting = group.popleft()
            self._drop(key, waiting)
            if wanted(waiting.entry):
                batch.append(waiting.entry)
                weight += waiting.weight
                self._clock = max(self._clock, waiting.tag)
        return batch

    def clear(self) -> list[_T]:
        """Take everything out."""
        left = [waiting.entry for group in self._groups.values() for waiting in group]
        self._groups.clear()
        self.weight = self._size = 0
        return left

    def _drop(self, key: Hashable, waiting: _Waiting[_T]) -> None:
        self.weight -= waiting.weight
        self._size -= 1
        if not self._groups[key]:
            del self._groups[key]
