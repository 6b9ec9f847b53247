"""A range coder: symbols and integer frequencies ↔ bytes, in whole numbers alone.

The coder of docs/codes-format.md, "Range coding" (Martin 1979, "Range encoding: an algorithm for
removing redundancy from a digitised message"), with a state of 64 bits that is moved in words of
32. The totals of the frequencies are free, up to `MAX_TOTAL`, so that nobody has to scale a
distribution to a power of two and to agree on the rounding.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from app.errors import MalformedRequest

if TYPE_CHECKING:
    from collections.abc import Iterable

# Of a distribution's frequencies together. The range is at least 2³², so that every frequency
# keeps a share of at least 2⁸ of it.
MAX_TOTAL = 1 << 24
_BITS, _WORD = 64, 32
_FULL, _LEAST = (1 << _BITS) - 1, 1 << _WORD
_STATE_BYTES, _WORD_BYTES = _BITS // 8, _WORD // 8


def encode_symbols(intervals: Iterable[tuple[int, int, int]]) -> bytes:
    """Write symbols, each given by its place in its distribution.

    Args:
        intervals: for each symbol `(start, frequency, total)`: the sum of the frequencies of the
            symbols before it, its own (at least 1), and the sum of all, at most `MAX_TOTAL`.
    """
    words: list[int] = []
    low, size = 0, _FULL
    for start, frequency, total in intervals:
        share = size // total
        low += share * start
        size = share * frequency
        if low > _FULL:
            low &= _FULL
            _carry(words)
        if size < _LEAST:
            words.append(low >> _WORD)
            low = low << _WORD & _FULL
            size <<= _WORD
    # The fewest bytes that, filled with zeros, are a number within the last range.
    for kept in range(_STATE_BYTES + 1):
        unit = 1 << (_BITS - 8 * kept)
        end = -(-low // unit) * unit
        if end < low + size:
            break
    if end > _FULL:
        _carry(words)
    body = b"".join(word.to_bytes(_WORD_BYTES, "big") for word in words)
    return body + (end & _FULL).to_bytes(_STATE_BYTES, "big")[:kept]


def _carry(words: list[int]) -> None:
    """Add one to the number that the words are, most significant first."""
    at = len(words) - 1
    while words[at] == _LEAST - 1:
        words[at] = 0
        at -= 1
    words[at] += 1


class RangeDecoder:
    """Reads symbols from what `encode_symbols` wrote; whose distributions come one after another.

    Args:
        data: the bytes of one image, and nothing else.
    """

    def __init__(self, data: bytes) -> None:
        self._data, self._size = data, _FULL
        self._at = _STATE_BYTES
        self._code = int.from_bytes(data[:_STATE_BYTES].ljust(_STATE_BYTES, b"\0"), "big")

    def decode(self, cumulative: Iterable[list[int]]) -> list[int]:
        """The next symbols.

        Args:
            cumulative: for each symbol the frequencies added up, from 0 to the total, at most
                `MAX_TOTAL`: one number more than there are symbols in its alphabet.

        Raises:
            MalformedRequest: no encoder wrote this, or it is cut off.
        """
        code, size, at, data = self._code, self._size, self._at, self._data
        symbols = []
        for sums in cumulative:
            share = size // sums[-1]
            value = code // share
            if value >= sums[-1]:
                raise _damaged()
            symbol = bisect_right(sums, value) - 1
            start = sums[symbol]
            code -= share * start
            size = share * (sums[symbol + 1] - start)
            if size < _LEAST:
                word = data[at : at + _WORD_BYTES]
                at += _WORD_BYTES
                # An encoder leaves out at most a whole state.
                if at > len(data) + _STATE_BYTES:
                    raise _damaged()
                code = code << _WORD | int.from_bytes(word.ljust(_WORD_BYTES, b"\0"), "big")
                size <<= _WORD
            symbols.append(symbol)
        self._code, self._size, self._at = code, size, at
        return symbols

    def finish(self) -> None:
        """Check that all bytes were needed.

        Raises:
            MalformedRequest: there are bytes after the last symbol.
        """
        if len(self._data) > self._at:
            raise _damaged()


def _damaged() -> MalformedRequest:
    return MalformedRequest("the coded codes of an image are damaged: no encoder writes such bytes")
