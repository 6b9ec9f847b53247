"""Bits read one after the other, as the headers of video codecs are written."""

from __future__ import annotations

from imaging.errors import CorruptImage


class Bits:
    """A header's bits, the most significant of each byte first.

    Args:
        data: the header.
        codec: its name, for the error.
    """

    def __init__(self, data: bytes, codec: str) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)
        self._codec = codec

    def take(self, count: int) -> int:
        """Return the next bits as a number.

        Raises:
            CorruptImage: there are fewer.
        """
        self._left -= count
        if self._left < 0:
            raise CorruptImage(f"the {self._codec} header is cut off")
        return self._value >> self._left & ((1 << count) - 1)

    def take_exp_golomb(self) -> int:
        """Return a number of variable length: zeros, a one, and as many bits as there were zeros.

        Raises:
            CorruptImage: it has more than 32 bits, or is cut off.
        """
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros > 32:
                raise CorruptImage(f"the {self._codec} header has a number without an end")
        return (1 << zeros) - 1 + self.take(zeros)
