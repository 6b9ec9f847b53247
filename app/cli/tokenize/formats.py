"""The files of one shard, in one of three forms: NumPy, WebDataset or Parquet.

All are written under another name and renamed when they are whole, and have equal bytes for equal
images (Parquet: with the same version of pyarrow).
"""

from __future__ import annotations

import io
import re
import tarfile
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy as np
import orjson

from app.cli.files import write_durably
from app.cli.tokenize.entries import key_of
from app.codecs.code_file import CodedGrid
from app.codecs.npy import write_npy
from app.errors import TesseraError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from app.cli.tokenize.sources import Stored
    from app.service.results import Item
    from app.service.runner import AnyGrid
    from imaging.convert import ImageWarning

Form = Literal["npy", "webdataset", "parquet"]

_SOURCE = re.compile(rb'\{"source":"([0-9a-f]{64})"')
_SOURCE_BYTES = 80


class Tally(NamedTuple):
    """What a complete shard holds.

    Attributes:
        images: images with codes.
        broken: places whose image could not be read.
        warned: images that may look wrong.
    """

    images: int
    broken: int
    warned: int = 0


@dataclass(frozen=True, slots=True)
class Encoded:
    """An image of a shard.

    Attributes:
        place: its place in the source.
        grid: its codes, plain or coded by their context, and its name.
        kept: the text of what was kept of its sample, by ending.
    """

    place: int
    grid: AnyGrid
    kept: Mapping[str, str]


@dataclass(slots=True)
class ShardContent:
    """What a shard is made of, in the order of the source.

    Attributes:
        images: those that could be read.
        broken: place, name and error of each image that could not.
        warnings: place and name of each image that may look wrong, and why.
    """

    images: list[Encoded] = field(default_factory=list)
    broken: list[tuple[int, str | None, TesseraError]] = field(default_factory=list)
    warnings: list[tuple[int, str | None, ImageWarning]] = field(default_factory=list)

    def add(self, place: int, image: Stored, item: Item[AnyGrid]) -> None:
        """Take up what became of the image at a place."""
        if isinstance(item.value, TesseraError):
            self.broken.append((place, image.name, item.value))
            return
        self.images.append(Encoded(place, item.value, image.kept))
        self.warnings += [(place, image.name, warning) for warning in item.warnings]

    @property
    def tally(self) -> Tally:
        """How much it is."""
        return Tally(len(self.images), len(self.broken), len({at for at, _, _ in self.warnings}))

    def reports(self) -> dict[str, list[dict[str, Any]]]:
        """The images that are broken, and those that may look wrong, as values for JSON."""
        return {
            name: [
                {"place": place, "name": shown, "code": why.code, "detail": why.detail}
                for place, shown, why in entries
            ]
            for name, entries in (("broken", self.broken), ("warnings", self.warnings))
        }


class ShardFiles(Protocol):
    """The files of a folder's shards, by the shard's number."""

    def source(self, index: int) -> str:
        """The fingerprint of what a complete shard was made of; empty if there is no such shard."""
        ...

    def write(self, index: int, content: ShardContent, source: str) -> Tally:
        """Write a shard, over one that is there.

        Args:
            index: its number.
            content: what it is made of.
            source: the fingerprint of that.
        """
        ...

    def remove(self, index: int) -> None:
        """Remove a shard; it need not be there."""
        ...

    def tally(self, index: int) -> Tally:
        """Count what a complete shard holds."""
        ...

    def reports(self, index: int) -> dict[str, list[dict[str, Any]]]:
        """As `ShardContent.reports`, of a complete shard."""
        ...


