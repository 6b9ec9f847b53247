"""Charts: bars, lines, points, areas and pies, with axes, labels and a legend."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from training.data.synthetic.colours import Colour, Theme, any_colour, theme, vivid
from training.data.synthetic.fonts import Fonts
from training.data.synthetic.scripts import LATIN, number

_OVERSAMPLING = 2

Box = tuple[int, int, int, int]
# The categorical colours that many programs draw charts with (Tableau 10).
_TABLEAU: list[Colour] = [
    (31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189),
    (140, 86, 75), (227, 119, 194), (127, 127, 127), (188, 189, 34), (23, 190, 207),
]  # fmt: skip


def chart(rng: np.random.Generator, side: int, fonts: Fonts) -> Image.Image:
    """A part of a chart up to three times as wide, or all of it."""
    look = theme(rng)
    width = int(rng.integers(120, min(640, max(200, 3 * side)) + 1))
    height = int(width * rng.uniform(0.5, 1))
    left = int(rng.integers(min(8, side - width), max(8, side - width) + 1))
    top = int(rng.integers(min(8, side - height), max(8, side - height) + 1))
    font = fonts.face(rng).at(int(rng.choice((8, 9, 10, 11, 12, 13, 14))))
    picture = Image.new("RGB", (side * _OVERSAMPLING,) * 2, look.page)
    draw = ImageDraw.Draw(picture)
    colours = _colours(rng)
    margin = 34
    box = (left + margin + 6, top + 24, left + width - 12, top + height - margin)
    pie = rng.random() < 0.2
    if pie:
        _pie(rng, draw, box, colours, look)
    else:
        steps = int(rng.integers(3, 8))
        if rng.random() < 0.7:
            for step in range(1, steps + 1):
                y = (box[3] - (box[3] - box[1]) * step / steps) * _OVERSAMPLING
                ends = (box[0] * _OVERSAMPLING, y, box[2] * _OVERSAMPLING, y)
                draw.line(ends, look.line, _OVERSAMPLING)
        kind = (_bars, _bars, _lines, _lines, _points, _areas)[rng.integers(6)]
        kind(rng, draw, box, colours)
    picture = picture.reduce(_OVERSAMPLING)
    draw = ImageDraw.Draw(picture)
    if not pie:
        _axes(rng, draw, box, steps, font, look)
    if rng.random() < 0.6:
        title = LATIN.line(rng, int(rng.integers(8, 30))).capitalize()
        draw.text(((box[0] + box[2]) // 2, top + 4), title, look.ink, font, anchor="ma")
    if rng.random() < 0.5:
        _legend(rng, draw, box, colours, font, look)
    return picture


def _colours(rng: np.random.Generator) -> list[Colour]:
    kind = rng.random()
    if kind < 0.4:
        return _TABLEAU
    count = int(rng.integers(2, 7))
    return vivid(rng, count) if kind < 0.8 else [any_colour(rng) for _ in range(count)]


def _axes(
    rng: np.random.Generator,
    draw: ImageDraw.ImageDraw,
    box: Box,
    steps: int,
    font: ImageFont.FreeTypeFont,
    look: Theme,
) -> None:
    left, top, right, bottom = box
    if rng.random() < 0.5:
        draw.rectangle(box, outline=look.ink)
    else:
        draw.line((left, top, left, bottom), look.ink)
        draw.line((left, bottom, right, bottom), look.ink)
    unit = 10.0 ** rng.integers(-2, 4)
    for step in range(steps + 1):
        y = round(bottom - (bottom - top) * step / steps)
        draw.line((left - 3, y, left, y), look.ink)
        draw.text((left - 5, y), f"{step * unit:g}", look.faint, font, anchor="rm")
    named = rng.random() < 0.5
    count = max(2, min(8, (right - left) // 40))
    for step in range(count):
        x = round(left + (right - left) * (step + 0.5) / count)
        draw.line((x, bottom, x, bottom + 3), look.ink)
        label = LATIN.words[rng.integers(len(LATIN.words))][:6] if named else f"{2000 + step}"
        draw.text((x, bottom + 5), label, look.faint, font, anchor="ma")


def _legend(
    rng: np.random.Generator,
    draw: ImageDraw.ImageDraw,
    box: Box,
    colours: list[Colour],
    font: ImageFont.FreeTypeFont,
    look: Theme,
) -> None:
    x, y = box[2] - 78, box[1] + 4
    pitch = round(font.size * 1.4)
    count = min(4, len(colours))
    draw.rectangle((x - 4, y - 2, x + 74, y + count * pitch), look.page, look.line)
    for index in range(count):
        line = y + index * pitch
        draw.rectangle((x, line + 2, x + 9, line + 11), colours[index])
        word = LATIN.words[rng.integers(len(LATIN.words))]
        draw.text((x + 14, line), f"{word[:8]} {number(rng)[:3]}", look.ink, font)


def _bars(
    rng: np.random.Generator, draw: ImageDraw.ImageDraw, box: Box, colours: list[Colour]
) -> None:
    left, top, right, bottom = (v * _OVERSAMPLING for v in box)
    groups, series = int(rng.integers(3, 13)), int(rng.integers(1, 4))
    stacked = rng.random() < 0.3
    pitch = (right - left) / groups
    values = rng.uniform(0.05, 0.95, (groups, series)) / (series if stacked else 1)
    filled = rng.uniform(0.5, 0.95)
    for group in range(groups):
        floor = float(bottom)
        for index in range(series):
            tall = values[group, index] * (bottom - top)
            colour = colours[index % len(colours)]
            if stacked:
                x = left + pitch * (group + 0.5 - filled / 2)
                draw.rectangle((x, floor - tall, x + pitch * filled, floor), colour)
                floor -= tall
            else:
                wide = pitch * filled / series
                x = left + pitch * (group + 0.5 - filled / 2) + index * wide
                draw.rectangle((x, bottom - tall, x + wide - 1, bottom), colour)


def _series(rng: np.random.Generator, box: Box, count: int) -> list[tuple[float, float]]:
    """Points of a random walk from left to right."""
    left, top, right, bottom = (v * _OVERSAMPLING for v in box)
    walk = np.cumsum(rng.normal(0, 1, count) + rng.normal(0, 0.3))
    walk = (walk - walk.min()) / max(float(np.ptp(walk)), 1e-6)
    low, high = np.sort(rng.uniform(0.05, 0.95, 2))
    heights = bottom - (low + (high - low) * walk) * (bottom - top)
    return list(zip(np.linspace(left, right, count).tolist(), heights.tolist(), strict=True))


def _lines(
    rng: np.random.Generator, draw: ImageDraw.ImageDraw, box: Box, colours: list[Colour]
) -> None:
    width = int(rng.choice((1, 2, 2, 3)) * _OVERSAMPLING)
    count = int(rng.choice((6, 12, 40, 120)))
    dots = count < 20 and rng.random() < 0.5
    for index in range(int(rng.integers(1, 6))):
        points = _series(rng, box, count)
        colour = colours[index % len(colours)]
        draw.line(points, colour, width, joint="curve")
        if dots:
            for x, y in points:
                draw.ellipse((x - 6, y - 6, x + 6, y + 6), colour)


def _areas(
    rng: np.random.Generator, draw: ImageDraw.ImageDraw, box: Box, colours: list[Colour]
) -> None:
    bottom = box[3] * _OVERSAMPLING
    for index in range(int(rng.integers(1, 4))):
        points = _series(rng, box, 40)
        outline = [(points[0][0], bottom), *points, (points[-1][0], bottom)]
        draw.polygon(outline, colours[index % len(colours)])


def _points(
    rng: np.random.Generator, draw: ImageDraw.ImageDraw, box: Box, colours: list[Colour]
) -> None:
    left, top, right, bottom = (v * _OVERSAMPLING for v in box)
    radius = rng.uniform(1.5, 5) * _OVERSAMPLING
    for index in range(int(rng.integers(1, 4))):
        centre, spread = rng.uniform(0.2, 0.8, 2), rng.uniform(0.05, 0.3, 2)
        places = rng.normal(centre, spread, (int(rng.integers(10, 80)), 2)).clip(0.01, 0.99)
        for u, v in places.tolist():
            x, y = left + u * (right - left), bottom - v * (bottom - top)
            draw.ellipse(
                (x - radius, y - radius, x + radius, y + radius), colours[index % len(colours)]
            )


def _pie(
    rng: np.random.Generator,
    draw: ImageDraw.ImageDraw,
    box: Box,
    colours: list[Colour],
    look: Theme,
) -> None:
    left, top, right, bottom = (v * _OVERSAMPLING for v in box)
    radius = min(right - left, bottom - top) / 2
    x, y = left + radius, top + radius
    outline = (x - radius, y - radius, x + radius, y + radius)
    shares = rng.dirichlet(np.ones(int(rng.integers(2, 8))))
    start = rng.uniform(0, 360)
    gap = look.page if rng.random() < 0.5 else None
    for index, share in enumerate(shares.tolist()):
        colour = colours[index % len(colours)]
        draw.pieslice(outline, start, start + 360 * share, colour, gap, _OVERSAMPLING)
        start += 360 * share
    if rng.random() < 0.35:  # a ring
        inner = radius * math.sqrt(rng.uniform(0.1, 0.5))
        draw.ellipse((x - inner, y - inner, x + inner, y + inner), look.page)
