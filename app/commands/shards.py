"""Codes on disk for training other models: numbered shards, a manifest, a report.

::

    OUT/
      manifest.json   what the codes are of, how they were made, and how far it got
      00000.npy       codes of the first N images, uint16 (uint32 above 65,536 codes)
      00000.json      name, size and place of each of them
      00001.npy …
      broken.jsonl    at the end: the images that could not be read, and why

Where all images are resized to one size, a shard is one array `[n, rows, columns]`. Else it is
flat, row after row and image after image, and each image has an `offset`. NumPy maps both without
reading them, in any version and any language that knows the format: that, and that equal runs
give equal bytes, is why they are not Parquet.

A shard holds the images at fixed places of the source. It is written under another name, and
renamed when it is whole, `.npy` before `.json`: a shard whose `.json` is there is complete. So a
run that was killed goes on with the first shard that isn't, and ends with the very files of a run
that was not.
"""

from __future__ import annotations

import fcntl
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from app.commands.failures import CommandFailed
from app.commands.files import write_durably
from app.npy import write_npy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from app.codes import CodeGrid
    from app.errors import TesseraError

_FORMAT = "tessera-shards"
_FORMAT_VERSION = 1


class Shards:
    """A folder of shards that is being written.

    Args:
        folder: made if it isn't there.
        job: what decides the codes: model, code space, source, size; plain values for JSON.

    Attributes:
        done: shards that are complete.
        complete: whether all of them are.
        images, broken: in the complete ones.

    Raises:
        CommandFailed: the folder holds another job's shards, or something else.
    """

    def __init__(self, folder: Path, job: dict[str, Any]) -> None:
        self._folder = folder
        self._job = job
        self._manifest = folder / "manifest.json"
        self.complete = False
        self.done = self.images = self.broken = 0
        if self._manifest.is_file():
            self._continue()
        elif any(not path.name.startswith(".") for path in folder.iterdir()):
            raise CommandFailed(f"{folder}: is not empty, and holds no shards")
        else:
            self._write_manifest()

    def _continue(self) -> None:
        try:
            before = orjson.loads(self._manifest.read_bytes())
            job, self.complete = before["job"], before["complete"]
        except (ValueError, KeyError, TypeError) as error:
            raise CommandFailed(f"{self._manifest}: is not of shards") from error
        other = [key for key in self._job if job.get(key) != self._job[key]]
        if other:
            raise CommandFailed(
                f"{self._folder}: was begun with another {', '.join(other)}; "
                "go on as it was begun, or name another folder"
            )
        while self._path(self.done, "json").is_file():
            entries = orjson.loads(self._path(self.done, "json").read_bytes())
            self.images += len(entries["images"])
            self.broken += len(entries["broken"])
            self.done += 1
        for left in self._folder.glob(".*.*"):
            left.unlink()  # a half-written file of a run that was killed

    def write(
        self, grids: list[tuple[int, CodeGrid]], broken: list[tuple[int, str | None, TesseraError]]
    ) -> None:
        """Write the next shard.

        Args:
            grids: place in the source, and codes, of each image that could be read.
            broken: place, name and error of each that could not.
        """
        dtype = np.dtype("<u2" if self._job["codebook_size"] <= 2**16 else "<u4")
        images = []
        offset = 0
        for place, grid in grids:
            rows, columns = grid.codes.shape
            entry: dict[str, Any] = {"place": place, "name": grid.name}
            if self._job["size"] is None:
                entry |= {"width": grid.width, "height": grid.height}
                entry |= {"rows": rows, "columns": columns, "offset": offset}
            images.append(entry)
            offset += rows * columns
        if not grids:
            codes = np.empty(0, dtype)
        elif self._job["size"] is None:
            codes = np.concatenate([grid.codes.ravel() for _, grid in grids]).astype(dtype)
        else:
            codes = np.stack([grid.codes for _, grid in grids]).astype(dtype)
        entries = {
            "images": images,
            "broken": [
                {"place": place, "name": name, "code": error.code, "detail": error.detail}
                for place, name, error in broken
            ],
        }
        write_durably(self._path(self.done, "npy"), write_npy(codes))
        write_durably(self._path(self.done, "json"), orjson.dumps(entries) + b"\n")
        self.done += 1
        self.images += len(grids)
        self.broken += len(broken)

    def finish(self) -> None:
        """Write the report, and say in the manifest that all is there."""
        lines = []
        for index in range(self.done):
            entries = orjson.loads(self._path(index, "json").read_bytes())
            lines += [orjson.dumps(entry) + b"\n" for entry in entries["broken"]]
        if lines:
            write_durably(self._folder / "broken.jsonl", b"".join(lines))
        self.complete = True
        self._write_manifest()

    def _write_manifest(self) -> None:
        values = {
            "format": _FORMAT,
            "format_version": _FORMAT_VERSION,
            "complete": self.complete,
            **({"images": self.images, "broken": self.broken} if self.complete else {}),
            **({"shards": self.done} if self.complete else {}),
            "job": self._job,
        }
        text = orjson.dumps(values, option=orjson.OPT_INDENT_2) + b"\n"
        write_durably(self._manifest, text)

    def _path(self, index: int, kind: str) -> Path:
        return self._folder / f"{index:05}.{kind}"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder; it is made if it isn't there.

    Raises:
        CommandFailed: another run has it, or it can't be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise CommandFailed(f"{folder}: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise CommandFailed(f"{folder}: another run is writing to it") from error
        yield
