"""Answers: what became of a request's items, in the form that `Accept` asked for.

JSON says of every item what happened to it. The other forms can't: where an item failed, they
are refused with its error, which then names the item.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import orjson
from starlette.responses import Response

from app.api.media_types import JSON, NPY
from app.api.problems import item_problem
from app.codecs.code_file import CodedFile, CodeFile
from app.codecs.grids import grids_to_npy
from app.codecs.npy import write_npy
from app.codecs.tess import MEDIA_TYPE as PACKED
from app.codecs.tess import pack_coded, pack_codes
from app.errors import NotAcceptable, TesseraError
from app.service.results import Bits, Item

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from app.codecs.code_file import CodedGrid, Precision
    from app.codecs.grids import CodeGrid
    from app.runtime.model import Model

# Packed, each code coded by its context.
CODED = f"{PACKED};coding=context"
CODE_FORMS = (JSON, PACKED, CODED, NPY)
VECTOR_FORMS = (JSON, NPY)


_T = TypeVar("_T")


def json_response(values: Any) -> Response:
    """JSON of plain values and of C-ordered NumPy arrays."""
    return Response(orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY), media_type=JSON)


def whole(items: Sequence[Item[_T]]) -> list[_T]:
    """All results, for forms that can't say that some failed.

    Raises:
        TesseraError: the error of the first item that failed, its detail naming the item.
    """
    results = []
    for item in items:
        if isinstance(item.value, TesseraError):
            if len(items) > 1:
                item.value.detail = f"item {item.index}: {item.value.detail}"
            raise item.value
        results.append(item.value)
    return results


def head(model: Model) -> dict[str, Any]:
    """What every answer in JSON says of the model."""
    return {"model": model.name, "code_space": model.manifest.code_space}


def entry_of(item: Item[Any]) -> dict[str, Any]:
    """What every answer in JSON says of an item: index, name, warnings, its error if it failed."""
    entry: dict[str, Any] = {"index": item.index}
    if item.name is not None:
        entry["name"] = item.name
    if item.warnings:
        entry["warnings"] = [
            {"code": warning.code, "detail": warning.detail} for warning in item.warnings
        ]
    if isinstance(item.value, TesseraError):
        entry["error"] = item_problem(item.value)
    return entry


# --- codes ---------------------------------------------------------------------------------


def codes_reply(
    form: str, model: Model, items: Sequence[Item[CodeGrid]], precision: Precision
) -> Response:
    """Codes as JSON, packed or npy.

    Args:
        form: media type, one of `CODE_FORMS`, but not coded by context.
        model: the model whose codes they are.
        items: one item for each image.
        precision: precision that the codes were made in.

    Raises:
        NotAcceptable: npy of grids that differ in shape, or packed ones that differ in stages.
        TesseraError: of a failed item, in a form that can't hold it.
    """
    if form == NPY:
        return Response(grids_to_npy(whole(items)), media_type=NPY)
    manifest = model.manifest
    if form == PACKED:
        grids = whole(items)
        file = CodeFile(
            manifest.code_space,
            manifest.codebook_size,
            manifest.stride,
            precision,
            grids,
            _residual_sizes(model, grids),
        )
        return Response(pack_codes(file), media_type=PACKED)
    data = []
    for item in items:
        entry = entry_of(item)
        if not isinstance(item.value, TesseraError):
            grid = item.value
            entry |= {
                "width": grid.width,
                "height": grid.height,
                "grid": grid.shape,
                # One stage alone goes without saying.
                **({"stages": grid.stages} if manifest.stages > 1 else {}),
                "codes": np.ascontiguousarray(grid.codes),
            }
        data.append(entry)
    return json_response({**head(model), "precision": precision, "data": data})


def _residual_sizes(model: Model, grids: Sequence[CodeGrid | CodedGrid]) -> tuple[int, ...]:
    """The sizes of the further stages that all of these grids have."""
    if len({grid.stages for grid in grids}) != 1:
        raise NotAcceptable(
            "one packed file holds only codes of as many stages: say how many, as stages=1, "
            "or ask for JSON"
        )
    return model.manifest.residual_sizes[: grids[0].stages - 1]


def coded_reply(model: Model, items: Sequence[Item[CodedGrid]], precision: Precision) -> Response:
    """Codes packed, each coded by its context.

    Args:
        model: whose codes they are, and whose prior coded them.
        items: one for each image.
        precision: what they were made in.

    Raises:
        NotAcceptable: they differ in stages.
        TesseraError: of a failed item.
    """
    manifest = model.manifest
    grids = whole(items)
    file = CodedFile(
        manifest.code_space,
        manifest.codebook_size,
        manifest.stride,
        precision,
        grids,
        _residual_sizes(model, grids),
    )
    return Response(pack_coded(file), media_type=CODED)


def bits_reply(model: Model, items: Sequence[Item[Bits]], *, with_map: bool) -> Response:
    """What codes cost, coded by their context, as JSON.

    Args:
        model: whose prior says so.
        items: one for each image or grid.
        with_map: whether to add what each code costs.
    """
    data = []
    for item in items:
        entry = entry_of(item)
        if not isinstance(item.value, TesseraError):
            found = item.value
            total = float(found.bits.sum(dtype=np.float64))
            entry |= {
                "width": found.width,
                "height": found.height,
                "bits": round(total, 2),
                "bits_per_code": round(total / found.bits.size, 4),
                "bits_per_pixel": round(total / (found.width * found.height), 6),
            }
            if with_map:
                entry["map"] = np.ascontiguousarray(found.bits.round(2))
        data.append(entry)
    return json_response({**head(model), "prior": model.prior_of().digest, "data": data})


# --- vectors -------------------------------------------------------------------------------


def vectors_reply(
    form: str,
    model: Model,
    items: Sequence[Item[NDArray[np.float32]]],
    encoding: str,
) -> Response:
    """Embeddings as JSON, of numbers or base64 of little-endian float32, or as npy.

    Args:
        form: media type, one of `VECTOR_FORMS`.
        model: the model that made the vectors.
        items: float32 `[e]` each.
        encoding: `float` or `base64`, for JSON.

    Raises:
        TesseraError: of a failed item, in npy.
    """
    if form == NPY:
        vectors = whole(items)
        return Response(write_npy(np.stack(vectors).astype("<f4")), media_type=NPY)
    data = []
    for item in items:
        entry = entry_of(item)
        if not isinstance(item.value, TesseraError):
            entry["embedding"] = (
                base64.b64encode(item.value.astype("<f4").tobytes()).decode()
                if encoding == "base64"
                else np.ascontiguousarray(item.value)
            )
        data.append(entry)
    return json_response({**head(model), "dimension": model.manifest.embedding_size, "data": data})
