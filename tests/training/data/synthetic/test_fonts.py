"""The fonts that synthetic text is rendered with."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import rendercv_fonts
from PIL import features

from training.data.synthetic import FontError, find_fonts, fonts, scripts

PACKAGED = Path(rendercv_fonts.__file__).parent


@pytest.fixture(scope="module")
def found():
    return find_fonts()


def test_packages_have_all_scripts(found):
    """The packages of the extra `training` suffice for all eleven scripts, code and icons."""
    assert features.check("raqm")
    assert found.missing == ()
    assert list(found.faces) == [script.name for script in scripts.ALL]
    assert len(found.monospaced) >= 8
    assert len(found.icons) > 300


def test_faces_have_all_characters(found):
    """No face draws its sign for a missing glyph in place of a character of its script."""
    for script in scripts.ALL:
        for face in found.faces[script.name]:
            font = face.at(12)
            missing = bytes(font.getmask("\uffff"))
            lacking = [c for c in script.probe if bytes(font.getmask(c)) == missing]
            assert not lacking, (script.name, face.name)


def test_scripts_come_by_their_shares(found):
    """Half of all text is in Latin letters, and no script is left out."""
    rng = np.random.default_rng(0)
    names = [found.script(rng).name for _ in range(2000)]
    assert set(names) == set(found.faces)
    assert 0.45 < sum("Latin" in name for name in names) / len(names) < 0.55


def test_missing_scripts_are_told_once(monkeypatch):
    """A script that no font at hand has is left out and named, all in one line."""
    monkeypatch.setattr(fonts, "_PACKED", ("fimo",))
    told = []
    without = find_fonts(tell=told.append)
    assert without.missing == ("Arabic", "Thai")
    assert len(told) == 1
    assert "Arabic, Thai" in told[0]
    rng = np.random.default_rng(0)
    assert "Arabic" not in {without.script(rng).name for _ in range(1000)}


def test_no_shaping_no_shaped_scripts(monkeypatch):
    """Without Raqm the scripts whose letters depend on their neighbours are left out."""
    monkeypatch.setattr(fonts.features, "check", lambda _: False)
    assert find_fonts().missing == ("Arabic", "Hebrew", "Devanagari", "Thai")


def test_own_folder(found, tmp_path):
    """Fonts in a folder of the user's own, at any depth, come beside the packages'."""
    (tmp_path / "deep").mkdir()
    shutil.copy(PACKAGED / "Lato" / "Lato-Regular.ttf", tmp_path / "deep" / "Own.ttf")
    (tmp_path / "README.txt").write_text("no font")
    more = find_fonts([tmp_path])
    assert "Own" in {face.name for face in more.faces["Latin"]}
    assert len(more.faces["Latin"]) == len(found.faces["Latin"]) + 1


def test_broken_font_is_named(tmp_path):
    """A file that is named like a font and is none is refused by its name."""
    (tmp_path / "Broken.ttf").write_bytes(b"no font")
    with pytest.raises(FontError, match="Broken"):
        find_fonts([tmp_path])


def test_no_such_folder(tmp_path):
    """A folder that does not exist is refused by its name."""
    with pytest.raises(FontError, match="nowhere"):
        find_fonts([tmp_path / "nowhere"])
