"""What images a source has: a folder of them, WebDataset shards (tar files), or Parquet files.

Each has one order, the same every time, so that an interrupted run can go on where it stopped.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from app.cli.failures import CommandFailed
from app.cli.tokenize import parquet_images, tars
from app.cli.tokenize.entries import (
    IMAGE_ENDINGS,
    OTHER_ENDINGS,
    PARQUET_ENDING,
    SIDECAR,
    SNIFFED_BYTES,
    TAR_ENDINGS,
    UNREADABLE,
    Skipped,
    ending_of,
    is_image,
    key_of,
    other,
    stored_name,
)
from app.cli.tokenize.storage import Entry, is_address, storage_at
from app.errors import ImageCorrupt, NotReady
from app.service.preprocessing import ImageInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from app.cli.tokenize.storage import Storage
    from imaging.image_file import ImageFile


class Found(NamedTuple):
    """An image file, a tar file or a Parquet file.

    Attributes:
        name: relative to the source.
        size: in bytes.
        version: as `Entry` has it.
        kept: of each file of its sample that is kept, ending, size and version.
    """

    name: str
    size: int
    version: int | str
    kept: tuple[tuple[str, int, int | str], ...] = ()


@dataclass(frozen=True, slots=True)
class Stored(ImageInput):
    """An image that is read when it is decoded, in the thread that decodes it.

    Attributes:
        read: returns the file's bytes.
        kept: the text of what is kept of its sample, by ending.
    """

    read: Callable[[], bytes] = bytes
    kept: Mapping[str, str] = field(default_factory=dict)

    def inspect(self, max_pixels: int) -> ImageFile | NDArray[np.uint8]:
        """As `ImageInput.inspect`.

        Raises:
            ImageCorrupt: the file can't be read.
            NotReady: the object store that holds it fails.
            TesseraError: what `ImageInput.inspect` refuses.
        """
        try:
            content = self.read()
        except CommandFailed as error:
            raise NotReady(str(error)) from error
        except OSError as error:
            raise ImageCorrupt(f"the file can't be read: {error.strerror or error}") from error
        return ImageInput(content, self.name).inspect(max_pixels)


def survey(source: str, keep: tuple[str, ...] = ()) -> tuple[Storage, Iterator[Found | Skipped]]:
    """Where a source's files are, and what it holds, in its order.

    What is found is either all images, all tar files or all Parquet files, and at least one. No
    more names are held at a time than one folder has, however many there are.

    Args:
        source: a folder, with the folders below it, a tar file or a Parquet file; or an address of
            one of them in an object store. Links to folders aren't followed.
        keep: endings of the files that are kept of each image's sample.

    Raises:
        CommandFailed: while it is listed: there is nothing, or kinds are mixed.
    """
    if is_archive(source):
        folder, _, name = source.rpartition("/")
        storage = storage_at(folder if is_address(source) or folder else ".")
        with suppress(OSError):
            for entry in storage.entries(""):
                if entry.name == name and not (entry.is_folder or entry.kind):
                    return storage, iter([Found(name, entry.size, entry.version)])
    if not is_address(source) and not Path(source).is_dir():
        raise CommandFailed(f"{source}: is neither a folder nor a tar or Parquet file")
    storage = storage_at(source)
    try:
        storage.entries("")
    except OSError as error:
        reason = error.strerror or "there is nothing"
        raise CommandFailed(f"{source}: can't be listed: {reason}") from error
    return storage, _of_one_kind(source, storage, keep)


def is_archive(name: str) -> bool:
    """Whether a name is of a file that holds many images: a tar file or a Parquet file."""
    return name.lower().endswith((*TAR_ENDINGS, PARQUET_ENDING))


def stored_file(storage: Storage, name: str, kept: Sequence[str]) -> Stored:
    """An image that is a file.

    Args:
        storage: where the source's files are.
        name: of the file.
        kept: endings of the files of its sample that are kept.
    """
    texts = {}
    for ending in kept:
        with suppress(OSError):
            texts[ending] = storage.read(f"{key_of(name)}.{ending}")
    return Stored(b"", stored_name(name), partial(storage.read, name), _as_text(texts))


def stored_members(
    storage: Storage, archive: str, start: int, end: int, keep: tuple[str, ...]
) -> Iterator[Stored]:
    """The images of a tar or Parquet file, from the one at `start` to the one before `end`."""
    images = parquet_images.images if _is_parquet(archive) else tars.images
    for image in images(storage, archive, start, end, keep):
        name = stored_name(f"{archive}/{image.name}")
        read = _giving(image.content or b"", image.fault)
        yield Stored(b"", name, read, _as_text(image.kept))


def scan_archive(
    storage: Storage, archive: str, keep: tuple[str, ...]
) -> Iterator[tars.Image | Skipped]:
    """What a tar or Parquet file holds, without the images' contents."""
    scan = parquet_images.scan if _is_parquet(archive) else tars.scan
    return scan(storage, archive, keep)


