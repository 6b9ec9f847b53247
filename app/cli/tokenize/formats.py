"""The files of one shard, in either form: NumPy's beside a JSON file, or Parquet.

Both are written under another name and renamed when they are whole, and both have equal bytes for
equal images (Parquet: with the same version of pyarrow).
"""

from __future__ import annotations

import importlib.util
import re
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy as np
import orjson

from app.cli.failures import MISUSED, CommandFailed, install_hint
from app.cli.files import write_durably
from app.codecs.npy import write_npy
from app.codecs.tess import CodedGrid, coded_payload

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from app.codecs.grids import CodeGrid
    from app.errors import TesseraError

Form = Literal["npy", "parquet"]
Grids = list[tuple[int, "CodeGrid | CodedGrid"]]
Broken = list[tuple[int, "str | None", "TesseraError"]]

_JOB_KEY, _BROKEN_KEY, _SOURCE_KEY = b"tessera", b"tessera.broken", b"tessera.source"
_SOURCE = re.compile(rb'\{"source":"([0-9a-f]{64})"')
_SOURCE_BYTES = 80
_MOST_CODES = 2**31 - 1  # offsets of a Parquet list are 32 bits


class Tally(NamedTuple):
    """Images of a complete shard, and how many of its places hold none that could be read."""

    images: int
    broken: int


class ShardFiles(Protocol):
    """The files of a folder's shards, by the shard's number."""

    def source(self, index: int) -> str:
        """The fingerprint of what a complete shard was made of; empty if there is no such shard."""
        ...

    def write(self, index: int, grids: Grids, broken: Broken, source: str) -> Tally:
        """Write a shard, over one that is there.

        Args:
            index: its number.
            grids: place in the source, and codes, of each image that could be read.
            broken: place, name and error of each that could not.
            source: the fingerprint of what it is made of.
        """
        ...

    def remove(self, index: int) -> None:
        """Remove a shard; it need not be there."""
        ...

    def tally(self, index: int) -> Tally:
        """Count what a complete shard holds."""
        ...

    def broken(self, index: int) -> list[dict[str, Any]]:
        """What could not be read of a complete shard: place, name, code and detail of each."""
        ...


def shard_files(form: Form, folder: Path, job: Mapping[str, Any]) -> ShardFiles:
    """The files of a folder in that form.

    Args:
        form: `npy` or `parquet`.
        folder: of the shards.
        job: what decides the codes, as `Shards` has it.

    Raises:
        CommandFailed: `parquet` without pyarrow.
    """
    if form == "npy":
        return _NpyFiles(folder, job)
    if importlib.util.find_spec("pyarrow") is None:
        raise CommandFailed(f"--format parquet needs pyarrow: {install_hint('pyarrow')}", MISUSED)
    return _ParquetFiles(folder, job)


class _NpyFiles:
    def __init__(self, folder: Path, job: Mapping[str, Any]) -> None:
        self._folder = folder
        self._job = job

    def source(self, index: int) -> str:
        try:
            with self._path(index, "json").open("rb") as file:
                found = _SOURCE.match(file.read(_SOURCE_BYTES))
        except FileNotFoundError:
            return ""
        return found[1].decode() if found else ""

    def write(self, index: int, grids: Grids, broken: Broken, source: str) -> Tally:
        one_size = self._job["size"] is not None
        images = []
        offset = 0
        for place, grid in grids:
            rows, columns = _shape(grid)
            entry: dict[str, Any] = {"place": place, "name": grid.name}
            if not one_size:
                entry |= {"width": grid.width, "height": grid.height}
                entry |= {"rows": rows, "columns": columns, "offset": offset}
            images.append(entry)
            offset += rows * columns
        dtype = _code_dtype(self._job)
        codes = (
            np.stack([_plain(grid).codes for _, grid in grids]).astype(dtype)
            if one_size and grids
            else _flat(grids, dtype)
        )
        # The source comes first: it is read alone.
        entries = {"source": source, "images": images, "broken": _entries(broken)}
        # `.npy` first: where the `.json` is, the shard is whole, and of the source that it names.
        self._path(index, "json").unlink(missing_ok=True)
        write_durably(self._path(index, "npy"), [write_npy(codes)])
        write_durably(self._path(index, "json"), [orjson.dumps(entries) + b"\n"])
        return Tally(len(grids), len(broken))

    def tally(self, index: int) -> Tally:
        entries = self._entries(index)
        return Tally(len(entries["images"]), len(entries["broken"]))

    def broken(self, index: int) -> list[dict[str, Any]]:
        return list(self._entries(index)["broken"])

    def remove(self, index: int) -> None:
        for kind in ("json", "npy"):
            self._path(index, kind).unlink(missing_ok=True)

    def _entries(self, index: int) -> Any:
        return orjson.loads(self._path(index, "json").read_bytes())

    def _path(self, index: int, kind: str) -> Path:
        return self._folder / f"{index:05}.{kind}"


