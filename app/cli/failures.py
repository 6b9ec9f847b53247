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

REFUSED = 1
MISUSED = 2
UNAVAILABLE = 3


class CommandFailed(Exception):
    """A command can't do what it was told.

    Attributes:
        exit_code: of the process.
    """

    def __init__(self, text: str, exit_code: int = REFUSED) -> None:
        super().__init__(text)
        self.exit_code = exit_code
