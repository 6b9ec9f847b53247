"""Calls that may block forever, such as a write to a pipe that nobody reads any more."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def call_with_timeout(timeout_s: float, call: Callable[..., Any], *arguments: Any) -> None:
    """Call in a new thread, and wait for it for at most `timeout_s` seconds.

    A call that takes longer goes on in its thread, which is a daemon and doesn't keep the process
    alive.
    """
    thread = threading.Thread(target=call, args=arguments, daemon=True)
    thread.start()
    thread.join(timeout_s)
