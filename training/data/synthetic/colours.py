"""Colours for synthetic pictures: all of the RGB cube, pairs that contrast, and themes."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

Colour = tuple[int, int, int]
WHITE: Colour = (255, 255, 255)
BLACK: Colour = (0, 0, 0)

# Below this difference of luma a text is hard to read.
_READABLE = 90


def any_colour(rng: np.random.Generator) -> Colour:
    """A random colour, of which corners, faces and the grey axis of the cube get more.

    | share | colour |
    |-|-|
    | 0.15 | a corner: black, white, red, green, blue, cyan, magenta, yellow |
    | 0.15 | each channel at 0, at 255 or between, alike: faces and edges |
    | 0.10 | grey |
    | 0.10 | close to white or black: 24 levels a channel |
    | 0.50 | uniform in the cube |
    """
    kind = rng.random()
    values = rng.integers(0, 256, 3)
    if kind < 0.15:
        values = 255 * (values & 1)
    elif kind < 0.30:
        values = np.where(rng.random(3) < 2 / 3, 255 * (values & 1), rng.integers(0, 256, 3))
    elif kind < 0.40:
        values[:] = values[0]
    elif kind < 0.50:
        values = values % 24 if rng.random() < 0.4 else 255 - values % 24
    return int(values[0]), int(values[1]), int(values[2])


def luma(colour: Colour) -> float:
    """How bright a colour is, 0 … 255 (ITU-R BT.601)."""
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


def ink_on(rng: np.random.Generator, paper: Colour) -> Colour:
    """A colour that is readable on another: black or white by half, else any."""
    plain = WHITE if luma(paper) < 128 else BLACK
    if rng.random() < 0.5:
        return plain
    for _ in range(4):
        colour = any_colour(rng)
        if abs(luma(colour) - luma(paper)) > _READABLE:
            return colour
    return plain


def mixed(one: Colour, other: Colour, share: float) -> Colour:
    """One colour with a share of another, 0 … 1."""
    return (
        round(one[0] + (other[0] - one[0]) * share),
        round(one[1] + (other[1] - one[1]) * share),
        round(one[2] + (other[2] - one[2]) * share),
    )


def vivid(rng: np.random.Generator, count: int = 1) -> list[Colour]:
    """Saturated colours, as brands and charts use them, their hues spread evenly."""
    hue = rng.random()
    saturation, value = rng.uniform(0.45, 1, 2)
    made = []
    for index in range(count):
        red, green, blue = colorsys.hsv_to_rgb((hue + index / count) % 1, saturation, value)
        made.append((round(red * 255), round(green * 255), round(blue * 255)))
    return made


@dataclass(frozen=True)
class Theme:
    """The colours of a program's window.

    Attributes:
        page: behind content.
        panel: behind bars and lists.
        line: between them.
        ink: of text.
        faint: of less important text.
        accent: of buttons and selections.
        on_accent: of text on it.
    """

    page: Colour
    panel: Colour
    line: Colour
    ink: Colour
    faint: Colour
    accent: Colour
    on_accent: Colour


def theme(rng: np.random.Generator) -> Theme:
    """Light in 60 of 100 cases, dark in 30, in any colour in 10."""
    kind = rng.random()
    if kind < 0.6:
        page = WHITE if rng.random() < 0.7 else mixed(WHITE, any_colour(rng), 0.06)
        ink = mixed(BLACK, any_colour(rng), rng.uniform(0, 0.3))
    elif kind < 0.9:
        page = mixed(BLACK, any_colour(rng), rng.uniform(0, 0.25))
        ink = mixed(WHITE, any_colour(rng), rng.uniform(0, 0.2))
    else:
        page = any_colour(rng)
        ink = ink_on(rng, page)
    accent = vivid(rng)[0]
    return Theme(
        page=page,
        panel=mixed(page, ink, rng.uniform(0.03, 0.12)),
        line=mixed(page, ink, rng.uniform(0.12, 0.35)),
        ink=ink,
        faint=mixed(page, ink, rng.uniform(0.45, 0.7)),
        accent=accent,
        on_accent=WHITE if luma(accent) < 160 else BLACK,
    )
