"""The items of a request one by one, so that one fault harms no neighbour."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from app.errors import Internal, TesseraError, without_traceback
from app.service.results import Item

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

_T = TypeVar("_T")


async def each_by_itself(
    one: Callable[[Any], Awaitable[_T]], inputs: Sequence[tuple[int, Any]]
) -> list[Item[_T]]:
    """Run each item: it ends as a result or as an error of its own.

    Args:
        one: what is to be done with one item.
        inputs: position in the request and item; one that is an error already stays so.

    Raises:
        TesseraError: every item failed; the error of the first.
    """

    async def attempt(index: int, given: Any) -> Item[_T]:
        name = getattr(given, "name", None)
        try:
            if isinstance(given, TesseraError):
                raise given  # noqa: TRY301  (as if running it had failed)
            return Item(index, name, await one(given))
        except Exception as error:  # noqa: BLE001  (the batcher has logged it; neighbours go on)
            if not isinstance(error, TesseraError):
                error = Internal("the model failed on this item")
            return Item(index, name, without_traceback(error))

    if len(inputs) == 1:
        # A task more per request would cost a tenth of a small one.
        items = [await attempt(*inputs[0])]
    else:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(attempt(*pair)) for pair in inputs]
        items = [task.result() for task in tasks]
    first = items[0].value
    if isinstance(first, TesseraError) and all(
        isinstance(item.value, TesseraError) for item in items
    ):
        raise first
    return items
