"""A source cut into the parts that shards are made of, each of which any machine can do alone.

A part is a small file that lists a shard's images: names of files, or stretches of archives, which
are tar or Parquet files. The parts are written as the source is listed, so that a thousand million
names are never in memory; of archives it is enough to know how many images each has. What the
source holds besides images is written beside the parts.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from app.cli.failures import CommandFailed
from app.cli.tokenize.entries import SIDECAR, Skipped, counted, stored_name
from app.cli.tokenize.sources import (
    Found,
    is_archive,
    scan_archive,
    stored_file,
    stored_members,
    survey,
)
from app.cli.tokenize.storage import storage_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from app.cli.tokenize.sources import Stored

SKIPPED_FILE = "skipped.jsonl"

# An archive with its size and version, and the first and last but one of its images.
_Stretch = tuple[str, int, int | str, int, int]


@dataclass(slots=True)
class Cut:
    """A source that has been cut.

    Attributes:
        images: how many images it has.
        parts: how many parts it has been cut into.
        skipped: how many entries of each kind it holds that aren't encoded.
        fingerprint: SHA-256, hexadecimal, over those of the parts: another where the source is.
    """

    images: int = 0
    parts: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class ArchiveContents:
    """What a tar file or Parquet file holds.

    Attributes:
        images: how many images.
        kinds: how many other entries of each kind.
        skipped: those of them that are to be named, and what is wrong with the file.
    """

    images: int
    kinds: Counter[str]
    skipped: list[Skipped]


def contents_of(place: str, archive: str, keep: tuple[str, ...] = ()) -> ArchiveContents:
    """Look through a tar or Parquet file: headers or footer alone, unless a tar is compressed."""
    images = 0
    skipped = []
    for entry in scan_archive(storage_at(place), archive, keep):
        if isinstance(entry, Skipped):
            skipped.append(entry)
        else:
            images += 1
    named = [one for one in skipped if one.kind != SIDECAR]
    return ArchiveContents(images, counted(skipped), named)


def cut(
    source: str,
    folder: Path,
    shard_size: int,
    contents: Callable[[str, list[str], tuple[str, ...]], Iterable[ArchiveContents]],
    keep: tuple[str, ...] = (),
) -> Cut:
    """List a source, and write its parts.

    Args:
        source: as in `survey`.
        folder: for the parts; made if it isn't there.
        shard_size: images of a part; the last may have fewer.
        contents: given a storage's place, names of archives in it and `keep`, what each holds, in
            their order.
        keep: endings of the files that are kept of each image's sample.

    Raises:
        CommandFailed: as `survey`.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    storage, entries = survey(source, keep)
    place = storage.place
    made, digest = Cut(), hashlib.sha256()
    with (folder / SKIPPED_FILE).open("w", encoding="utf-8") as report:
        found = _found(entries, made, report)
        first = next(found, None)
        if first is None:
            return made  # not reached: `survey` raises
        if is_archive(first.name):
            listed = [first, *found]
            held = contents(place, [archive.name for archive in listed], keep)
            stretches = _stretches(listed, held, made, report)
            for part in _filled(stretches, shard_size):
                digest.update(_write(folder, made, {"place": place, "archives": part}))
        else:
            names = _chain(first, found)
            while files := list(islice(names, shard_size)):
                made.images += len(files)
                digest.update(_write(folder, made, {"place": place, "files": files}))
    made.fingerprint = digest.hexdigest()
    return made


def images_of_part(folder: Path, index: int, keep: tuple[str, ...] = ()) -> Iterator[Stored]:
    """The images of a part, in their order.

    Args:
        folder: of the parts.
        index: of the part.
        keep: as in `cut`.

    Raises:
        CommandFailed: an archive has fewer images than when it was counted.
    """
    part = _read(folder, index)
    storage = storage_at(part["place"])
    for name, _, _, kept in part.get("files", ()):
        yield stored_file(storage, name, [ending for ending, _, _ in kept])
    for archive, _, _, start, end in part.get("archives", ()):
        missing = end - start
        for image in stored_members(storage, archive, start, end, keep):
            missing -= 1
            yield image
        if missing:
            raise CommandFailed(f"{archive}: was changed while it was read; run the command again")


def count_of_part(folder: Path, index: int) -> int:
    """How many images a part has."""
    part = _read(folder, index)
    in_archives: int = sum(end - start for *_, start, end in part.get("archives", ()))
    return len(part.get("files", ())) + in_archives


def fingerprint_of_part(folder: Path, index: int) -> str:
    """SHA-256, hexadecimal, over names, sizes and versions of a part's files.

    It is another where a file was replaced, added or taken away. Where the source itself lies
    doesn't matter.
    """
    return _fingerprint(_read(folder, index))


def _found(entries: Iterator[Found | Skipped], made: Cut, report: IO[str]) -> Iterator[Found]:
    for entry in entries:
        if isinstance(entry, Found):
            yield entry
            continue
        made.skipped[entry.kind] += 1
        if entry.kind != SIDECAR:
            _report(report, entry)


def _report(report: IO[str], skipped: Skipped) -> None:
    entry = {"name": stored_name(skipped.name), "kind": skipped.kind}
    if skipped.detail:
        entry["detail"] = stored_name(skipped.detail)
    report.write(json.dumps(entry, ensure_ascii=False) + "\n")


def _chain(first: Found, rest: Iterator[Found]) -> Iterator[Found]:
    yield first
    yield from rest


def _stretches(
    listed: list[Found], contents: Iterable[ArchiveContents], made: Cut, report: IO[str]
) -> Iterator[tuple[Found, int]]:
    """Each archive and how many images it has."""
    for found, there in zip(listed, contents, strict=True):
        made.images += there.images
        made.skipped.update(there.kinds)
        for skipped in there.skipped:
            _report(report, skipped)
        yield found, there.images


def _filled(counts: Iterator[tuple[Found, int]], shard_size: int) -> Iterator[list[_Stretch]]:
    part: list[_Stretch] = []
    room = shard_size
    for archive, count in counts:
        start = 0
        while start < count:
            end = min(count, start + room)
            part.append((archive.name, archive.size, archive.version, start, end))
            room -= end - start
            start = end
            if not room:
                yield part
                part, room = [], shard_size
    if part:
        yield part


def _write(folder: Path, made: Cut, part: dict[str, Any]) -> bytes:
    """Write a part, and return its fingerprint."""
    # Not orjson: names of files need not be UTF-8, and this one keeps them.
    _path(folder, made.parts).write_text(json.dumps(part))
    made.parts += 1
    return _fingerprint(part).encode()


def _fingerprint(part: dict[str, Any]) -> str:
    listed = [part.get("files", ()), part.get("archives", ())]
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


def _read(folder: Path, index: int) -> dict[str, Any]:
    part: dict[str, Any] = json.loads(_path(folder, index).read_text())
    return part


def _path(folder: Path, index: int) -> Path:
    return folder / f"{index:05}"
