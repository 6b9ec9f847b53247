"""Shards as Parquet: one file each, a row for each image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from app.cli.failures import CommandFailed
from app.cli.files import write_durably
from app.cli.tokenize.formats import Tally, code_dtype, flat_codes
from app.codecs.code_file import CodedGrid
from app.codecs.tess import coded_payload

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from app.cli.tokenize.formats import ShardContent

_JOB_KEY, _SOURCE_KEY = b"tessera", b"tessera.source"
_REPORTS = {"broken": b"tessera.broken", "warnings": b"tessera.warnings"}
_MOST_CODES = 2**31 - 1  # offsets of a Parquet list are 32 bits


class ParquetFiles:
    """One row an image; the job, the source and the reports in the file's metadata."""

    def __init__(self, folder: Path, job: Mapping[str, Any]) -> None:
        self._folder = folder
        self._job = job

    def source(self, index: int) -> str:
        """As `ShardFiles.source`."""
        try:
            return str(self._metadata(index).metadata.get(_SOURCE_KEY, b"").decode())
        except FileNotFoundError:
            return ""

    def write(self, index: int, content: ShardContent, source: str) -> Tally:
        """As `ShardFiles.write`."""
        by_context = self._job.get("coding") == "context"
        grids = [image.grid for image in content.images]
        shapes = np.array([grid.shape for grid in grids], np.int32).reshape(-1, 2)
        kept = {
            ending: pa.array([image.kept.get(ending) for image in content.images], pa.string())
            for ending in self._job["keep"] or ()
        }
        table = pa.table(
            {
                "place": pa.array([image.place for image in content.images], pa.int64()),
                "name": pa.array([grid.name for grid in grids], pa.string()),
                "width": pa.array([grid.width for grid in grids], pa.int32()),
                "height": pa.array([grid.height for grid in grids], pa.int32()),
                "rows": pa.array(shapes[:, 0]),
                "columns": pa.array(shapes[:, 1]),
                # One stage alone goes without saying.
                **(
                    {"stages": pa.array([grid.stages for grid in grids], pa.int32())}
                    if "stages" in self._job
                    else {}
                ),
                **(self._coded(content) if by_context else self._codes(content, shapes)),
                **kept,
            }
        ).replace_schema_metadata(
            {
                _JOB_KEY: orjson.dumps(dict(self._job)),
                **{_REPORTS[name]: orjson.dumps(one) for name, one in content.reports().items()},
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
        return content.tally

    def _codes(self, content: ShardContent, shapes: NDArray[np.int32]) -> dict[str, Any]:
        codes = flat_codes(content, code_dtype(self._job))
        if codes.size > _MOST_CODES:
            raise CommandFailed(f"a shard of {codes.size:,} codes: choose a smaller --shard-size")
        stages = self._job.get("stages", 1)
        ends = np.cumsum(stages * np.prod(shapes, axis=1, dtype=np.int64))
        offsets = np.concatenate([[0], ends]).astype(np.int32)
        return {"codes": pa.ListArray.from_arrays(pa.array(offsets), pa.array(codes))}

    def _coded(self, content: ShardContent) -> dict[str, Any]:
        grids = [image.grid for image in content.images]
        payloads = [coded_payload(grid) for grid in grids if isinstance(grid, CodedGrid)]
        return {"payload": pa.array(payloads, pa.large_binary())}

    def remove(self, index: int) -> None:
        """As `ShardFiles.remove`."""
        self._path(index).unlink(missing_ok=True)

    def tally(self, index: int) -> Tally:
        """As `ShardFiles.tally`."""
        reports = self.reports(index)
        warned = len({entry["place"] for entry in reports["warnings"]})
        return Tally(self._metadata(index).num_rows, len(reports["broken"]), warned)

    def reports(self, index: int) -> dict[str, list[dict[str, Any]]]:
        """As `ShardFiles.reports`."""
        metadata = self._metadata(index).metadata
        return {name: orjson.loads(metadata[key]) for name, key in _REPORTS.items()}

    def _metadata(self, index: int) -> Any:
        return pq.read_metadata(self._path(index))

    def _path(self, index: int) -> Path:
        return self._folder / f"{index:05}.parquet"
