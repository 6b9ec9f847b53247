"""Fields of colour: flat, in regions, in gradients, in regular patterns.

Each function draws one square picture of `side` pixels from the random numbers it is given.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from training.data.synthetic.colours import Colour, any_colour, ink_on, mixed

# Steps of a gradient from end to end: far more than an 8-bit channel can show.
_STEPS = 2048


def flat(rng: np.random.Generator, side: int) -> Image.Image:
    """One colour everywhere."""
    return Image.new("RGB", (side, side), any_colour(rng))


def regions(rng: np.random.Generator, side: int) -> Image.Image:
    """Two to eight flat colours: bands, blocks, or cells with smooth slanted borders."""
    kind = rng.random()
    if kind < 0.4:
        return _bands(rng, side)
    return _blocks(rng, side) if kind < 0.7 else _cells(rng, side)


def gradient(rng: np.random.Generator, side: int) -> Image.Image:
    """A gradient: linear, radial, conical or between four corners; a third of low contrast."""
    first = any_colour(rng)
    if rng.random() < 0.35:
        near = np.clip(np.array(first) + rng.integers(-24, 25, 3), 0, 255)
        stops = [first, (int(near[0]), int(near[1]), int(near[2]))]
    else:
        stops = [first, *(any_colour(rng) for _ in range(rng.integers(1, 4)))]
    if rng.random() < 0.15:
        field = _between_corners(rng, side)
    else:
        field = _along(rng, stops, _place(rng, side))
    if rng.random() < 0.25:  # dithered, as good renderers do against banding
        field += rng.random(field.shape, dtype=np.float32) - 0.5
    return Image.fromarray((field + 0.5).clip(0, 255).astype(np.uint8))


def raster(rng: np.random.Generator, side: int) -> Image.Image:
    """A regular pattern of two colours: checkerboard, stripes, grid, dots, halftone or waves."""
    paper = any_colour(rng)
    ink = ink_on(rng, paper) if rng.random() < 0.7 else any_colour(rng)
    period = float(rng.integers(2, 33)) if rng.random() < 0.6 else rng.uniform(3, 40)
    angle = (0, 0, math.pi / 4, rng.uniform(0, math.pi))[rng.integers(4)]
    y, x = np.mgrid[:side, :side].astype(np.float32)
    left, top = rng.uniform(0, period, 2)
    u = ((x + left) * math.cos(angle) + (y + top) * math.sin(angle)) / period
    v = ((y + top) * math.cos(angle) - (x + left) * math.sin(angle)) / period
    kind = rng.integers(6)
    if kind == 0:
        wave = np.sin(math.pi * u) * np.sin(math.pi * v) * period
    elif kind == 1:
        wave = (np.abs(u % 1 - 0.5) - rng.uniform(0.08, 0.42)) * period
    elif kind == 2:
        width = rng.uniform(0.03, 0.2)
        wave = (width - np.minimum(np.abs(u % 1 - 0.5), np.abs(v % 1 - 0.5))) * period
    elif kind in (3, 4):  # dots, all of one size or growing along a gradient
        sizes = np.ones((side, side), np.float32) if kind == 3 else _place(rng, side)
        radius = rng.uniform(0.15, 0.6) * sizes + 0.04
        wave = (radius - np.hypot(u % 1 - 0.5, v % 1 - 0.5)) * period
    else:
        share = 0.5 + 0.5 * np.sin(2 * math.pi * u)
        return _blend(paper, ink, share)
    # A border is one pixel wide, as a renderer's, or hard.
    share = (wave + 0.5).clip(0, 1) if rng.random() < 0.7 else (wave > 0).astype(np.float32)
    return _blend(paper, ink, share)


def background(
    rng: np.random.Generator, side: int, oversampling: int = 1
) -> tuple[Image.Image, Colour]:
    """What shapes and text stand on: plain in 3 of 4 cases, with its mean colour.

    Args:
        rng: where random numbers come from.
        side: of the picture it becomes part of, pixels.
        oversampling: how many times larger than that it is made.
    """
    size = (side * oversampling, side * oversampling)
    if rng.random() < 0.75:
        colour = any_colour(rng)
        return Image.new("RGB", size, colour), colour
    first = any_colour(rng)
    stops = [first, mixed(first, any_colour(rng), rng.uniform(0.1, 0.6))]
    field = _along(rng, stops, _place(rng, side))
    picture = Image.fromarray((field + 0.5).astype(np.uint8))
    if oversampling > 1:
        picture = picture.resize(size, Image.Resampling.BILINEAR)
    return picture, mixed(stops[0], stops[1], 0.5)


def _place(rng: np.random.Generator, side: int) -> NDArray[np.float32]:
    """Float32 `[side, side]` in [0, 1]: how far along the gradient each pixel lies."""
    axis = np.arange(side, dtype=np.float32) / side
    x, y = axis[None, :], axis[:, None]
    kind = rng.random()
    # The gradient may be larger than the picture, which is then a part of it.
    reach = rng.uniform(0.7, 3)
    if kind < 0.5:
        angle = rng.uniform(0, 2 * math.pi) if rng.random() < 0.6 else math.pi / 2 * rng.integers(4)
        along = (x - 0.5) * math.cos(angle) + (y - 0.5) * math.sin(angle)
        place = along / reach + rng.uniform(0.3, 0.7)
    elif kind < 0.85:
        left, top = rng.uniform(-0.5, 1.5, 2)
        place = np.hypot(x - left, (y - top) * rng.uniform(0.6, 1.6)) / reach
    else:
        left, top = rng.uniform(-0.2, 1.2, 2)
        place = (np.arctan2(y - top, x - left) / (2 * math.pi) + rng.random()) % 1
    place = place.clip(0, 1)
    if rng.random() < 0.3:
        place = place * place * (3 - 2 * place)
    return place.astype(np.float32)


def _along(
    rng: np.random.Generator, stops: list[Colour], place: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Float32 `[side, side, 3]`, 0 … 255: the colours of the stops, the inner ones anywhere."""
    inner = np.sort(rng.uniform(0.15, 0.85, len(stops) - 2))
    positions = np.concatenate(([0.0], inner, [1.0]))
    steps = np.linspace(0, 1, _STEPS)
    table = [np.interp(steps, positions, [stop[c] for stop in stops]) for c in range(3)]
    colours = np.stack(table, axis=1).astype(np.float32)
    return colours[(place * (_STEPS - 1) + 0.5).astype(np.int32)]


