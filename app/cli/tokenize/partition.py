"""A source cut into the parts that shards are made of, each of which any machine can do alone.

A part is a small file that lists a shard's images: names of files, or stretches of tar files. The
parts are written as the source is listed, so that a thousand million names are never in memory;
of tar files it is enough to know how many images each has.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

from app.cli.tokenize.sources import Fingerprint, is_tar, stored_file, stored_members, survey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from app.cli.tokenize.sources import Stored

# A tar file, and the first and last but one of its images.
_Stretch = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class Cut:
    """A source that has been cut.

    Attributes:
        images: how many it has.
        parts: how many parts it has been cut into.
        fingerprint: as `Source` has it.
    """

    images: int
    parts: int
    fingerprint: str


def cut(
    source: Path,
    folder: Path,
    shard_size: int,
    count_members: Callable[[Path, list[str]], list[int]],
) -> Cut:
    """List a source, and write its parts.

    Args:
        source: as in `open_source`.
        folder: for the parts; made if it isn't there.
        shard_size: images of a part; the last may have fewer.
        count_members: given a folder and names of tar files in it, how many images each has.

    Raises:
        CommandFailed: as `survey`.
    """
    folder.mkdir(exist_ok=True)
    root, names = survey(source)
    fingerprint = Fingerprint(root)
    first = next(names)
    listed = _noted(chain([first], names), fingerprint)
    images = parts = 0
    if is_tar(first):
        tars = list(listed)
        counts = count_members(root, tars)
        images = sum(counts)
        for stretches in _stretches(tars, counts, shard_size):
            _write(folder, parts, {"root": str(root), "tars": stretches})
            parts += 1
    else:
        while files := list(islice(listed, shard_size)):
            _write(folder, parts, {"root": str(root), "files": files})
            parts += 1
            images += len(files)
    return Cut(images, parts, fingerprint.value())


def images_of_part(folder: Path, index: int) -> Iterator[Stored]:
    """The images of a part, in their order.

    Args:
        folder: of the parts.
        index: of the part.

    Raises:
        CommandFailed: a tar file can't be read.
    """
    part = json.loads(_path(folder, index).read_text())
    root = Path(part["root"])
    for name in part.get("files", ()):
        yield stored_file(root, name)
    for tar, start, end in part.get("tars", ()):
        yield from islice(stored_members(root, tar, start), end - start)


def _noted(names: Iterable[str], fingerprint: Fingerprint) -> Iterator[str]:
    for name in names:
        fingerprint.add(name)
        yield name


def _stretches(tars: list[str], counts: list[int], shard_size: int) -> Iterator[list[_Stretch]]:
    part: list[_Stretch] = []
    room = shard_size
    for tar, count in zip(tars, counts, strict=True):
        start = 0
        while start < count:
            end = min(count, start + room)
            part.append((tar, start, end))
            room -= end - start
            start = end
            if not room:
                yield part
                part, room = [], shard_size
    if part:
        yield part


def _write(folder: Path, index: int, part: dict[str, object]) -> None:
    # Not orjson: names of files need not be UTF-8, and this one keeps them.
    _path(folder, index).write_text(json.dumps(part))


def _path(folder: Path, index: int) -> Path:
    return folder / f"{index:05}"
