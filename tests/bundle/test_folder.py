"""Facts about bundles on disk: one for each way in which a folder can lie."""

import dataclasses
import json
import shutil

import pytest

from bundle import Bundle, open_bundle, write_bundle
from bundle.errors import (
    BundleExists,
    FileMissing,
    GraphMissing,
    HashMismatch,
    ManifestMalformed,
    ManifestTooLarge,
    NotABundle,
    PathEscapes,
    SizeMismatch,
    VersionUnsupported,
)
from bundle.manifest_json import MAX_MANIFEST_BYTES


@pytest.fixture
def folder(tiny_bundle, tmp_path):
    """A copy of the tiny bundle that a test may spoil."""
    return shutil.copytree(tiny_bundle, tmp_path / "tiny")


def edit_manifest(folder, change):
    """Applies a function to the manifest's JSON value."""
    file = folder / "manifest.json"
    values = json.loads(file.read_bytes())
    change(values)
    file.write_text(json.dumps(values), encoding="utf-8")


def test_opens(tiny_bundle):
    """The committed bundle opens, with the facts that its golden manifest states."""
    bundle = open_bundle(tiny_bundle)
    manifest = bundle.manifest
    assert (manifest.name, manifest.stride, manifest.codebook_size) == ("tiny", 8, 256)
    assert bundle.precisions("encoder") == ("fp32", "fp16", "int8")
    assert bundle.read_graph("encoder", "fp32") == (tiny_bundle / "encoder.onnx").read_bytes()


def test_no_folder(tmp_path):
    """A path where nothing is, is not a bundle."""
    with pytest.raises(NotABundle, match="no such folder"):
        open_bundle(tmp_path / "nothing")


def test_no_manifest(folder):
    """A folder without a manifest is not a bundle."""
    (folder / "manifest.json").unlink()
    with pytest.raises(NotABundle, match="manifest"):
        open_bundle(folder)


def test_malformed_manifest(folder):
    """A truncated manifest is refused."""
    file = folder / "manifest.json"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(ManifestMalformed):
        open_bundle(folder)


def test_oversized_manifest(folder):
    """A manifest beyond the cap is refused without being read to its end."""
    (folder / "manifest.json").write_bytes(b" " * (MAX_MANIFEST_BYTES + 1))
    with pytest.raises(ManifestTooLarge):
        open_bundle(folder)


def test_newer_version(folder):
    """A manifest of a newer version is refused by the folder's name and its number."""
    edit_manifest(folder, lambda values: values.update(format_version=99))
    with pytest.raises(VersionUnsupported, match=f"^{folder.name}: .*99"):
        open_bundle(folder)


def test_changed_byte(folder):
    """One changed byte in any file is refused, and the file is named."""
    for name in json.loads((folder / "manifest.json").read_bytes())["files"]:
        file = folder / name
        content = file.read_bytes()
        middle = len(content) // 2
        file.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        with pytest.raises(HashMismatch, match=name):
            open_bundle(folder)
        file.write_bytes(content)
    open_bundle(folder)


@pytest.mark.parametrize("change", [lambda c: c[:-1], lambda c: c + b"\0"])
def test_wrong_size(folder, change):
    """A file that is shorter or longer than the manifest says is refused."""
    file = folder / "encoder.onnx"
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(SizeMismatch, match=r"encoder\.onnx"):
        open_bundle(folder)


def test_missing_file(folder):
    """A listed file that isn't there is refused."""
    (folder / "decoder.onnx").unlink()
    with pytest.raises(FileMissing, match=r"decoder\.onnx"):
        open_bundle(folder)


def test_folder_instead_of_file(folder):
    """A folder in a file's place counts as a missing file."""
    (folder / "decoder.onnx").unlink()
    (folder / "decoder.onnx").mkdir()
    with pytest.raises(FileMissing):
        open_bundle(folder)


