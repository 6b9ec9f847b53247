"""Request bodies in memory, all of them together held to a bound."""

from __future__ import annotations

from app.errors import Overloaded


class BodyMemory:
    """Counts the bytes of request bodies that are in memory.

    Args:
        max_bytes: most bytes of all bodies together.

    Attributes:
        held_bytes: bytes that are in memory now.
    """

    def __init__(self, max_bytes: int) -> None:
        self.held_bytes = 0
        self._max_bytes = max_bytes

    def reserve(self, count: int) -> None:
        """Count bytes that are about to be kept.

        Raises:
            Overloaded: all bodies together would have too many.
        """
        if self.held_bytes + count > self._max_bytes:
            raise Overloaded("too many request bodies are being received at once")
        self.held_bytes += count

    def free(self, count: int) -> None:
        """Count bytes that aren't kept any more."""
        self.held_bytes -= count
