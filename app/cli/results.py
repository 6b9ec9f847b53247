"""What commands print with --json: the API's own answers, for all items of a command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from tessera_client import Classification, Codes, ServerError

Names = list[str | None]


def codes_json(
    facts: Mapping[str, Any], codes: Codes, names: Names, failed: Mapping[int, ServerError]
) -> bytes:
    """Codes as `POST /v1/encode` answers with them.

    Args:
        facts: what the service says of the model that made them.
        codes: of the pictures that didn't fail.
        names: of all pictures.
        failed: the others' errors by index.
    """
    several = len(facts.get("stages", ())) > 1
    found = [
        {
            "width": grid.width,
            "height": grid.height,
            "grid": grid.codes.shape[-2:],
            # One stage alone goes without saying.
            **({"stages": grid.stages} if several else {}),
            "codes": np.ascontiguousarray(grid.codes),
        }
        for grid in codes
    ]
    return _line(
        {
            "model": facts["name"],
            "code_space": codes.code_space,
            "precision": codes.precision,
            "data": _entries(found, names, failed),
        }
    )


def vectors_json(
    facts: Mapping[str, Any],
    vectors: NDArray[np.float32],
    names: Names,
    failed: Mapping[int, ServerError],
) -> bytes:
    """Vectors as `POST /v1/embed` answers with them.

    Args:
        facts: what the service says of the model that made them.
        vectors: float32 `[n, e]` of the items that didn't fail.
        names: of all items.
        failed: the others' errors by index.
    """
    return _line(
        {
            "model": facts["name"],
            "code_space": facts["code_space"],
            "dimension": facts["embedding_dimension"],
            "data": _entries([{"embedding": vector} for vector in vectors], names, failed),
        }
    )


def labels_json(
    facts: Mapping[str, Any],
    found: Sequence[Classification],
    names: Names,
    failed: Mapping[int, ServerError],
) -> bytes:
    """Labels as `POST /v1/classify` answers with them.

    Args:
        facts: what the service says of the model that has the recognizer.
        found: the labels of the items that didn't fail.
        names: of all items.
        failed: the others' errors by index.
    """
    head = {"model": facts["name"], "code_space": facts["code_space"]}
    if found:
        head["recognizer"] = found[0].recognizer
    return _line({**head, "data": _entries([_labels(one) for one in found], names, failed)})


def _labels(found: Classification) -> dict[str, Any]:
    labels = [{"label": one.label, "probability": one.probability} for one in found.labels]
    if found.map is None:
        return {"labels": labels}
    return {"labels": labels, "map": np.ascontiguousarray(found.map), "box": found.box}


def _entries(
    found: Sequence[Mapping[str, Any]], names: Names, failed: Mapping[int, ServerError]
) -> list[dict[str, Any]]:
    rest = iter(found)
    entries = []
    for index, name in enumerate(names):
        entry: dict[str, Any] = {"index": index}
        if name is not None:
            entry["name"] = name
        if index in failed:
            error = failed[index]
            entry["error"] = {
                "code": error.code,
                "status": error.status,
                "detail": error.detail,
            }
        else:
            entry |= next(rest)
        entries.append(entry)
    return entries


def _line(values: Mapping[str, Any]) -> bytes:
    return orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)
