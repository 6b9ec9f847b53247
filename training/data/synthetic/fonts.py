"""Fonts to render text with: from two pinned packages, and from folders of the user's own.

`rendercv-fonts` has families for reading and icons as files, `pymupdf-fonts` monospaced ones
and FiraGO (Arabic, Hebrew, Thai). All are under open licences (SIL OFL, Ubuntu, Apache 2.0).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pymupdf_fonts
import rendercv_fonts
from PIL import ImageFont, features

from training.data.synthetic import scripts
from training.data.synthetic.scripts import Script

SIZES = (8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 20, 22, 24, 28, 32, 36, 40, 48)

_SUFFIXES = frozenset({".ttf", ".otf", ".ttc"})
# Not for text: symbols alone. Nor trademarks, which Font Awesome keeps apart as "Brands".
_LEFT_OUT = ("Font Awesome",)
_ICONS = ("Font Awesome 7 Free-Solid", "Font Awesome 7 Free-Regular")
_PACKED = (
    *("cascadia", "cascadiab", "cascadiai", "figo", "figbo", "figit", "fimo", "fimbo"),
    *("spacemo", "spacembo", "ubuntm", "ubuntmbo", "ubuntmit"),
)
# Where Font Awesome keeps its icons; a third of the places are empty.
_ICON_RANGE = range(0xF000, 0xF300)


class FontError(ValueError):
    """A font that can't be used, or none at all where one is needed."""


@dataclass(frozen=True, eq=False)
class Face:
    """One style of one family.

    Attributes:
        name: of the file, or in the package.
        source: path of the file, or its content.
        scripts: that it has glyphs for, as `Script.name`.
        monospaced: whether all Latin letters are equally wide.
    """

    name: str
    source: Path | bytes
    scripts: frozenset[str]
    monospaced: bool

    def at(self, size: int, *, shaped: bool = False) -> ImageFont.FreeTypeFont:
        """The face at a size in pixels, for scripts that need shaping or not."""
        return _opened(self, size, shaped)


@dataclass(frozen=True)
class Fonts:
    """The faces at hand.

    Attributes:
        faces: for text, by script.
        monospaced: those for code and terminals, all with Latin.
        icons: characters and the faces that have them as icons.
        missing: scripts that no face at hand can write, by name.
    """

    faces: dict[str, tuple[Face, ...]]
    monospaced: tuple[Face, ...]
    icons: tuple[tuple[Face, str], ...]
    missing: tuple[str, ...]

    def script(self, rng: np.random.Generator) -> Script:
        """A random one of the scripts at hand, by their shares."""
        at_hand = [script for script in scripts.ALL if script.name in self.faces]
        shares = np.cumsum([script.share for script in at_hand])
        return at_hand[int(np.searchsorted(shares, rng.random() * shares[-1], side="right"))]

    def face(self, rng: np.random.Generator, script: Script = scripts.LATIN) -> Face:
        """A random face with glyphs for the script."""
        faces = self.faces[script.name]
        return faces[rng.integers(len(faces))]


def find_fonts(
    folders: Sequence[Path] = (), tell: Callable[[str], object] = lambda _: None
) -> Fonts:
    """Looks through the packages' fonts and those in folders, at any depth.

    Args:
        folders: with files of TrueType or OpenType fonts, beside the packages'.
        tell: is told once which scripts are left out.

    Raises:
        FontError: a folder does not exist, or a file in it is no font.
    """
    packaged = Path(rendercv_fonts.__file__).parent
    sources: list[tuple[str, Path | bytes]] = []
    for folder in (packaged, *folders):
        if not folder.is_dir():
            raise FontError(f"{folder} is not a folder of fonts")
        found = (p for p in folder.rglob("*") if p.suffix.lower() in _SUFFIXES)
        sources += [(p.stem, p) for p in sorted(found, key=lambda p: p.relative_to(folder))]
    icons = [source for source in sources if source[0].startswith(_ICONS)]
    texts = [source for source in sources if not source[0].startswith(_LEFT_OUT)]
    texts += [(name, pymupdf_fonts.fontbuffers[name]()) for name in _PACKED]
    faces = [_face_of(name, source) for name, source in texts]
    by_script = {
        script.name: tuple(f for f in faces if script.name in f.scripts and not f.monospaced)
        for script in scripts.ALL
    }
    by_script = {name: found for name, found in by_script.items() if found}
    missing = tuple(script.name for script in scripts.ALL if script.name not in by_script)
    if scripts.LATIN.name in missing:
        raise FontError("no font at hand has the Latin letters")
    if missing:
        tell(f"no font or no shaping (Raqm) for these scripts, left out: {', '.join(missing)}")
    return Fonts(
        by_script,
        tuple(f for f in faces if f.monospaced and scripts.LATIN.name in f.scripts),
        tuple(pair for name, source in icons for pair in _icons_of(name, source)),
        missing,
    )


@lru_cache(maxsize=512)  # opening takes 0.1 ms; all faces at all sizes would hold 1 GB
def _opened(face: Face, size: int, shaped: bool) -> ImageFont.FreeTypeFont:
    return _open(face.name, face.source, size, shaped=shaped)


def _open(name: str, source: Path | bytes, size: int, *, shaped: bool) -> ImageFont.FreeTypeFont:
    # Basic layout wherever it suffices: three times as fast, and the same with or without Raqm.
    engine = ImageFont.Layout.RAQM if shaped else ImageFont.Layout.BASIC
    try:
        file = io.BytesIO(source) if isinstance(source, bytes) else source
        return ImageFont.truetype(file, size, layout_engine=engine)
    except OSError as error:
        raise FontError(f"{name} can't be read as a font: {error}") from error


def _face_of(name: str, source: Path | bytes) -> Face:
    font = _open(name, source, 12, shaped=False)
    has_shaping = features.check("raqm")
    lacking = _Lacking(font)
    return Face(
        name,
        source,
        frozenset(
            script.name
            for script in scripts.ALL
            if (has_shaping or not script.shaped) and not any(map(lacking, script.probe))
        ),
        font.getlength("i") == font.getlength("W"),
    )


def _icons_of(name: str, source: Path | bytes) -> list[tuple[Face, str]]:
    face = Face(name, source, frozenset(), monospaced=False)
    lacking = _Lacking(face.at(12))
    return [(face, chr(code)) for code in _ICON_RANGE if not lacking(chr(code))]


class _Lacking:
    """Whether a font draws its sign for what it lacks in place of a character."""

    def __init__(self, font: ImageFont.FreeTypeFont) -> None:
        self._font = font
        self._sign = self._drawn("\uffff")

    def __call__(self, character: str) -> bool:
        return self._drawn(character) == self._sign

    def _drawn(self, character: str) -> tuple[tuple[int, int], bytes]:
        mask = self._font.getmask(character)
        return mask.size, bytes(mask)
