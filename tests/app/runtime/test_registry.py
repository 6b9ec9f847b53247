"""All bundles in a folder are served, or the start fails by name."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest

from app.errors import CodeSpaceMismatch, ModelNotFound, RecognizerNotFound
from app.runtime.device import Device
from app.runtime.registry import ModelsRefused, load_models
from bundle import open_bundle, write_bundle

CPU = Device("cpu", 0, 1)


@pytest.fixture
def folder(tmp_path, tiny_bundle):
    """A folder with the tiny model in it."""
    shutil.copytree(tiny_bundle, tmp_path / "tiny")
    return tmp_path


def add(folder, tiny_bundle, name, **fields):
    """Add a copy of the tiny model under another name."""
    bundle = open_bundle(tiny_bundle)
    manifest = dataclasses.replace(bundle.manifest, name=name, **fields)
    return write_bundle(
        folder / name, manifest, {file: bundle.read(file) for file in manifest.files}
    )


def load(folder, default=None):
    return load_models(folder, default, CPU, "auto")


def test_the_only_model_is_the_default(folder):
    """It needs no naming."""
    models = load(folder)
    assert models.default is models.get(None) is models.get("tiny")
    assert [book.shape for book in models.default.codebooks] == [(256, 4)]
    assert models.default.codebooks[0].dtype == np.float32


def test_several_models_need_a_default_unless_the_shipped_one_is_among_them(folder, tiny_bundle):
    """Which one answers must not depend on the alphabet."""
    add(folder, tiny_bundle, "other")
    with pytest.raises(ModelsRefused, match="set TESSERA_DEFAULT_MODEL to one of: other, tiny"):
        load(folder)
    assert load(folder, "other").default.name == "other"
    with pytest.raises(ModelsRefused, match="'absent', but loaded are: other, tiny"):
        load(folder, "absent")
    add(folder, tiny_bundle, "photo-f8")
    assert load(folder).default.name == "photo-f8"


def test_codes_find_the_model_of_their_space(folder, tiny_bundle):
    """The default where it can, else whichever has it; a named model must have it itself."""
    add(folder, tiny_bundle, "other", code_space="ab" * 32)
    models = load(folder, "tiny")
    tiny = models.get("tiny").manifest.code_space
    assert models.of_code_space(tiny).name == "tiny"
    assert models.of_code_space("ab" * 32).name == "other"
    with pytest.raises(CodeSpaceMismatch, match=r"tiny \("):
        models.of_code_space("ab" * 32, "tiny")
    with pytest.raises(CodeSpaceMismatch, match=r"other .*tiny"):
        models.of_code_space("cd" * 32)
    with pytest.raises(ModelNotFound, match="other, tiny"):
        models.get("absent")


def test_a_model_without_recognizers_says_how_to_get_one(folder):
    """The detail names the command."""
    with pytest.raises(RecognizerNotFound, match=r"training\.recognize"):
        load(folder).default.recognizer(None)


@pytest.mark.parametrize("name", [None, "colours"])
def test_a_recognizer_that_came_after_loading_asks_for_a_reload(folder, recognizing_bundle, name):
    """Whoever has just trained one is told what is missing; of what isn't there, nothing is."""
    model = load(folder).default
    shutil.rmtree(folder / "tiny")
    shutil.copytree(recognizing_bundle, folder / "tiny")
    with pytest.raises(RecognizerNotFound, match="reload, with SIGHUP or POST /v1/models:reload"):
        model.recognizer(name)
    with pytest.raises(RecognizerNotFound) as refusal:
        model.recognizer("absent")
    assert "reload" not in str(refusal.value)


def test_a_corrupted_byte_stops_the_start_by_name(folder):
    """Every file is hashed, whether it is used or not."""
    file = folder / "tiny" / "decoder.onnx"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(ModelsRefused, match=r"bundle tiny: decoder\.onnx .*SHA-256"):
        load(folder)


def test_half_a_bundle_stops_the_start_by_name(folder):
    """A half-copied model is not silently left out."""
    (folder / "half").mkdir()
    (folder / "half" / "decoder.onnx").touch()
    with pytest.raises(ModelsRefused, match="bundle half: there is no manifest"):
        load(folder)


def test_a_folder_without_anything_of_a_model_is_named_and_skipped(folder, caplog):
    """Unless it was asked for by its name."""
    (folder / "pictures").mkdir()
    with caplog.at_level("WARNING", "app.runtime.registry"):
        assert list(load(folder).by_name) == ["tiny"]
    assert [record.getMessage() for record in caplog.records] == [
        "skipped the folder pictures: it holds no model"
    ]
    with pytest.raises(ModelsRefused, match="bundle pictures: there is no manifest"):
        load(folder, "pictures")


def test_hidden_folders_and_files_are_skipped(folder):
    """Writing a bundle makes one beside its target for a moment."""
    (folder / ".half").mkdir()
    (folder / "README.md").write_text("models")
    assert list(load(folder).by_name) == ["tiny"]


def test_no_folder_no_bundle_and_two_of_one_name_are_refused(folder, tmp_path):
    """Each in words of its own."""
    with pytest.raises(ModelsRefused, match="there is no folder"):
        load(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelsRefused, match="there is no bundle in 'empty'"):
        load(tmp_path / "empty")
    (tmp_path / "empty").rmdir()
    shutil.copytree(folder / "tiny", folder / "copy")
    with pytest.raises(ModelsRefused, match="copy and tiny are both named tiny, version 1"):
        load(folder)


def test_a_name_alone_means_the_newest_version(folder, tiny_bundle):
    """By number, not by alphabet; name@version pins one, and a release follows its candidates."""
    for version in ("9", "10-rc1", "10"):
        bundle = open_bundle(tiny_bundle)
        manifest = dataclasses.replace(bundle.manifest, version=version)
        content = {file: bundle.read(file) for file in manifest.files}
        write_bundle(folder / f"tiny-{version}", manifest, content)
    models = load(folder)
    assert models.versions("tiny") == ["10", "10-rc1", "9", "1"]
    assert list(models.by_name) == ["tiny", "tiny@10-rc1", "tiny@9", "tiny@1"]
    assert models.default is models.get("tiny") is models.get("tiny@10") is models.get("tiny", "10")
    assert models.get("tiny@9").manifest.version == "9"
    assert models.aliases(models.get("tiny")) == ["tiny"]
    assert models.aliases(models.get("tiny@9")) == []
    with pytest.raises(ModelNotFound, match="tiny@9"):
        models.get("tiny@11")
    with pytest.raises(ModelNotFound):
        models.get("tiny@9", "10")
    assert load(folder, "tiny@9").default.manifest.version == "9"


def test_codes_of_an_older_version_find_it(folder, tiny_bundle):
    """Unnamed or under the name that now means a newer one; a pinned version stands alone."""
    bundle = open_bundle(tiny_bundle)
    manifest = dataclasses.replace(bundle.manifest, version="2", code_space="ab" * 32)
    write_bundle(folder / "tiny-2", manifest, {file: bundle.read(file) for file in manifest.files})
    models = load(folder)
    old = bundle.manifest.code_space
    assert models.default.id == "tiny@2"
    for name in (None, "tiny", "tiny@1"):
        assert models.of_code_space(old, name).id == "tiny@1"
    with pytest.raises(CodeSpaceMismatch):
        models.of_code_space(old, "tiny@2")
