"""Codes by their context on the command line: the same codes, in smaller files."""

from __future__ import annotations

import json
import shutil

import pytest

from tessera_client import Codes


@pytest.fixture
def tessera(command, tiny_bundle):
    """The command with that model: arguments → exit code, output, errors."""
    return command(tiny_bundle.parent)


def test_small_files_hold_the_same_codes(tessera, photos, tmp_path):
    """`encode --small` takes fewer bytes, and decodes to the same picture."""
    lake = photos / "lake.webp"
    plain, small = tmp_path / "plain.tess", tmp_path / "small.tess"
    assert tessera("encode", lake, "-o", plain)[0] == 0
    assert tessera("encode", lake, "--small", "-o", small)[0] == 0
    assert len(small.read_bytes()) < 0.95 * len(plain.read_bytes())
    for name in ("plain", "small"):
        file = tmp_path / f"{name}.tess"
        assert tessera("decode", file, "-o", tmp_path / f"{name}.png")[0] == 0
    assert (tmp_path / "plain.png").read_bytes() == (tmp_path / "small.png").read_bytes()


def test_files_are_recoded_and_back(tessera, photos, tmp_path):
    """There and back, byte for byte, one file or a folder of them."""
    for stem in ("lake", "otter"):
        assert tessera("encode", photos / f"{stem}.webp", "-o", tmp_path / f"{stem}.tess")[0] == 0
    files = [tmp_path / "lake.tess", tmp_path / "otter.tess"]
    code, _, said = tessera("recode", *files, "-o", f"{tmp_path}/small/")
    assert code == 0
    assert " bytes to " in said
    small = [tmp_path / "small" / path.name for path in files]
    assert tessera("encode", photos / "lake.webp", "--small", "-o", tmp_path / "s.tess")[0] == 0
    assert small[0].read_bytes() == (tmp_path / "s.tess").read_bytes()
    assert tessera("recode", *small, "--coding", "fixed", "-o", f"{tmp_path}/back/")[0] == 0
    for path in files:
        assert (tmp_path / "back" / path.name).read_bytes() == path.read_bytes()


def test_the_client_says_how_such_a_file_is_read(tessera, photos, tmp_path):
    """A program that loads one without the service is told what to do."""
    file = tmp_path / "small.tess"
    tessera("encode", photos / "lake.webp", "--small", "-o", file)
    with pytest.raises(Exception, match=r"Client\.recode"):
        Codes.load(file)


def test_misuse_is_told_from_refusal(tessera, photos, tmp_path, tiny_bundle, monkeypatch):
    """Impossible options are 2; files that can't be recoded are 1."""
    lake, codes = photos / "lake.webp", tmp_path / "a.tess"
    assert tessera("encode", lake, "--small", "-o", tmp_path / "a.npy")[0] == 2
    assert tessera("encode", lake, "-o", codes)[0] == 0
    assert tessera("recode", codes, "--coding", "magic", "-o", tmp_path / "b.tess")[0] == 2
    assert tessera("recode", codes, codes, "-o", tmp_path / "b.tess")[0] == 2
    code, _, said = tessera("recode", lake, "-o", tmp_path / "b.tess")
    assert (code, "is not a .tess file" in said) == (1, True)
    folder = shutil.copytree(tiny_bundle, tmp_path / "models" / "tiny")
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    del manifest["prior"]
    (folder / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    monkeypatch.setenv("TESSERA_MODELS_DIR", str(tmp_path / "models"))
    code, _, said = tessera("recode", codes, "-o", tmp_path / "b.tess")
    assert (code, "carries no prior" in said) == (1, True)
    assert not (tmp_path / "b.tess").exists()