def _is_parquet(name: str) -> bool:
    return name.lower().endswith(PARQUET_ENDING)


def _as_text(kept: Mapping[str, bytes]) -> dict[str, str]:
    """What is kept, as text; what isn't UTF-8 has U+FFFD for its bytes."""
    return {ending: content.decode("utf-8", "replace") for ending, content in kept.items()}


def _giving(content: bytes, fault: str) -> Callable[[], bytes]:
    def read() -> bytes:
        if fault:
            raise OSError(fault)
        return content

    return read


def _of_one_kind(source: str, storage: Storage, keep: tuple[str, ...]) -> Iterator[Found | Skipped]:
    kind = ""
    for entry in _files_below(storage, keep, ""):
        if isinstance(entry, Found):
            this = _kind_of(entry.name)
            if kind and this == "Parquet files" != kind:
                yield other(entry.name)  # facts about the images
                continue
            if kind not in {"", this}:
                raise CommandFailed(
                    f"{source}: holds both {kind} and {this}; say which, by a folder"
                )
            kind = this
        yield entry
    if not kind:
        raise CommandFailed(f"{source}: holds no image, no tar file and no Parquet file")


def _kind_of(name: str) -> str:
    if _is_parquet(name):
        return "Parquet files"
    return "tar files" if is_archive(name) else "images"


def _files_below(storage: Storage, keep: tuple[str, ...], prefix: str) -> Iterator[Found | Skipped]:
    """What a folder holds, with names relative to the source, in their order as text.

    A folder stands among its neighbours as its name with a slash: so the names below it come out
    in order without being sorted all together.
    """
    try:
        there = storage.entries(prefix)
    except OSError as error:
        yield Skipped(prefix, UNREADABLE, error.strerror or "")
        return
    there.sort(key=lambda entry: entry.name + "/" * entry.is_folder)
    judged = {e.name: _judged(storage, prefix, e) for e in there if not e.is_folder}
    by_name = {entry.name: entry for entry in there} if keep else {}
    samples = {key_of(found.name) for found in judged.values() if isinstance(found, Found)}
    for entry in there:
        if entry.is_folder:
            yield from _files_below(storage, keep, f"{prefix}{entry.name}/")
            continue
        found = judged[entry.name]
        if isinstance(found, Found):
            yield found._replace(kept=_kept(by_name, entry.name, keep)) if keep else found
        elif ending_of(found.name) in keep and key_of(found.name) in samples:
            continue  # it goes with its image
        elif _is_sidecar(found, samples):
            yield found._replace(kind=SIDECAR)
        else:
            yield found


def _kept(
    there: Mapping[str, Entry], image: str, keep: tuple[str, ...]
) -> tuple[tuple[str, int, int | str], ...]:
    """Which files of an image's sample there are to be kept."""
    names = ((ending, f"{key_of(image)}.{ending}") for ending in keep)
    return tuple(
        (ending, there[name].size, there[name].version) for ending, name in names if name in there
    )


def _is_sidecar(skipped: Skipped, samples: set[str]) -> bool:
    return skipped.name.lower().endswith(OTHER_ENDINGS) and key_of(skipped.name) in samples


def _judged(storage: Storage, prefix: str, entry: Entry) -> Found | Skipped:
    """What an entry that is no folder is, by its ending, or else by its first bytes."""
    name = prefix + entry.name
    if entry.kind:
        return Skipped(name, entry.kind, entry.detail)
    lowered = name.lower()
    if not lowered.endswith((*IMAGE_ENDINGS, *TAR_ENDINGS, PARQUET_ENDING)):
        if lowered.endswith(OTHER_ENDINGS):
            return other(name)
        try:
            start = storage.read(name, SNIFFED_BYTES)
        except OSError as error:
            return Skipped(name, UNREADABLE, error.strerror or "")
        if not is_image(start):
            return other(name, start)
    return Found(name, entry.size, entry.version)
