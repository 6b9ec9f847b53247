"""The error of a configuration that can't be, and the checks that raise it."""

from __future__ import annotations


class ConfigError(ValueError):
    """A configuration that can't be: unknown key, wrong type, impossible value."""


def require(condition: bool, message: str) -> None:
    """Holds a configuration to a condition.

    Raises:
        ConfigError: with the message, where the condition doesn't hold.
    """
    if not condition:
        raise ConfigError(message)


def require_at_least(least: int, **options: int) -> None:
    """Holds options of a command line, `name=value`, to the least that makes sense.

    Raises:
        ConfigError: naming the first that is less.
    """
    for name, value in options.items():
        require(value >= least, f"--{name} must be at least {least}, not {value}")