def test_link_out_of_the_folder(folder, tmp_path):
    """A link that leads out of the folder is refused even if the bytes are right."""
    outside = tmp_path / "outside.onnx"
    (folder / "encoder.onnx").rename(outside)
    (folder / "encoder.onnx").symlink_to(outside)
    with pytest.raises(PathEscapes):
        open_bundle(folder)


def test_path_out_of_the_folder(folder):
    """A file name that leads out of the folder is refused."""

    def escape(values):
        values["files"]["../encoder.onnx"] = values["files"].pop("encoder.onnx")
        values["graphs"]["encoder"]["files"]["fp32"] = "../encoder.onnx"

    edit_manifest(folder, escape)
    with pytest.raises(PathEscapes):
        open_bundle(folder)


def test_missing_graph(tiny_bundle):
    """Asking for a graph or a precision that isn't there says so."""
    bundle = open_bundle(tiny_bundle)
    with pytest.raises(GraphMissing, match="recognizer"):
        bundle.read_graph("recognizer", "fp32")
    with pytest.raises(GraphMissing, match="int8"):
        bundle.read_graph("quantizer", "int8")


def test_change_after_opening(folder):
    """A file that changes after the bundle was opened is refused when it is read."""
    bundle = open_bundle(folder)
    (folder / "encoder.onnx").write_bytes(b"x" * bundle.manifest.files["encoder.onnx"].bytes)
    with pytest.raises(HashMismatch):
        bundle.read_graph("encoder", "fp32")


def contents(bundle: Bundle) -> dict[str, bytes]:
    """The files of a bundle, by name."""
    return {name: bundle.read(name) for name in bundle.manifest.files}


def test_write_and_open(tiny_bundle, tmp_path):
    """Writing what was read gives the same bundle, byte for byte, and leaves nothing else."""
    bundle = open_bundle(tiny_bundle)
    written = write_bundle(tmp_path / "copy", bundle.manifest, contents(bundle))
    assert written.manifest == bundle.manifest
    assert contents(written) == contents(bundle)
    assert [p.name for p in tmp_path.iterdir()] == ["copy"]


def test_write_replaces_a_bundle(folder, tmp_path):
    """A bundle that is already there is replaced, with nothing of the old left."""
    bundle = open_bundle(folder)
    (folder / "note.txt").write_text("old")
    newer = dataclasses.replace(bundle.manifest, version="2")
    assert write_bundle(folder, newer, contents(bundle)).manifest.version == "2"
    assert not (folder / "note.txt").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["tiny"]


def test_write_spares_other_folders(tiny_bundle, tmp_path):
    """A folder that is no bundle is not overwritten."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"precious")
    bundle = open_bundle(tiny_bundle)
    with pytest.raises(BundleExists):
        write_bundle(tmp_path / "photos", bundle.manifest, contents(bundle))
    assert (tmp_path / "photos" / "a.jpg").read_bytes() == b"precious"


def test_failed_write_leaves_the_old_bundle(folder, tmp_path):
    """When the new files don't fit the manifest, the old bundle stays and no litter does."""
    bundle = open_bundle(folder)
    incomplete = {k: v for k, v in contents(bundle).items() if k != "encoder.onnx"}
    with pytest.raises(ManifestMalformed):
        write_bundle(folder, bundle.manifest, incomplete)
    assert open_bundle(folder).manifest == bundle.manifest
    assert [p.name for p in tmp_path.iterdir()] == ["tiny"]


@pytest.mark.parametrize("name", ["../a.onnx", "manifest.json", "a/b"])
def test_write_refuses_odd_names(tiny_bundle, tmp_path, name):
    """A file whose name leads elsewhere, or that poses as the manifest, is not written."""
    bundle = open_bundle(tiny_bundle)
    with pytest.raises(PathEscapes):
        write_bundle(tmp_path / "copy", bundle.manifest, {**contents(bundle), name: b"x"})
    assert list(tmp_path.iterdir()) == []
