"""How commands fail: one line for a person, and an exit code for a script.

==== =========================================================================
code meaning
==== =========================================================================
0    done
1    what was given can't be processed, or the service refused it
2    the command line is wrong
3    the models can't be loaded here, or the service can't be reached
130  interrupted
==== =========================================================================
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tessera_client import ServerError

REFUSED = 1
MISUSED = 2
UNAVAILABLE = 3

_UNAVAILABLE_STATUSES = {401, 429, 502, 503, 504}

# What a person at a terminal is told instead of the API's words, by the error's code.
_SAID = {
    "unauthorized": "A valid API key is required: give it in TESSERA_API_KEY or by --api-key",
}
_CALLED = {
    "malformed_request": "Can't be read",
    "unsupported_media_type": "Unknown format",
    "unknown": "Refused",
}


# What may look wrong about a picture, by the warning's code.
_WARNED = {
    "dark_samples": "its 16-bit samples use 12 bits at most, and so it is nearly black; "
    "if that isn't meant, add --sample-bits 12",
    "profile_ignored": "its colour profile can't be used, and its colours are taken as sRGB",
}


class CommandFailed(Exception):
    """A command can't do what it was told.

    Attributes:
        exit_code: of the process.
    """

    def __init__(self, text: str, exit_code: int = REFUSED) -> None:
        super().__init__(text)
        self.exit_code = exit_code


def install_hint(*packages: str) -> str:
    """What to type to install packages where this command runs, whichever environment that is."""
    quoted = " ".join(f"'{package}'" if "[" in package else package for package in packages)
    return f"{sys.executable} -m pip install {quoted}"


def said(error: ServerError) -> str:
    """What went wrong, in a line for a person."""
    if error.code in _SAID:
        return _SAID[error.code]
    name = _CALLED.get(error.code, error.code.replace("_", " ").capitalize())
    return f"{name}: {error.detail}"


def warned(code: str) -> str:
    """What may look wrong about a picture, in a line for a person."""
    return _WARNED.get(code, code.replace("_", " "))


def refusal(error: ServerError) -> CommandFailed:
    """How a command fails that the service refused."""
    unavailable = error.status in _UNAVAILABLE_STATUSES
    return CommandFailed(said(error), UNAVAILABLE if unavailable else REFUSED)
