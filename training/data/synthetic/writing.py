"""Rendered text: on plain and graded backgrounds, and as on a scanned page."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from training.data.synthetic.colours import BLACK, WHITE, Colour, any_colour, ink_on, mixed, vivid
from training.data.synthetic.fields import background
from training.data.synthetic.fonts import SIZES, Face, Fonts
from training.data.synthetic.scripts import LATIN, Script


def text(rng: np.random.Generator, side: int, fonts: Fonts) -> Image.Image:
    """Lines of text in one script, in paragraphs that may differ in face, size and colour."""
    if rng.random() < 0.4:
        paper = WHITE if rng.random() < 0.8 else BLACK
        picture = Image.new("RGB", (side, side), paper)
    else:
        picture, paper = background(rng, side)
    script = fonts.script(rng)
    ink = ink_on(rng, paper)
    if rng.random() < 0.15:  # of low contrast, as captions and placeholders
        ink = mixed(paper, ink, rng.uniform(0.25, 0.7))
    draw = ImageDraw.Draw(picture)
    # Lines begin left of the picture in half of the cases: it shows a part of a page.
    left = -rng.uniform(0, 48) if rng.random() < 0.5 else rng.uniform(2, 0.3 * side + 2)
    top = -rng.uniform(0, 24)
    while top < side:
        size = SIZES[int(len(SIZES) * rng.random() ** 1.5)]
        face = fonts.face(rng, script)
        lines = int(rng.integers(1, 9))
        top = _paragraph(rng, draw, (left, top), side, script, face, size, lines, ink)
        top += size * rng.uniform(0.2, 1.2)
        if rng.random() < 0.2:
            ink = ink_on(rng, paper)
    return picture


def scan(rng: np.random.Generator, side: int, fonts: Fonts) -> Image.Image:
    """Part of a scanned page: dark text on paper, slightly turned, blurred and noisy."""
    room = side // 16 + 2  # around the picture, for what turning brings into it
    extent = side + 2 * room
    paper = mixed(WHITE, (214, 196, 160), rng.random() ** 2)
    picture = Image.new("RGB", (extent, extent), paper)
    draw = ImageDraw.Draw(picture)
    script = LATIN if rng.random() < 0.6 else fonts.script(rng)
    face = fonts.face(rng, script)
    size = SIZES[int(rng.integers(1, 13))]
    ink = mixed(BLACK, paper, rng.uniform(0, 0.35))
    left = -rng.uniform(0, 48) if rng.random() < 0.6 else rng.uniform(0, 0.4 * side) + room
    top = -rng.uniform(0, 24)
    while top < extent:
        heading = rng.random() < 0.15
        scale = SIZES[min(SIZES.index(size) + 4, len(SIZES) - 1)] if heading else size
        lines = 1 if heading else int(rng.integers(2, 9))
        top = _paragraph(rng, draw, (left, top), extent, script, face, scale, lines, ink)
        top += size * rng.uniform(0.3, 1)
        if rng.random() < 0.1:
            draw.line((max(0, left), top, extent, top), ink, 1)
            top += size / 2
    if rng.random() < 0.1:  # a stamp, or a signature's pen
        x, y = rng.uniform(0, extent, 2).tolist()
        draw.ellipse((x - 30, y - 30, x + 30, y + 30), outline=vivid(rng)[0], width=2)
    if rng.random() < 0.6:
        picture = picture.rotate(rng.normal(0, 1.2), Image.Resampling.BICUBIC, fillcolor=paper)
    if rng.random() < 0.6:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.8)))
    pixels = np.asarray(picture.crop((room, room, room + side, room + side))).astype(np.float32)
    noise = rng.standard_normal((side, side, 1), dtype=np.float32) * rng.uniform(0, 5)
    shade = np.linspace(1, rng.uniform(0.9, 1), side, dtype=np.float32)[None, :, None]
    pixels = (pixels * shade + noise).clip(0, 255)
    if rng.random() < 0.4:  # in grey
        pixels = np.repeat(pixels.mean(axis=2, keepdims=True), 3, axis=2)
    return Image.fromarray(pixels.astype(np.uint8))


def _paragraph(
    rng: np.random.Generator,
    draw: ImageDraw.ImageDraw,
    corner: tuple[float, float],
    extent: int,
    script: Script,
    face: Face,
    size: int,
    lines: int,
    ink: Colour,
) -> float:
    """Writes lines from a corner on, as wide as the picture; where the next would begin."""
    left, top = corner
    font = face.at(size, shaped=script.shaped)
    pitch = round(size * rng.uniform(1.15, 1.6))
    if script.right_to_left:
        x, anchor = extent - left, "ra"
        wide = x
    else:
        x, anchor = left, "la"
        wide = extent - left
    direction = "rtl" if script.right_to_left else None
    # Characters of scripts without spaces are as wide as high, others half of that.
    needed = wide / (size * (0.95 if not script.spaced else 0.45)) + 2
    marked = int(rng.integers(lines)) if rng.random() < 0.12 else -1
    for line in range(lines):
        if top > extent:
            break
        last = line == lines - 1 and lines > 1
        words = script.line(rng, max(1, int(needed * (rng.uniform(0.2, 0.9) if last else 1))))
        if top > -pitch:
            colour = ink
            if line == marked:  # selected text, or a link
                if rng.random() < 0.5:
                    colour = vivid(rng)[0]
                    end = font.getlength(words) if not script.shaped else wide
                    if not script.right_to_left:
                        draw.line((x, top + size + 1, x + end, top + size + 1), colour, 1)
                else:
                    band = any_colour(rng)
                    colour = ink_on(rng, band)
                    draw.rectangle((0, top, extent, top + pitch - 1), band)
            draw.text((x, top), words, colour, font, anchor=anchor, direction=direction)
        top += pitch
    return top