class _ParquetFiles:
    """One row an image; the job, and what is broken, in the file's metadata."""

    def __init__(self, folder: Path, job: Mapping[str, Any]) -> None:
        self._folder = folder
        self._job = job

    def source(self, index: int) -> str:
        try:
            return str(self._metadata(index).metadata.get(_SOURCE_KEY, b"").decode())
        except FileNotFoundError:
            return ""

    def write(self, index: int, grids: Grids, broken: Broken, source: str) -> Tally:
        import pyarrow as pa
        import pyarrow.parquet as pq

        shapes = np.array([_shape(grid) for _, grid in grids], np.int32).reshape(-1, 2)
        by_context = self._job.get("coding") == "context"
        table = pa.table(
            {
                "place": pa.array([place for place, _ in grids], pa.int64()),
                "name": pa.array([grid.name for _, grid in grids], pa.string()),
                "width": pa.array([grid.width for _, grid in grids], pa.int32()),
                "height": pa.array([grid.height for _, grid in grids], pa.int32()),
                "rows": pa.array(shapes[:, 0]),
                "columns": pa.array(shapes[:, 1]),
                **(self._coded(grids) if by_context else self._codes(grids, shapes)),
            }
        ).replace_schema_metadata(
            {
                _JOB_KEY: orjson.dumps(dict(self._job)),
                _BROKEN_KEY: orjson.dumps(_entries(broken)),
                _SOURCE_KEY: source.encode(),
            }
        )
        sink = pa.BufferOutputStream()
        # With a dictionary, a code takes as many bits as the codebook needs, 12 of 4,096.
        pq.write_table(
            table,
            sink,
            # What is coded can't be made smaller.
            compression="none" if by_context else "zstd",
            use_dictionary=not by_context,
        )
        write_durably(self._path(index), [sink.getvalue().to_pybytes()])
        return Tally(len(grids), len(broken))

    def _codes(self, grids: Grids, shapes: NDArray[Any]) -> dict[str, Any]:
        import pyarrow as pa

        codes = _flat(grids, _code_dtype(self._job))
        if codes.size > _MOST_CODES:
            raise CommandFailed(f"a shard of {codes.size:,} codes: choose a smaller --shard-size")
        ends = np.cumsum(np.prod(shapes, axis=1, dtype=np.int64))
        offsets = np.concatenate([[0], ends]).astype(np.int32)
        return {"codes": pa.ListArray.from_arrays(pa.array(offsets), pa.array(codes))}

    def _coded(self, grids: Grids) -> dict[str, Any]:
        import pyarrow as pa

        payloads = [coded_payload(grid) for _, grid in grids if isinstance(grid, CodedGrid)]
        return {"payload": pa.array(payloads, pa.large_binary())}

    def tally(self, index: int) -> Tally:
        metadata = self._metadata(index)
        return Tally(metadata.num_rows, len(orjson.loads(metadata.metadata[_BROKEN_KEY])))

    def broken(self, index: int) -> list[dict[str, Any]]:
        return list(orjson.loads(self._metadata(index).metadata[_BROKEN_KEY]))

    def remove(self, index: int) -> None:
        self._path(index).unlink(missing_ok=True)

    def _metadata(self, index: int) -> Any:
        import pyarrow.parquet as pq

        return pq.read_metadata(self._path(index))

    def _path(self, index: int) -> Path:
        return self._folder / f"{index:05}.parquet"


def _shape(grid: CodeGrid | CodedGrid) -> tuple[int, ...]:
    return grid.shape if isinstance(grid, CodedGrid) else grid.codes.shape


def _code_dtype(job: Mapping[str, Any]) -> np.dtype[Any]:
    return np.dtype("<u2" if job["codebook_size"] <= 2**16 else "<u4")


def _flat(grids: Grids, dtype: np.dtype[Any]) -> NDArray[Any]:
    """All codes, row after row and image after image."""
    if not grids:
        return np.empty(0, dtype)
    return np.concatenate([_plain(grid).codes.ravel() for _, grid in grids]).astype(dtype)


def _plain(grid: CodeGrid | CodedGrid) -> CodeGrid:
    if isinstance(grid, CodedGrid):
        raise TypeError("codes that are coded by their context go into Parquet alone")
    return grid


def _entries(broken: Broken) -> list[dict[str, Any]]:
    return [
        {"place": place, "name": name, "code": error.code, "detail": error.detail}
        for place, name, error in broken
    ]
