"""Codes on disk for training other models: numbered shards, a manifest, a report.

::

    OUT/
      manifest.json   what the codes are of, how they were made, and how far it got
      00000.npy       codes of the first N images, uint16 (uint32 above 65,536 codes)
      00000.json      name, size and place of each of them
      00001.npy …
      broken.jsonl    at the end: the images that could not be read, and why
      warnings.jsonl  at the end: the images that may look wrong, and why
      skipped.jsonl   at the end: what else the source holds, and what is wrong with it

Where all images are resized to one size, a shard is one array `[n, rows, columns]`, of several
stages `[n, stages, rows, columns]`. Else it is flat, row after row, stage after stage and image
after image, and each image has an `offset`. NumPy maps both without
reading them, in any version and any language that knows the format. With `--format parquet` a
shard is one file instead, `00000.parquet`, a row for each image, and with `--format webdataset`
`00000.tar` is in the place of `00000.npy`.

A shard holds the images at fixed places of the source. It is written under another name, and
renamed when it is whole, `.npy` before `.json`: a shard whose `.json` (or `.parquet`) is there is
complete. So a run that was killed makes those that aren't, and ends with the very files of a run
that was not; and several machines may write shards of one folder. Each shard says what it was made
of: names, sizes and times of the files. Where they have changed since, it is made anew.
"""

from __future__ import annotations

import fcntl
import importlib.util
import re
import shutil
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any

import orjson

from app.cli.failures import MISUSED, CommandFailed, install_hint
from app.cli.files import write_durably
from app.cli.tokenize.entries import DAMAGE, in_words, stored_name
from app.cli.tokenize.formats import NpyFiles, WebDatasetFiles
from app.cli.tokenize.partition import SKIPPED_FILE, fingerprint_of_part
from app.cli.tokenize.storage import located

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from app.cli.tokenize.formats import ShardContent, ShardFiles, Tally
    from app.cli.tokenize.partition import Cut

_FORMAT = "tessera-shards"
_FORMAT_VERSION = 1
_PARTS = ".parts"
# A name and password in an address, which go into no file.
_LOGIN = re.compile(r"://[^/@]*@")

# What the command line calls what a job has.
_OPTIONS = {
    "model": "--model",
    "precision": "--precision",
    "device": "--device",
    "size": "--size",
    "fit": "--fit",
    "shard_size": "--shard-size",
    "format": "--format",
    "keep": "--keep",
    "sample_bits": "--sample-bits",
    "stages": "--stages",
}


def shard_files(folder: Path, job: dict[str, Any]) -> ShardFiles:
    """The files of a folder's shards, in the form that the job names.

    Raises:
        CommandFailed: the form is Parquet, and pyarrow is missing.
    """
    if job["format"] == "npy":
        return NpyFiles(folder, job)
    if job["format"] == "webdataset":
        return WebDatasetFiles(folder, job)
    if importlib.util.find_spec("pyarrow") is None:
        raise CommandFailed(f"--format parquet needs pyarrow: {install_hint('pyarrow')}", MISUSED)
    from app.cli.tokenize.parquet import ParquetFiles

    return ParquetFiles(folder, job)