class _WithJson(ABC):
    """Shards of a file of codes and a JSON file, by which they are whole."""

    ending = ""

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

    def write(self, index: int, content: ShardContent, source: str) -> Tally:
        images = []
        offset = 0
        for image in content.images:
            grid = image.grid
            rows, columns = grid.shape
            entry: dict[str, Any] = {"place": image.place, "name": grid.name}
            if self._job["size"] is None:
                entry |= {"width": grid.width, "height": grid.height}
                entry |= {"rows": rows, "columns": columns, "offset": offset}
            if image.kept:
                entry["kept"] = dict(image.kept)
            images.append(entry)
            offset += grid.stages * rows * columns
        # The source comes first: it is read alone.
        entries = {"source": source, "images": images, **content.reports()}
        # The codes first: where the `.json` is, the shard is whole, and of the source it names.
        self._path(index, "json").unlink(missing_ok=True)
        write_durably(self._path(index, self.ending), [self._codes(content)])
        write_durably(self._path(index, "json"), [orjson.dumps(entries) + b"\n"])
        return content.tally

    def remove(self, index: int) -> None:
        for kind in ("json", self.ending):
            self._path(index, kind).unlink(missing_ok=True)

    def tally(self, index: int) -> Tally:
        entries = self._entries(index)
        warned = len({entry["place"] for entry in entries["warnings"]})
        return Tally(len(entries["images"]), len(entries["broken"]), warned)

    def reports(self, index: int) -> dict[str, list[dict[str, Any]]]:
        entries = self._entries(index)
        return {name: entries[name] for name in ("broken", "warnings")}

    @abstractmethod
    def _codes(self, content: ShardContent) -> bytes:
        """The file of codes."""

    def _entries(self, index: int) -> Any:
        return orjson.loads(self._path(index, "json").read_bytes())

    def _path(self, index: int, kind: str) -> Path:
        return self._folder / f"{index:05}.{kind}"


class NpyFiles(_WithJson):
    """One array of codes, `[n, rows, columns]` where all images have one size, else flat.

    Codes of several stages have an axis of them behind the first.
    """

    ending = "npy"

    def _codes(self, content: ShardContent) -> bytes:
        dtype = code_dtype(self._job)
        if self._job["size"] is None or not content.images:
            return write_npy(flat_codes(content, dtype))
        return write_npy(np.stack([plain_codes(one) for one in content.images]).astype(dtype))


class WebDatasetFiles(_WithJson):
    """A tar file with a sample for each image: `KEY.npy` of its codes, and what was kept."""

    ending = "tar"

    def _codes(self, content: ShardContent) -> bytes:
        dtype = code_dtype(self._job)
        written = io.BytesIO()
        keys: set[str] = set()
        with tarfile.open(fileobj=written, mode="w") as tar:
            for image in content.images:
                # Samples are told apart by their keys; two images of one sample need two.
                key = key_of((image.grid.name or "").rpartition(".tar/")[2])
                if not key.rpartition("/")[2] or key in keys:
                    key = f"{key}-{image.place:09}"
                keys.add(key)
                codes = write_npy(plain_codes(image).astype(dtype))
                for ending, data in (("npy", codes), *_encoded(image.kept)):
                    info = tarfile.TarInfo(f"{key}.{ending}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
        return written.getvalue()


def _encoded(kept: Mapping[str, str]) -> list[tuple[str, bytes]]:
    return [(ending, text.encode()) for ending, text in sorted(kept.items())]


def plain_codes(image: Encoded) -> NDArray[np.int64]:
    """The codes of an image, int64 `[rows, columns]` or `[stages, rows, columns]`."""
    if isinstance(image.grid, CodedGrid):
        raise TypeError("codes that are coded by their context go into Parquet alone")
    return image.grid.codes


def code_dtype(job: Mapping[str, Any]) -> np.dtype[Any]:
    """What codes are stored as: the smallest that holds the codebooks of all stages."""
    largest = max(job["codebook_size"], *job.get("residual_sizes", ()), 0)
    return np.dtype("<u2" if largest <= 2**16 else "<u4")


def flat_codes(content: ShardContent, dtype: np.dtype[Any]) -> NDArray[Any]:
    """All codes of a shard, row after row, stage after stage and image after image."""
    if not content.images:
        return np.empty(0, dtype)
    return np.concatenate([plain_codes(image).ravel() for image in content.images]).astype(dtype)
