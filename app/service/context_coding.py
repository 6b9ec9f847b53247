"""Context coding in the queue: what is run for items of one model, one kind and one shape."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

from app.codecs.context_coder import bits_of_grids, code_grids, decode_grids
from app.errors import MalformedRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from app.codecs.code_file import CodedGrid
    from app.codecs.context_coder import Prior
    from app.runtime.model import Model
    from app.runtime.operations import Operation


class ContextCoding(Enum):
    """What is done to an item; codes are `[rows, columns]` or `[stages, rows, columns]`."""

    CODE = "codes to bytes"
    DECODE = "a coded grid to codes, or to the error that is this item's alone"
    BITS = "codes to what each costs: float32 of their shape"


def run_operation(
    model: Model, operation: Operation | ContextCoding, batch: list[Any], *, exclusive: bool = True
) -> list[Any]:
    """Run what the queue hands out: an operation of the model's graphs, or of its prior."""
    if isinstance(operation, ContextCoding):
        return run_context_coding(operation, model.prior_of(), batch)
    return model.run(operation, batch, exclusive=exclusive)


def run_context_coding(operation: ContextCoding, prior: Prior, batch: Sequence[Any]) -> list[Any]:
    """Run one operation on items of one shape; a result for each, in order."""
    if operation is ContextCoding.DECODE:
        return _decode(prior, batch)
    grids = [_with_stages(codes) for codes in batch]
    if operation is ContextCoding.CODE:
        return code_grids(prior, grids)
    bits = bits_of_grids(prior, grids)
    return [found.reshape(codes.shape) for found, codes in zip(bits, batch, strict=True)]


def _decode(prior: Prior, batch: Sequence[CodedGrid]) -> list[Any]:
    try:
        made = decode_grids(prior, [(grid.data, grid.shape) for grid in batch], batch[0].stages)
    except MalformedRequest as error:
        if len(batch) == 1:
            return [error.with_traceback(None)]
        return [result for grid in batch for result in _decode(prior, [grid])]
    return [codes[0] if len(codes) == 1 else codes for codes in made]


def _with_stages(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    return codes if codes.ndim == 3 else codes[None]
