"""Shapes, line art, logos and icons: what is drawn with smooth edges.

Each is drawn three times as large and reduced, so that its edges are anti-aliased.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw

from training.data.synthetic.colours import (
    WHITE,
    Colour,
    any_colour,
    ink_on,
    mixed,
    theme,
    vivid,
)
from training.data.synthetic.fields import background, gradient
from training.data.synthetic.fonts import Fonts
from training.data.synthetic.scripts import LATIN

# How many times larger than the picture shapes are drawn.
OVERSAMPLING = 3

Point = tuple[float, float]


def shapes(rng: np.random.Generator, side: int) -> Image.Image:
    """One to eight filled or outlined figures on a background, some filled with a gradient."""
    picture, paper = background(rng, side, OVERSAMPLING)
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(1, 9))):
        centre = (rng.uniform(0, side) * OVERSAMPLING, rng.uniform(0, side) * OVERSAMPLING)
        radius = (4 + (0.6 * side + 16) * rng.random() ** 2) * OVERSAMPLING
        colour = ink_on(rng, paper) if rng.random() < 0.3 else any_colour(rng)
        if rng.random() < 0.12:
            _shaded(rng, picture, centre, radius)
        else:
            _figure(rng, draw, centre, radius, colour)
    return picture.reduce(OVERSAMPLING)


def line_art(rng: np.random.Generator, side: int) -> Image.Image:
    """Lines alone: curves, outlines, hatching, circles and technical drawings, mostly on white."""
    paper = WHITE if rng.random() < 0.6 else any_colour(rng)
    picture = Image.new("RGB", (side * OVERSAMPLING,) * 2, paper)
    draw = ImageDraw.Draw(picture)
    ink = ink_on(rng, paper)
    extent = side * OVERSAMPLING
    if rng.random() < 0.15:
        spacing = int(rng.integers(6, 33)) * OVERSAMPLING
        faint = mixed(paper, ink, rng.uniform(0.1, 0.4))
        for at in range(int(rng.integers(spacing)), extent, spacing):
            draw.line((at, 0, at, extent), faint, OVERSAMPLING)
            draw.line((0, at, extent, at), faint, OVERSAMPLING)
    width = round(rng.choice((1.0, 1.5, 2.0, 3.0, 4.0)) * OVERSAMPLING)
    for _ in range(2 + int(rng.integers(3 + side // 16))):
        if rng.random() < 0.15:
            ink = ink_on(rng, paper)
        kind = rng.integers(5)
        x, y = rng.uniform(0, extent, 2).tolist()
        radius = rng.uniform(6, 12 + side / 2) * OVERSAMPLING
        if kind == 0:
            draw.line(_curve(rng, extent), ink, width, joint="curve")
        elif kind == 1:
            outline = _polygon(rng, (x, y), radius)
            draw.line([*outline, *outline[:2]], ink, width, joint="curve")
        elif kind == 2:
            for step in range(int(rng.integers(1, 5))):
                inner = radius * (1 - step * 0.22)
                draw.ellipse((x - inner, y - inner, x + inner, y + inner), outline=ink, width=width)
        elif kind == 3:
            _hatching(rng, draw, (x, y), radius, ink, width)
        else:
            _measured(draw, (x, y), (radius, radius * rng.uniform(0.3, 1)), ink, width)
    return picture.reduce(OVERSAMPLING)


def logo(rng: np.random.Generator, side: int, fonts: Fonts) -> Image.Image:
    """A mark of a few simple shapes in two or three colours, often with a word below or beside."""
    paper = WHITE if rng.random() < 0.45 else any_colour(rng)
    picture = Image.new("RGB", (side * OVERSAMPLING,) * 2, paper)
    draw = ImageDraw.Draw(picture)
    colours = vivid(rng, 3) if rng.random() < 0.7 else [any_colour(rng) for _ in range(3)]
    size = rng.uniform(28, 28 + side * 0.9)  # of the mark, in pixels
    x, y = side * rng.uniform(0.25, 0.75), side * rng.uniform(0.25, 0.7)
    centre, radius = (x * OVERSAMPLING, y * OVERSAMPLING), size / 2 * OVERSAMPLING
    _mark(rng, draw, centre, radius, colours, paper)
    picture = picture.reduce(OVERSAMPLING)
    if rng.random() < 0.75:
        draw = ImageDraw.Draw(picture)
        height = int(min(96, max(10, size * rng.uniform(0.25, 0.6))))
        word = LATIN.words[rng.integers(len(LATIN.words))]
        word = word.upper() if rng.random() < 0.4 else word.capitalize()
        font = fonts.face(rng).at(height)
        ink = colours[0] if rng.random() < 0.4 else ink_on(rng, paper)
        if rng.random() < 0.5:
            draw.text((x, y + size * 0.56), word, ink, font, anchor="mt")
        else:
            draw.text((x + size * 0.6, y), word, ink, font, anchor="lm")
    return picture


def icons(rng: np.random.Generator, side: int, fonts: Fonts) -> Image.Image:
    """Rows of icons as bars, menus and home screens have them; plain, or on coloured tiles."""
    look = theme(rng)
    tiles = rng.random() < 0.45
    size = int(rng.choice((12, 14, 16, 20, 24, 32, 48)) if not tiles else rng.integers(24, 97))
    pitch = round(size * rng.uniform(1.25, 2))
    picture = Image.new("RGB", (side * OVERSAMPLING,) * 2, look.page)
    draw = ImageDraw.Draw(picture)
    left, top = (-rng.integers(0, pitch, 2)).tolist()
    places = [(x, y) for y in range(top, side, pitch) for x in range(left, side, pitch)]
    colour_of = [vivid(rng)[0] if tiles or rng.random() < 0.2 else look.ink for _ in places]
    corner = rng.choice((0.0, 0.2, 0.5))
    if tiles:
        for (x, y), colour in zip(places, colour_of, strict=True):
            box = [v * OVERSAMPLING for v in (x, y, x + size - 1, y + size - 1)]
            draw.rounded_rectangle(box, corner * size * OVERSAMPLING, colour)
    picture = picture.reduce(OVERSAMPLING)
    draw = ImageDraw.Draw(picture)
    drawn = max(8, round(size * 0.55)) if tiles else size
    for (x, y), colour in zip(places, colour_of, strict=True):
        face, character = fonts.icons[rng.integers(len(fonts.icons))]
        ink = WHITE if tiles else colour
        centre = (x + size // 2, y + size // 2)
        draw.text(centre, character, ink, face.at(drawn), anchor="mm")
    return picture


def _figure(
    rng: np.random.Generator,
    draw: ImageDraw.ImageDraw,
    centre: Point,
    radius: float,
    colour: Colour,
) -> None:
    """One figure of any kind: filled, outlined or both."""
    x, y = centre
    flatness = rng.uniform(0.3, 1)
    box = (x - radius, y - radius * flatness, x + radius, y + radius * flatness)
    width = max(1, round(rng.uniform(1, 8) * OVERSAMPLING))
    style = rng.random()
    fill = colour if style < 0.75 else None
    outline = any_colour(rng) if style < 0.25 else None if fill else colour
    kind = rng.integers(7)
    if kind == 0:
        draw.ellipse(box, fill, outline, width)
    elif kind == 1:
        draw.rounded_rectangle(box, radius * flatness * rng.random(), fill, outline, width)
    elif kind == 2:
        draw.rectangle(box, fill, outline, width)
    elif kind in (3, 4):
        points = _polygon(rng, centre, radius) if kind == 3 else _star(rng, centre, radius)
        draw.polygon(points, fill)
        if outline:
            draw.line([*points, *points[:2]], outline, width, joint="curve")
    elif kind == 5:
        start = rng.uniform(0, 360)
        draw.arc(box, start, start + rng.uniform(40, 330), colour, width)
    else:
        points = [(x + radius * a, y + radius * b) for a, b in rng.uniform(-1, 1, (4, 2)).tolist()]
        draw.line(points, colour, width, joint="curve")


def _shaded(rng: np.random.Generator, picture: Image.Image, centre: Point, radius: float) -> None:
    """An ellipse or rounded rectangle that is filled with a gradient."""
    size = max(2, round(2 * radius))
    mask = Image.new("L", (size, size))
    corner = radius if rng.random() < 0.5 else radius * rng.uniform(0.1, 0.6)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, size - 1, size - 1), corner, 255)
    fill = gradient(rng, 64).resize((size, size), Image.Resampling.BILINEAR)
    picture.paste(fill, (round(centre[0] - radius), round(centre[1] - radius)), mask)


def _mark(
    rng: np.random.Generator,
    draw: ImageDraw.ImageDraw,
    centre: Point,
    radius: float,
    colours: list[Colour],
    paper: Colour,
) -> None:
    """The shapes of a logo, around one centre."""
    x, y = centre
    kind = rng.integers(5)
    if kind == 0:  # discs that overlap
        for index, colour in enumerate(colours):
            left = x + (index - 1) * radius * 0.55
            draw.ellipse((left - radius * 0.6, y - radius * 0.6, left + radius * 0.6,
                          y + radius * 0.6), colour)  # fmt: skip
    elif kind == 1:  # rings around a disc
        for index, share in enumerate((1, 0.72, 0.44)):
            colour = paper if index == 1 else colours[index]
            reach = radius * share
            draw.ellipse((x - reach, y - reach, x + reach, y + reach), colour)
    elif kind == 2:  # petals
        count = int(rng.integers(3, 9))
        for index in range(count):
            turn = 2 * math.pi * index / count
            points = []
            for share, slant in ((0.12, 0), (0.7, -0.3), (1, 0), (0.7, 0.3)):
                reach, angle = radius * share, turn + slant
                points.append((x + reach * math.cos(angle), y + reach * math.sin(angle)))
            draw.polygon(points, colours[index % len(colours)])
    elif kind == 3:  # a tile with a figure cut out of it
        draw.rounded_rectangle(
            (x - radius, y - radius, x + radius, y + radius), radius * rng.uniform(0, 1), colours[0]
        )
        draw.polygon(_star(rng, centre, radius * 0.7), paper)
    else:  # rising bars
        for index, colour in enumerate(colours):
            left = x - radius + index * radius * 0.7
            top = y + radius - radius * (0.7 + 0.65 * index)
            draw.rectangle((left, top, left + radius * 0.5, y + radius), colour)


def _polygon(rng: np.random.Generator, centre: Point, radius: float) -> list[Point]:
    """Corners around a centre, three to eight."""
    turns = np.sort(rng.uniform(0, 2 * math.pi, int(rng.integers(3, 9))))
    reach = radius * rng.uniform(0.4, 1, len(turns))
    return list(zip((centre[0] + reach * np.cos(turns)).tolist(),
                    (centre[1] + reach * np.sin(turns)).tolist(), strict=True))  # fmt: skip


def _star(rng: np.random.Generator, centre: Point, radius: float) -> list[Point]:
    points = int(rng.integers(3, 9))
    inner, turn = rng.uniform(0.3, 1), rng.uniform(0, math.pi)
    made = []
    for index in range(2 * points):
        reach = radius * (inner if index % 2 else 1)
        angle = turn + math.pi * index / points
        made.append((centre[0] + reach * math.cos(angle), centre[1] + reach * math.sin(angle)))
    return made


def _curve(rng: np.random.Generator, extent: int) -> list[Point]:
    """Points along a cubic Bézier curve."""
    control = rng.uniform(-0.2, 1.2, (4, 2)) * extent
    t = np.linspace(0, 1, 33)[:, None]
    points = (
        control[0] * (1 - t) ** 3
        + control[1] * 3 * t * (1 - t) ** 2
        + control[2] * 3 * t**2 * (1 - t)
        + control[3] * t**3
    )
    return [(float(x), float(y)) for x, y in points]


def _hatching(
    rng: np.random.Generator,
    draw: ImageDraw.ImageDraw,
    centre: Point,
    radius: float,
    ink: Colour,
    width: int,
) -> None:
    """Parallel lines within a circle."""
    angle, spacing = rng.uniform(0, math.pi), width + rng.uniform(2, 8) * OVERSAMPLING
    cos, sin = math.cos(angle), math.sin(angle)
    for offset in np.arange(-radius, radius, spacing).tolist():
        half = math.sqrt(radius**2 - offset**2)
        x, y = centre[0] - offset * sin, centre[1] + offset * cos
        draw.line((x - half * cos, y - half * sin, x + half * cos, y + half * sin), ink, width)


def _measured(
    draw: ImageDraw.ImageDraw, corner: Point, size: Point, ink: Colour, width: int
) -> None:
    """A rectangle with a dimension line above it, as in a technical drawing."""
    (x, y), (w, h) = corner, size
    thin, tip = max(1, width // 2), 4.0 * OVERSAMPLING
    draw.rectangle((x, y, x + w, y + h), outline=ink, width=width)
    above = y - 3 * tip
    draw.line((x, above, x + w, above), ink, thin)
    for end, inward in ((x, tip), (x + w, -tip)):
        draw.line((end, y, end, above - tip), ink, thin)
        draw.polygon(
            [(end, above), (end + inward, above - tip / 2), (end + inward, above + tip / 2)], ink
        )
