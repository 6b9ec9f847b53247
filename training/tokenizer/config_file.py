"""Configurations as TOML: presets, files and `KEY=VALUE` overrides.

An unknown key, a wrong type or an impossible value is refused with one line
that names it.
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
import types
import typing
from pathlib import Path
from typing import Any, Literal, TypeVar

from training.tokenizer.config import Config, ConfigError, NetworkConfig, QuantizerConfig

# Tables whose settings depend on their `kind`.
_SECTIONS_OF_KINDS: dict[str, types.UnionType] = {
    "network": NetworkConfig,
    "quantizer": QuantizerConfig,
}
PRESETS = Path(__file__).parents[1] / "presets"

_T = TypeVar("_T")


def load_config(preset_or_path: str) -> Config:
    """Reads a preset by its name, or a TOML file by its path.

    Raises:
        ConfigError: no such preset or file, or it describes no possible run.
    """
    path = PRESETS / f"{preset_or_path}.toml"
    if not path.is_file():
        path = Path(preset_or_path)
    if not path.is_file():
        names = ", ".join(sorted(p.stem for p in PRESETS.glob("*.toml")))
        raise ConfigError(f"no preset or file named {preset_or_path!r}; the presets are {names}")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name} is not valid TOML: {error}") from error
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}") from error
    return from_dict(values)


def from_dict(values: dict[str, Any]) -> Config:
    """Builds a `Config` from plain values, as `tomllib` or `Config.to_dict` give them.

    Raises:
        ConfigError: naming the key that is unknown, missing, of the wrong type or impossible.
    """
    return _build(Config, values, "")


def override(config: Config, assignments: list[str]) -> Config:
    """The configuration with `key=value` pairs put in, values written as in TOML.

    Raises:
        ConfigError: an assignment that is malformed or impossible.
    """
    values = config.to_dict()
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        *tables, name = key.strip().split(".")
        if not equals or not name:
            raise ConfigError(f"--set takes KEY=VALUE, not {assignment!r}")
        try:
            value = tomllib.loads(f"v = {text}")["v"]
        except tomllib.TOMLDecodeError:
            value = text.strip()
        table: Any = values
        for part in tables:
            if isinstance(table, list):  # phases, by their names
                table = {phase["name"]: phase for phase in table}
            table = table.get(part) if isinstance(table, dict) else None
        if not isinstance(table, dict) or name not in table:
            raise ConfigError(f"unknown setting {key}")
        table[name] = value
        if name == "kind" and tables and tables[0] in _SECTIONS_OF_KINDS:
            values[tables[0]] = _of_new_kind(_SECTIONS_OF_KINDS[tables[0]], table, tables[0])
    return from_dict(values)


def _of_new_kind(kinds: types.UnionType, table: dict[str, Any], name: str) -> dict[str, Any]:
    """The settings of a table that its new kind has too, all others as they are by default."""
    fields = dataclasses.fields(_class_of_kind(kinds, table, name))
    return {field.name: table.get(field.name, field.default) for field in fields}


def _class_of_kind(kinds: types.UnionType, table: dict[str, Any], name: str) -> type[Any]:
    """The class of settings that a table's `kind` names, the first where it names none."""
    classes: dict[str, type[Any]] = {}
    for cls in typing.get_args(kinds):
        for kind in typing.get_args(typing.get_type_hints(cls)["kind"]):
            classes[kind] = cls
    kind = table.get("kind", next(iter(classes)))
    if kind not in classes:
        raise ConfigError(f"{name}.kind must be one of {', '.join(classes)}, not {kind!r}")
    return classes[kind]


def _build(cls: type[_T], values: Any, prefix: str) -> _T:
    if not isinstance(values, dict):
        raise ConfigError(f"{prefix.rstrip('.')} must be a table of settings")
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            raise ConfigError(f"unknown setting {prefix}{key}; known here: {', '.join(fields)}")
    if cls is Config and "name" not in values:
        raise ConfigError("the setting `name` is missing")
    return cls(**{k: _convert(hints[k], v, f"{prefix}{k}") for k, v in values.items()})


def _convert(hint: Any, value: Any, name: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return _build(typing.cast("type[Any]", hint), value, f"{name}.")
    if origin is types.UnionType and types.NoneType not in arguments:
        if not isinstance(value, dict):
            raise ConfigError(f"{name} must be a table of settings")
        return _build(_class_of_kind(hint, value, name), value, f"{name}.")
    if origin is types.UnionType:  # with None, which stands for a setting that is left out
        if value is None:
            return None
        (hint,) = (argument for argument in arguments if argument is not types.NoneType)
        return _convert(hint, value, name)
    if origin is Literal:
        if value not in arguments:
            raise ConfigError(f"{name} must be one of {', '.join(arguments)}, not {value!r}")
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{name} must be a list, not {value!r}")
        if arguments[-1] is not Ellipsis and len(value) != len(arguments):
            raise ConfigError(f"{name} must have {len(arguments)} values, not {len(value)}")
        return tuple(_convert(arguments[0], v, f"{name}[{i}]") for i, v in enumerate(value))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is int and isinstance(value, float) and value.is_integer():  # 1e4, say
        return int(value)
    if isinstance(hint, types.GenericAlias) or type(value) is not hint:
        raise ConfigError(f"{name} must be of type {hint.__name__}, not {value!r}")
    if hint is float and not math.isfinite(value):
        raise ConfigError(f"{name} must be a finite number")
    return value
