"""A JSON object of an untrusted manifest, whose fields are read with their types checked."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

from bundle.errors import ManifestMalformed

_T = TypeVar("_T")


class JsonObject:
    """A JSON object whose fields are read with their types checked.

    Every method raises `ManifestMalformed`, which names the field, where it isn't what is asked
    for.

    Args:
        value: as `json.loads` gave it.
        place: where it stands, for the messages, such as `manifest.codebook`.
    """

    def __init__(self, value: Any, place: str) -> None:
        if not isinstance(value, dict):
            raise ManifestMalformed(f"{place} is not a JSON object")
        self._value = value
        self._place = place

    def get(self, key: str, kind: type[_T]) -> _T:
        """The value of a key that must be there, exactly of that type: a bool is no int."""
        if key not in self._value:
            raise ManifestMalformed(f"{self._place} has no {key!r}")
        value = self._value[key]
        if type(value) is not kind:
            raise ManifestMalformed(f"{self._place}.{key} is not of type {kind.__name__}")
        return value

    def has(self, key: str) -> bool:
        """Whether the key is there."""
        return key in self._value

    def matching(self, key: str, pattern: re.Pattern[str]) -> str:
        """A string that matches the whole pattern."""
        value = self.get(key, str)
        if not pattern.fullmatch(value):
            raise ManifestMalformed(f"{self._place}.{key} must match {pattern.pattern}")
        return value

    def positive(self, key: str) -> int:
        """An integer from 1 to 2^40."""
        value = self.get(key, int)
        if not 1 <= value <= 1 << 40:
            raise ManifestMalformed(f"{self._place}.{key} is out of range")
        return value

    def optional(self, key: str, least: int) -> int | None:
        """An integer from `least` to 2^20; None where the key is absent."""
        if key not in self._value:
            return None
        value = self.get(key, int)
        if not least <= value <= 1 << 20:
            raise ManifestMalformed(f"{self._place}.{key} is out of range")
        return value

    def object(self, key: str) -> JsonObject:
        """A JSON object inside this one."""
        return JsonObject(self.get(key, dict), f"{self._place}.{key}")

    def mapping(self, key: str, parse: Callable[[JsonObject], _T]) -> dict[str, _T]:
        """A JSON object inside this one of which every value is an object, parsed one by one."""
        inner = self.get(key, dict)
        return {k: parse(JsonObject(v, f"{self._place}.{key}.{k}")) for k, v in inner.items()}
