"""Files of codes, in the three forms that encoding gives them: .tess, .npy and .json."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

import numpy as np
import orjson

from app.cli.failures import CommandFailed
from app.codecs.grids import grid_from_rows, grids_from_npy
from app.codecs.npy import write_npy
from app.errors import TesseraError
from tessera_client import Codes, CodesError, Grid

if TYPE_CHECKING:
    from app.codecs.grids import CodeGrid
    from tessera_client import Client

CodeForm = Literal["tess", "npy", "json"]

# Where a .tess file says how its codes are coded (docs/codes-format.md), and what it says there.
_METHOD, _BY_CONTEXT = 10, b"\1"

# No limits: a file is its owner's.
_ANY = 2**32


def form_of_codes(start: bytes) -> CodeForm | None:
    """The form of codes, judged by their first bytes; None if they are no codes."""
    if start.startswith(b"\x89TESS"):
        return "tess"
    if start.startswith(b"\x93NUMPY"):
        return "npy"
    return "json" if start.lstrip()[:1] == b"{" else None


def read_codes(content: bytes, name: str, client: Client, model: str | None) -> Codes:
    """The codes in a file.

    Args:
        content: all of the file.
        name: what messages call it.
        client: a client of the service that has the codes' model.
        model: the model that was named; for .npy, which doesn't say whose codes it holds, None
            is the default model.

    Raises:
        CommandFailed: the file can't be read, or no model has its code space.
    """
    form = form_of_codes(content)
    try:
        if form == "tess":
            if content[_METHOD : _METHOD + 1] == _BY_CONTEXT:
                content = client.recode(content, "fixed")
            return Codes.from_bytes(content)
        if form == "npy":
            facts = model_facts(client, model)
            grids = grids_from_npy(
                content,
                codebook_size=facts["codebook_size"],
                residual_sizes=_residual_sizes(facts),
                stride=facts["stride"],
                max_images=_ANY,
                max_pixels=_ANY,
            )
            return _codes(facts, "unknown", grids)
        if form == "json":
            return _codes_of_json(content, client, model)
    except (CodesError, TesseraError) as error:
        raise CommandFailed(f"{name}: {error}") from error
    raise CommandFailed(f"{name}: is none of .tess, .npy and .json")


def model_facts(client: Client, model: str | None, of: object = None) -> dict[str, Any]:
    """What the service says of the model that a request means.

    Args:
        client: a client of the service.
        model: the model that was named; None is the default one, or that of the codes.
        of: what is sent: where they are codes, their model.

    Raises:
        CommandFailed: no model has the codes' space, or not the one that was named.
    """
    if isinstance(of, Codes):
        return _facts_of_space(client, of.code_space, model)
    if model is None:
        model = client.request("GET", "/v1/models").json()["default"]
    facts: dict[str, Any] = client.request("GET", f"/v1/models/{quote(str(model))}").json()
    return facts


def _facts_of_space(client: Client, code_space: str, model: str | None) -> dict[str, Any]:
    answer = client.request("GET", "/v1/models").json()
    # The default first, as the service itself chooses.
    listed = sorted(answer["data"], key=lambda facts: answer["default"] not in facts["aliases"])
    for facts in listed:
        if facts["code_space"] == code_space and model in {None, facts["id"], facts["name"]}:
            return dict(facts)
    there = ", ".join(f"{facts['id']} ({facts['code_space'][:16]}…)" for facts in listed)
    whose = "no model here" if model is None else f"not {model}"
    raise CommandFailed(
        f"the codes are of code space {code_space[:16]}…, which {whose} has; there is {there}"
    )


def _codes_of_json(content: bytes, client: Client, model: str | None) -> Codes:
    try:
        answer = orjson.loads(content)
        code_space, items = answer["code_space"], answer["data"]
        # What encoding couldn't do has no codes.
        items = [item for item in items if "codes" in item]
    except (ValueError, KeyError, TypeError) as error:
        raise CodesError("is not JSON of codes, as encode --format json writes it") from error
    if not items:
        raise CodesError("holds no codes")
    facts = _facts_of_space(client, code_space, model)
    grids = [
        grid_from_rows(
            item["codes"],
            width=item.get("width"),
            height=item.get("height"),
            name=item.get("name"),
            codebook_size=facts["codebook_size"],
            residual_sizes=_residual_sizes(facts),
            stride=facts["stride"],
            max_pixels=_ANY,
        )
        for item in items
    ]
    return _codes(facts, answer.get("precision", "unknown"), grids)


def _residual_sizes(facts: dict[str, Any]) -> tuple[int, ...]:
    # A service of an earlier version knows one stage, and says nothing of it.
    return tuple(stage["codebook_size"] for stage in facts.get("stages", [])[1:])


def _codes(facts: dict[str, Any], precision: str, grids: list[CodeGrid]) -> Codes:
    if len({grid.stages for grid in grids}) > 1:
        raise CodesError("holds codes of different numbers of stages")
    return Codes(
        facts["code_space"],
        facts["codebook_size"],
        facts["stride"],
        precision,
        tuple(Grid(grid.codes, grid.width, grid.height, grid.name) for grid in grids),
        _residual_sizes(facts)[: grids[0].stages - 1],
    )


def stacked(codes: Codes) -> bytes:
    """Codes as .npy: int64 `[n, rows, columns]`, of several stages `[n, stages, rows, columns]`.

    Raises:
        CommandFailed: the grids differ in shape, so that no one array holds them.
    """
    if len({grid.codes.shape for grid in codes}) != 1:
        raise CommandFailed(
            "one .npy holds only codes of pictures of one size: add --size, or write .tess or .json"
        )
    return write_npy(np.stack([grid.codes for grid in codes]).astype("<i8"))
