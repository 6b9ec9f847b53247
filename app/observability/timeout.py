"""Calls that may never come back, such as a write to a pipe that nobody reads any more."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def wait_at_most(seconds: float, call: Callable[..., Any], *arguments: Any) -> None:
    """Call in a thread of its own, and wait for so long; then leave it behind.

    The thread is a daemon, so that the process can end without it.
    """
    thread = threading.Thread(target=call, args=arguments, daemon=True)
    thread.start()
    thread.join(seconds)