class Shards:
    """A folder of shards that is being written.

    Args:
        folder: made if it isn't there.
        job: what decides the codes: model, code space, precision, size, form; plain values for
            JSON.
        source: where the images are.

    Attributes:
        files: the shards' files.
        parts: hidden folder for what a run notes of its source; taken away at the end.
        complete: whether all shards are there.
        done, images, broken, warned: shards that are counted, and what they hold.

    Raises:
        CommandFailed: the folder holds another job's shards, or something else.
    """

    def __init__(self, folder: Path, job: dict[str, Any], source: str) -> None:
        self._folder = folder
        self._job = job
        self._manifest = folder / "manifest.json"
        self._path = stored_name(_LOGIN.sub("://", located(source)))
        self._before: dict[str, Any] = {}
        self._with_reports: list[int] = []
        self.files = shard_files(folder, job)
        self.parts = folder / _PARTS
        self.complete = False
        self.done = self.images = self.broken = self.warned = 0
        if self._manifest.is_file():
            self._check_same_job()
            self._clear()
        elif any(not path.name.startswith(".") for path in folder.iterdir()):
            raise CommandFailed(f"{folder}: is not empty, and holds no shards")
        else:
            self._write_manifest()

    def begin(self, source: Cut, *, strict: bool) -> bool:
        """Take up a source, and say whether there is anything to do.

        Args:
            source: as it is now.
            strict: whether damage in it is an error.

        Raises:
            CommandFailed: there is damage, and that is an error; or the shards that are there are
                of another source.
        """
        damage = {kind: source.skipped[kind] for kind in DAMAGE & source.skipped.keys()}
        if strict and damage:
            shutil.copyfile(self.parts / SKIPPED_FILE, self._folder / SKIPPED_FILE)
            raise CommandFailed(
                f"--strict: the source is damaged: {in_words(damage.items())}; "
                f"{self._folder / SKIPPED_FILE} names what"
            )
        if self.complete and self._before.get("fingerprint") == source.fingerprint:
            shutil.rmtree(self.parts, ignore_errors=True)
            return False
        self._check_same_source(source)
        if self.complete:
            self.complete = False
            self.done = self.images = self.broken = self.warned = 0
            self._write_manifest()
        return True

    def _check_same_source(self, source: Cut) -> None:
        """Refuse to replace shards of another source; of the same one that has changed, do it."""
        there = self._before.get("path", self._path)
        if there == self._path:
            return
        index = 0
        while self.files.source(index):
            if index >= source.parts or not self.is_current(index):
                raise CommandFailed(
                    f"{self._folder}: was begun with another source, {there}; "
                    "go on with that, or name another folder"
                )
            index += 1

    def is_current(self, index: int) -> bool:
        """Whether a shard is there, and made of what its part of the source holds now."""
        return self.files.source(index) == fingerprint_of_part(self.parts, index)

    def write(self, index: int, content: ShardContent) -> None:
        """Write a shard, as `ShardFiles.write`, and count it."""
        source = fingerprint_of_part(self.parts, index)
        self.count(index, self.files.write(index, content, source))

    def count(self, index: int, tally: Tally) -> None:
        """Take up a shard that is complete; once each, in any order."""
        self.done += 1
        self.images += tally.images
        self.broken += tally.broken
        self.warned += tally.warned
        if tally.broken or tally.warned:
            self._with_reports.append(index)

    def finish(self, source: Cut) -> None:
        """Write the reports, and say in the manifest that all is there.

        Args:
            source: what the shards are made of.
        """
        self._clear()
        beyond = source.parts
        while self.files.source(beyond):
            self.files.remove(beyond)
            beyond += 1
        for name in ("broken", "warnings"):
            self._write_report(f"{name}.jsonl", self._report(name))
        with (self.parts / SKIPPED_FILE).open("rb") as report:
            self._write_report(SKIPPED_FILE, report)
        self.complete = True
        self._write_manifest(source)
        shutil.rmtree(self.parts, ignore_errors=True)

    def _write_report(self, name: str, lines: Iterator[bytes]) -> None:
        """Write a report, or none where there is nothing to report."""
        first = next(lines, None)
        if first is None:
            (self._folder / name).unlink(missing_ok=True)
        else:
            write_durably(self._folder / name, chain([first], lines))

    def _report(self, name: str) -> Iterator[bytes]:
        for index in sorted(self._with_reports):
            for entry in self.files.reports(index)[name]:
                yield orjson.dumps(entry) + b"\n"

    def _check_same_job(self) -> None:
        try:
            before = orjson.loads(self._manifest.read_bytes())
            job, self.complete = before["job"], before["complete"]
            self._before = before.get("source", {})
            if self.complete:
                self.done, self.images = before["shards"], before["images"]
                self.broken, self.warned = before["broken"], before["warned"]
        except (ValueError, KeyError, TypeError) as error:
            raise CommandFailed(f"{self._manifest}: is not of shards") from error
        if "source" in job:
            raise CommandFailed(
                f"{self._folder}: was begun by an earlier version of Tessera, which noted its "
                "source otherwise; it can be read as before, but not gone on with: name another "
                "folder"
            )
        other = [key for key in self._job if job.get(key) != self._job[key]]
        if other:
            told = ", ".join(_setting(key, job.get(key), self._job[key]) for key in other)
            raise CommandFailed(
                f"{self._folder}: was begun with other settings: {told}; "
                "go on as it was begun, or name another folder"
            )

    def _clear(self) -> None:
        for left in self._folder.glob(".*.*"):
            left.unlink()  # a half-written file of a process that was killed

    def _write_manifest(self, source: Cut | None = None) -> None:
        values: dict[str, Any] = {
            "format": _FORMAT,
            "format_version": _FORMAT_VERSION,
            "complete": self.complete,
        }
        place = {"path": self._path}
        if source is not None:
            values |= {"images": self.images, "broken": self.broken, "warned": self.warned}
            values |= {"shards": self.done}
            values |= {"skipped": dict(sorted(source.skipped.items()))}
            place |= {"fingerprint": source.fingerprint}
        values |= {"source": place, "job": self._job}
        text = orjson.dumps(values, option=orjson.OPT_INDENT_2) + b"\n"
        write_durably(self._manifest, [text])


def _setting(key: str, before: Any, now: Any) -> str:
    """A setting that differs, as the command line names it, with both values."""
    name = _OPTIONS.get(key, key.replace("_", " "))
    return f"{name} {_value(before)} then, {_value(now)} now"


def _value(value: Any) -> str:
    if value is None or value == []:
        return "none"
    if isinstance(value, list):
        return ("x" if isinstance(value[0], int) else ",").join(map(str, value))
    return str(value)


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
