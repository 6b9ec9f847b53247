"""Parquet files with a column of images, as Hugging Face's `datasets` writes them."""

from __future__ import annotations

import importlib.util
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
            rows = parquet.metadata.num_rows
    except (OSError, ValueError) as error:
        yield Skipped(file, UNREADABLE, str(error).partition("\n")[0])
        return
    for row in range(rows):
        yield Image(str(row), None)


def images(
    storage: Storage, file: str, start: int, end: int, keep: tuple[str, ...] = ()
) -> Iterator[Image]:
    """The images of the rows from `start` to the one before `end`, with their contents.

    A row is called by the path that it has for its image, if it has one, behind its number.
    """
    with storage.open(file) as handle:
        parquet = _opened(handle)
        column = _column(parquet.schema_arrow, file)
        groups, first = _groups(parquet.metadata, start, end)
        batches = parquet.iter_batches(
            _ROWS_AT_ONCE, row_groups=groups, columns=[column, *keep], use_threads=False
        )
        for batch in batches:
            for values in batch.to_pylist():
                if start <= first < end:
                    kept = {name: values[name] for name in keep if values[name] is not None}
                    yield _image(first, values[column], kept)
                first += 1


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


def _groups(metadata: Any, start: int, end: int) -> tuple[list[int], int]:
    """The row groups that hold rows from `start` to `end`, and the first row of the first."""
    groups, first, at = [], 0, 0
    for index in range(metadata.num_row_groups):
        rows = metadata.row_group(index).num_rows
        if at + rows <= start:
            first = at + rows
        elif at < end:
            groups.append(index)
        at += rows
    return groups, first


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
