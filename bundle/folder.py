"""Bundles on disk: opening with every byte checked, writing without a half-written moment."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bundle.errors import (
    BundleError,
    BundleExists,
    FileMissing,
    GraphMissing,
    HashMismatch,
    ManifestTooLarge,
    NotABundle,
    PathEscapes,
    SizeMismatch,
)
from bundle.manifest import File, Manifest, check_file_name
from bundle.manifest_json import MAX_MANIFEST_BYTES, format_manifest, parse_manifest

MANIFEST_FILE = "manifest.json"


@dataclass(frozen=True)
class Bundle:
    """A folder whose manifest has been read and whose files have been checked.

    Attributes:
        path: of the folder.
        manifest: what it says of itself.
    """

    path: Path
    manifest: Manifest

    def precisions(self, graph: str) -> tuple[str, ...]:
        """The precisions a graph comes in.

        Raises:
            GraphMissing: the bundle has no such graph.
        """
        if graph not in self.manifest.graphs:
            raise GraphMissing(f"{self.path.name} has no graph {graph!r}")
        return tuple(self.manifest.graphs[graph].files)

    def read_graph(self, graph: str, precision: str) -> bytes:
        """The ONNX file of a graph, its bytes checked as they are read.

        Whoever loads a model should load these bytes and not the path again: what
        was checked and what runs are then the same, and a graph can't refer to
        weights in files outside the folder.

        Raises:
            GraphMissing: no such graph, or not in that precision.
            BundleError: the file changed since the bundle was opened.
        """
        if precision not in self.precisions(graph):
            raise GraphMissing(f"{self.path.name} has no {precision} file of graph {graph!r}")
        return self.read(self.manifest.graphs[graph].files[precision])

    def read_weights(self, graph: str) -> dict[str, bytes]:
        """The weights that a graph's ONNX files refer to, by the name that they refer to them by.

        Empty where the files hold their weights themselves. A runtime has to be given these
        bytes (ONNX Runtime: `add_external_initializers_from_files_in_memory`), never a path.

        Raises:
            GraphMissing: no such graph.
            BundleError: the file changed since the bundle was opened.
        """
        self.precisions(graph)
        name = self.manifest.graphs[graph].weights
        return {} if name is None else {name: self.read(name)}

    def read(self, name: str) -> bytes:
        """A file of the bundle, its bytes checked as they are read.

        Raises:
            FileMissing: not listed, or not there.
            PathEscapes, SizeMismatch, HashMismatch: it isn't what the manifest says.
        """
        if name not in self.manifest.files:
            raise FileMissing(f"{self.path.name} lists no file {name!r}")
        return _read_checked(self.path, name, self.manifest.files[name])


def open_bundle(path: Path) -> Bundle:
    """Opens a bundle and checks the size and hash of every file in it.

    Raises:
        BundleError: one class for each way in which the folder can be wrong
            (`bundle.errors`); its text begins with the folder's name.
    """
    bundle = Bundle(path, read_manifest(path))
    for name in bundle.manifest.files:
        bundle.read(name)
    return bundle


def read_manifest(path: Path) -> Manifest:
    """The manifest of a bundle's folder, without a look at the files that it lists.

    Raises:
        BundleError: no bundle, or its manifest can't be read; the text begins with the folder's
            name.
    """
    if not path.is_dir():
        raise NotABundle(f"{path.name}: there is no such folder")
    file = path / MANIFEST_FILE
    if not file.is_file():
        raise NotABundle(f"{path.name}: there is no {MANIFEST_FILE} in it")
    _check_inside(path, MANIFEST_FILE)
    with file.open("rb") as stream:
        text = stream.read(MAX_MANIFEST_BYTES + 1)
    if len(text) > MAX_MANIFEST_BYTES:
        raise ManifestTooLarge(f"{path.name}: the manifest is over {MAX_MANIFEST_BYTES} bytes")
    try:
        return parse_manifest(text)
    except BundleError as error:
        raise type(error)(f"{path.name}: {error}") from error


def write_bundle(path: Path, manifest: Manifest, files: Mapping[str, bytes]) -> Bundle:
    """Writes a bundle; the folder appears complete or not at all.

    Args:
        path: of the folder; a bundle that is already there is replaced.
        manifest: its `files` are ignored and made from `files`.
        files: name → content of everything but the manifest.

    Returns:
        The bundle as opened again from disk.

    Raises:
        BundleExists: the folder exists and is no bundle.
        PathEscapes: a file name that isn't plain.
        BundleError: what the manifest says and what is there don't fit.
    """
    if path.exists() and not (path / MANIFEST_FILE).is_file():
        raise BundleExists(f"{path} exists and is not a bundle, so it is not replaced")
    listed = {}
    for name, content in files.items():
        check_file_name(name)
        if name == MANIFEST_FILE:
            raise PathEscapes(f"{MANIFEST_FILE} is written by this function")
        listed[name] = File(len(content), hashlib.sha256(content).hexdigest())
    manifest = dataclasses.replace(manifest, files=listed)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        for name, content in {**files, MANIFEST_FILE: format_manifest(manifest)}.items():
            _write_durably(temporary / name, content)
        temporary.chmod(0o755)
        open_bundle(temporary)
        _replace_folder(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return open_bundle(path)


def _read_checked(folder: Path, name: str, expected: File) -> bytes:
    _check_inside(folder, name)
    try:
        with (folder / name).open("rb") as stream:
            # One byte more than expected tells a longer file without reading all of it.
            content = stream.read(expected.bytes + 1)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise FileMissing(f"{folder.name}: the file {name} is missing") from error
    if len(content) != expected.bytes:
        raise SizeMismatch(f"{folder.name}: {name} is not {expected.bytes} bytes long")
    if hashlib.sha256(content).hexdigest() != expected.sha256:
        raise HashMismatch(f"{folder.name}: {name} does not have the SHA-256 of the manifest")
    return content


def _check_inside(folder: Path, name: str) -> None:
    check_file_name(name)
    if (folder / name).resolve().parent != folder.resolve():
        raise PathEscapes(f"{folder.name}: {name} is a link that leads out of the folder")


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _replace_folder(new: Path, target: Path) -> None:
    """Renames `new` to `target`; a folder there is moved aside first, since only empty ones yield.

    Between the two renames the target is absent, never half-written.
    """
    if not target.exists():
        new.rename(target)
        return
    aside = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.old."))
    target.rename(aside / "bundle")
    try:
        new.rename(target)
    except OSError:
        (aside / "bundle").rename(target)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