def _between_corners(rng: np.random.Generator, side: int) -> NDArray[np.float32]:
    axis = np.linspace(0, 1, side, dtype=np.float32)
    x, y = axis[None, :, None], axis[:, None, None]
    corners = [np.array(any_colour(rng), np.float32) for _ in range(4)]
    top, bottom = corners[0] * (1 - x) + corners[1] * x, corners[2] * (1 - x) + corners[3] * x
    return (top * (1 - y) + bottom * y).astype(np.float32)


def _blend(paper: Colour, ink: Colour, share: NDArray[np.floating]) -> Image.Image:
    mask = Image.fromarray((share * 255 + 0.5).astype(np.uint8))
    picture = Image.new("RGB", mask.size, paper)
    picture.paste(ink, (0, 0), mask)
    return picture


def _bands(rng: np.random.Generator, side: int) -> Image.Image:
    colours = [any_colour(rng) for _ in range(rng.integers(2, 9))]
    borders = np.sort(rng.integers(0, side + 1, len(colours) - 1)).tolist()
    picture = Image.new("RGB", (side, side), colours[0])
    draw = ImageDraw.Draw(picture)
    upright = rng.random() < 0.5
    for colour, border in zip(colours[1:], borders, strict=True):
        if border < side:
            corner = (border, 0) if upright else (0, border)
            draw.rectangle((*corner, side, side), colour)
    return picture


def _blocks(rng: np.random.Generator, side: int) -> Image.Image:
    """Rectangles split and split again, now and then with lines between them."""
    picture = Image.new("RGB", (side, side), any_colour(rng))
    draw = ImageDraw.Draw(picture)
    gap = int(rng.integers(1, 6)) if rng.random() < 0.3 else 0
    boxes = [(0, 0, side, side)]
    for _ in range(int(rng.integers(1, 8))):
        left, top, right, bottom = boxes.pop(int(rng.integers(len(boxes))))
        share = rng.uniform(0.2, 0.8)
        if right - left > bottom - top:
            middle = round(left + (right - left) * share)
            boxes += [(left, top, middle, bottom), (middle, top, right, bottom)]
        else:
            middle = round(top + (bottom - top) * share)
            boxes += [(left, top, right, middle), (left, middle, right, bottom)]
    for left, top, right, bottom in boxes:
        if right - left > gap and bottom - top > gap:
            draw.rectangle((left, top, right - gap - 1, bottom - gap - 1), any_colour(rng))
    return picture


def _cells(rng: np.random.Generator, side: int) -> Image.Image:
    """Each pixel takes the colour of the nearest of a few points (a Voronoi diagram)."""
    count = int(rng.integers(2, 7))
    points = rng.uniform(-0.1, 1.1, (count, 2, 1, 1)).astype(np.float32)
    colours = np.array([any_colour(rng) for _ in range(count)], np.uint8)
    axis = (np.arange(2 * side, dtype=np.float32) + 0.5) / (2 * side)
    distances = (axis[None, :] - points[:, 0]) ** 2 + (axis[:, None] - points[:, 1]) ** 2
    return Image.fromarray(colours[distances.argmin(axis=0)]).reduce(2)
