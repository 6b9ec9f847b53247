"""The generator of synthetic crops: which kinds of picture there are, and their shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.data.synthetic import charts, editors, fields, shapes, windows, writing
from training.data.synthetic.fonts import Fonts

Pixels = NDArray[np.uint8]

# Sides of crops in pixels: below, no text fits; above, drawing takes long.
SIDES = range(16, 513)

# Keeps these random numbers apart from those that choose crops of photographs by the same seed.
_STREAM = 0x5E17


@dataclass(frozen=True)
class Kind:
    """A kind of synthetic picture.

    Attributes:
        name: for people.
        share: of the crops, 0 … 1.
        draw: makes one, square and of the side given, from random numbers.
    """

    name: str
    share: float
    draw: Callable[[np.random.Generator, int, Fonts], Image.Image]


KINDS = (
    Kind("flat", 0.10, lambda rng, side, _: fields.flat(rng, side)),
    Kind("regions", 0.07, lambda rng, side, _: fields.regions(rng, side)),
    Kind("gradient", 0.14, lambda rng, side, _: fields.gradient(rng, side)),
    Kind("raster", 0.03, lambda rng, side, _: fields.raster(rng, side)),
    Kind("shapes", 0.09, lambda rng, side, _: shapes.shapes(rng, side)),
    Kind("line art", 0.06, lambda rng, side, _: shapes.line_art(rng, side)),
    Kind("logo", 0.06, shapes.logo),
    Kind("icons", 0.04, shapes.icons),
    Kind("text", 0.15, writing.text),
    Kind("scan", 0.06, writing.scan),
    Kind("chart", 0.07, charts.chart),
    Kind("window", 0.08, windows.window),
    Kind("code", 0.05, editors.code),
)
_CUMULATIVE = np.cumsum([kind.share for kind in KINDS])

# Kinds that are drawn in another size and resampled now and then.
_SCALED = frozenset({"logo", "icons", "text", "chart", "window", "code", "shapes", "line art"})


class Synthetic:
    """Synthetic square crops, each a function of seed, step and index alone.

    So they are the same for one process or several, for an unbroken run or a resumed one,
    with the same versions of NumPy, Pillow and the packages of fonts.

    | kind | share | what |
    |-|-|-|
    | flat | 0.10 | one colour; corners, edges and the grey axis of the cube more than others |
    | regions | 0.07 | two to eight flat colours in bands, blocks or cells |
    | gradient | 0.14 | linear, radial, conical or between corners; a third of low contrast |
    | raster | 0.03 | checkerboards, stripes, grids, dots, halftones, waves |
    | shapes | 0.09 | polygons, ellipses, rounded rectangles, arcs, joined lines |
    | line art | 0.06 | curves, outlines, hatching, technical drawings |
    | logo | 0.06 | a mark with a word |
    | icons | 0.04 | rows of icons, plain or on tiles |
    | text | 0.15 | eleven scripts, 8 to 48 pixels, on plain and graded backgrounds |
    | scan | 0.06 | a page of a document: turned, blurred, noisy |
    | chart | 0.07 | bars, lines, points, areas, pies with axes, labels, legend |
    | window | 0.08 | bars, buttons, tables, lists, forms, cards, dialogues |
    | code | 0.05 | editors and terminals in monospaced text |

    One in six pictures of shapes, line art, logos, icons, text, charts, windows and code is
    drawn 0.5 to 1.6 times as large and resampled, as happens to screenshots on their way.

    Args:
        seed: of everything random.
        crop: side, pixels, 16 … 512.
        fonts: to render text with, from `find_fonts`.

    Raises:
        ValueError: a crop of another size.
    """

    def __init__(self, seed: int, crop: int, fonts: Fonts) -> None:
        if crop not in SIDES:
            raise ValueError(
                f"synthetic crops are {SIDES[0]} to {SIDES[-1]} pixels wide, not {crop}"
            )
        self._seed, self._crop, self._fonts = seed, crop, fonts

    def crop_of(self, step: int, index: int) -> Pixels:
        """The crop at a place in a step's batch: uint8 `[crop, crop, 3]`."""
        rng, kind = self._begin(step, index)
        return self.drawn(kind, rng)

    def kind_of(self, step: int, index: int) -> Kind:
        """Which kind of picture that crop is."""
        return self._begin(step, index)[1]

    def drawn(self, kind: Kind, rng: np.random.Generator) -> Pixels:
        """A crop of one kind: uint8 `[crop, crop, 3]`."""
        side = self._crop
        if kind.name in _SCALED and rng.random() < 1 / 6:
            side = max(16, round(side * rng.uniform(0.5, 1.6)))
        picture = kind.draw(rng, side, self._fonts)
        while kind.name in _SCALED and _is_flat(picture):  # an empty part of a chart, say
            picture = kind.draw(rng, side, self._fonts)
        if side != self._crop:
            way = Image.Resampling.LANCZOS if side > self._crop else Image.Resampling.BICUBIC
            picture = picture.resize((self._crop, self._crop), way)
        return np.array(picture)

    def _begin(self, step: int, index: int) -> tuple[np.random.Generator, Kind]:
        rng = np.random.default_rng((self._seed, step, index, _STREAM))
        choice = int(np.searchsorted(_CUMULATIVE, rng.random(), side="right"))
        return rng, KINDS[min(choice, len(KINDS) - 1)]


def _is_flat(picture: Image.Image) -> bool:
    return len(picture.getcolors(1) or ()) == 1
