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
reading them, in any version and any language that knows the format. With `--format parquet` a
shard is one file instead, `00000.parquet`, a row for each image.

A shard holds the images at fixed places of the source. It is written under another name, and
renamed when it is whole, `.npy` before `.json`: a shard whose `.json` (or `.parquet`) is there is
complete. So a run that was killed goes on with the first shard that isn't, and ends with the very
files of a run that was not; and several machines may write shards of one folder.
"""

from __future__ import annotations

import fcntl
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import orjson

from app.cli.failures import CommandFailed
from app.cli.files import write_durably
from app.cli.tokenize.formats import shard_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from app.cli.tokenize.formats import Broken, Grids, Tally

_FORMAT = "tessera-shards"
_FORMAT_VERSION = 1
_PARTS = ".parts"

# What the command line calls what a job has.
_OPTIONS = {
    "model": "--model",
    "precision": "--precision",
    "device": "--device",
    "size": "--size",
    "fit": "--fit",
    "shard_size": "--shard-size",
    "format": "--format",
}


class Shards:
    """A folder of shards that is being written.

    Args:
        folder: made if it isn't there.
        job: what decides the codes: model, code space, precision, source, size, form; plain
            values for JSON.

    Attributes:
        files: the shards' files.
        parts: hidden folder for what a run notes of its source; taken away at the end.
        complete: whether all shards are there.
        done, images, broken: shards that are counted, and what they hold.

    Raises:
        CommandFailed: the folder holds another job's shards, or something else.
    """

    def __init__(self, folder: Path, job: dict[str, Any]) -> None:
        self._folder = folder
        self._job = job
        self._manifest = folder / "manifest.json"
        self._with_broken: list[int] = []
        self.files = shard_files(job["format"], folder, job)
        self.parts = folder / _PARTS
        self.complete = False
        self.done = self.images = self.broken = 0
        if self._manifest.is_file():
            self._check_same_job()
            self._clear()
        elif any(not path.name.startswith(".") for path in folder.iterdir()):
            raise CommandFailed(f"{folder}: is not empty, and holds no shards")
        else:
            self._write_manifest()

    def resume(self) -> None:
        """Count the shards that are complete, up to the first that isn't."""
        while not self.complete and self.files.has(self.done):
            self.count(self.done, self.files.tally(self.done))

    def write(self, grids: Grids, broken: Broken) -> None:
        """Write the next shard, as `ShardFiles.write`."""
        self.count(self.done, self.files.write(self.done, grids, broken))

    def count(self, index: int, tally: Tally) -> None:
        """Take up a shard that is complete; once each, in any order."""
        self.done += 1
        self.images += tally.images
        self.broken += tally.broken
        if tally.broken:
            self._with_broken.append(index)

    def finish(self) -> None:
        """Write the report, and say in the manifest that all is there."""
        self._clear()
        if self._with_broken:
            write_durably(self._folder / "broken.jsonl", self._report())
        self.complete = True
        self._write_manifest()
        shutil.rmtree(self.parts, ignore_errors=True)

    def _report(self) -> Iterator[bytes]:
        for index in sorted(self._with_broken):
            for entry in self.files.broken(index):
                yield orjson.dumps(entry) + b"\n"

    def _check_same_job(self) -> None:
        try:
            before = orjson.loads(self._manifest.read_bytes())
            job, self.complete = before["job"], before["complete"]
            if self.complete:
                self.done, self.images = before["shards"], before["images"]
                self.broken = before["broken"]
        except (ValueError, KeyError, TypeError) as error:
            raise CommandFailed(f"{self._manifest}: is not of shards") from error
        other = [key for key in self._job if job.get(key) != self._job[key]]
        if "source" in other:
            raise CommandFailed(
                f"{self._folder}: was begun with another source, or with the same before files "
                "in it were added, taken away or changed; name another folder"
            )
        if other:
            told = ", ".join(_setting(key, job.get(key), self._job[key]) for key in other)
            raise CommandFailed(
                f"{self._folder}: was begun with other settings: {told}; "
                "go on as it was begun, or name another folder"
            )

    def _clear(self) -> None:
        for left in self._folder.glob(".*.*"):
            left.unlink()  # a half-written file of a process that was killed

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
        write_durably(self._manifest, [text])


def _setting(key: str, before: Any, now: Any) -> str:
    """A setting that differs, as the command line names it, with both values."""
    name = _OPTIONS.get(key, key.replace("_", " "))
    return f"{name} {_value(before)} then, {_value(now)} now"


def _value(value: Any) -> str:
    if isinstance(value, list):
        return "x".join(map(str, value))
    return "none" if value is None else str(value)


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
