"""Parquet files with a column of images, as Hugging Face's `datasets` writes them."""

from __future__ import annotations

import importlib.util
import io
from contextlib import ExitStack
from itertools import islice
from typing import TYPE_CHECKING, Any

from app.cli.failures import MISUSED, CommandFailed, install_hint
from app.cli.tokenize.entries import UNREADABLE, Skipped
from app.cli.tokenize.tars import Image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.cli.tokenize.storage import Storage

# Columns that hold images, by name, where several could.
_USUAL = ("image", "img", "jpg", "png", "webp", "picture", "photo")
_ROWS_AT_ONCE = 64
# Equal rows take next to nothing, but a number of rows that damage made can be any.
_MOST_ROWS_PER_BYTE = 1000
# What pyarrow raises over a damaged file.
_DAMAGE = (OSError, ValueError, TypeError, LookupError, NotImplementedError, MemoryError)


def scan(storage: Storage, file: str, keep: tuple[str, ...] = ()) -> Iterator[Image | Skipped]:
    """The images of a file, one for each row, without their contents: its footer alone is read.

    Args:
        storage: where the source's files are.
        file: name of the file.
        keep: columns that are kept.

    Raises:
        CommandFailed: pyarrow is missing, or no column holds images.
    """
    try:
        with storage.open(file) as handle:
            parquet = _opened(handle)
            _column(parquet.schema_arrow, file)
            _check_kept(parquet.schema_arrow, file, keep)
            rows = sum(_rows_of_groups(parquet.metadata))
            if rows > _MOST_ROWS_PER_BYTE * handle.seek(0, io.SEEK_END):
                raise ValueError("it can't have as many rows as it says")
    except _DAMAGE as error:
        yield Skipped(file, UNREADABLE, _reason(error))
        return
    for row in range(rows):
        yield Image(str(row), None)


def images(
    storage: Storage, file: str, start: int, end: int, keep: tuple[str, ...] = ()
) -> Iterator[Image]:
    """The images of the rows from `start` to the one before `end`, with their contents.

    A row is called by the path that it has for its image, if it has one, behind its number. Where
    a row group is damaged, the rows from there to its end have no content.

    Raises:
        CommandFailed: the file can't be opened as it could when it was scanned.
    """
    with ExitStack() as stack:
        try:
            parquet = _opened(stack.enter_context(storage.open(file)))
            column = _column(parquet.schema_arrow, file)
        except _DAMAGE as error:
            raise CommandFailed(f"{file}: {_reason(error)}; run the command again") from error
        first = 0
        for group, count in enumerate(_rows_of_groups(parquet.metadata)):
            past = first + count
            if first < end and past > start:
                rows = _rows_of_group(parquet, group, (first, past), column, keep)
                yield from islice(rows, max(0, start - first), min(end, past) - first)
            first = past


def _rows_of_groups(metadata: Any) -> list[int]:
    """How many rows each row group has."""
    groups = range(metadata.num_row_groups)
    return [max(0, metadata.row_group(group).num_rows) for group in groups]


def _rows_of_group(
    parquet: Any, group: int, rows: tuple[int, int], column: str, keep: tuple[str, ...]
) -> Iterator[Image]:
    """The rows of one row group, which are those from `rows[0]` to the one before `rows[1]`."""
    row, past = rows
    fault = "the file has fewer rows than it says"
    try:
        batches = parquet.iter_batches(
            _ROWS_AT_ONCE, row_groups=[group], columns=[column, *keep], use_threads=False
        )
        for batch in batches:
            for values in batch.to_pylist():
                kept = {name: values[name] for name in keep if values[name] is not None}
                yield _image(row, values[column], kept)
                row += 1
    except _DAMAGE as error:
        fault = f"the Parquet file is damaged: {_reason(error)}"
    for lost in range(row, past):
        yield Image(str(lost), None, fault)


def _reason(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def _opened(handle: Any) -> Any:
    if importlib.util.find_spec("pyarrow") is None:
        raise CommandFailed(f"Parquet files need pyarrow: {install_hint('pyarrow')}", MISUSED)
    import pyarrow.parquet as pq

    return pq.ParquetFile(handle)


def _column(schema: Any, file: str) -> str:
    """The column that holds images: bytes, or a structure that has `bytes`."""
    import pyarrow.types as types

    def holds_images(kind: Any) -> bool:
        if types.is_struct(kind):
            index = kind.get_field_index("bytes")
            return index >= 0 and holds_images(kind.field(index).type)
        return bool(types.is_binary(kind) or types.is_large_binary(kind))

    found = [field.name for field in schema if holds_images(field.type)]
    usual = [name for name in _USUAL if name in found]
    if len(found) != 1 and not usual:
        there = ", ".join(schema.names)
        raise CommandFailed(f"{file}: which column holds images? There are {there}")
    return str((usual or found)[0])


def _check_kept(schema: Any, file: str, keep: tuple[str, ...]) -> None:
    missing = [name for name in keep if name not in schema.names]
    if missing:
        there = ", ".join(schema.names)
        raise CommandFailed(f"--keep: {file} has no column {missing[0]}; there are {there}")


def _image(row: int, value: Any, kept: dict[str, Any]) -> Image:
    texts = {
        name: one if isinstance(one, bytes) else str(one).encode() for name, one in kept.items()
    }
    path = value.get("path") if isinstance(value, dict) else None
    content = value.get("bytes") if isinstance(value, dict) else value
    name = f"{row}/{path.rpartition('/')[2]}" if path else str(row)
    if content is None:
        fault = "the row names a file and has no bytes" if path else "the row has no image"
        return Image(name, None, fault, texts)
    return Image(name, content, "", texts)
