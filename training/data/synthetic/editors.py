"""Code editors with coloured text and line numbers, and terminals."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from training.data.synthetic.colours import BLACK, WHITE, mixed, theme, vivid
from training.data.synthetic.fonts import Fonts
from training.data.synthetic.scripts import LATIN, number

_PROGRAM = (
    "def return if else for in while import from class self None True const let var function "
    "=> async await public static void int float string new match fn impl struct use try except "
    "yield with as lambda not and or == != <= += { } ( ) [ ] ; : = . , -> // # <div> </div> &&"
)
_KEYWORDS = tuple(_PROGRAM.split())


def code(rng: np.random.Generator, side: int, fonts: Fonts) -> Image.Image:
    """A code editor with coloured text and line numbers, or a terminal."""
    face = fonts.monospaced[rng.integers(len(fonts.monospaced))]
    size = int(rng.integers(9, 19))
    font = face.at(size)
    cell = font.getlength("0")
    terminal = rng.random() < 0.35
    look = theme(rng)
    paper = mixed(BLACK, look.page, rng.uniform(0, 0.3)) if terminal else look.page
    ink = (WHITE, (0, 230, 64), (204, 204, 204))[rng.integers(3)] if terminal else look.ink
    palette = [ink, ink, *vivid(rng, 5), look.faint]
    picture = Image.new("RGB", (side, side), paper)
    draw = ImageDraw.Draw(picture)
    pitch = round(size * rng.uniform(1.15, 1.5))
    left = int(rng.integers(-200, 12))
    first = int(rng.integers(1, 900))
    top = -int(rng.integers(0, pitch))
    if not terminal and rng.random() < 0.7:
        gutter = round(5 * cell)
        draw.rectangle((left, 0, left + gutter, side), look.panel)
        for line, y in enumerate(range(top, side, pitch)):
            if left + gutter > 0:
                place = (left + gutter - cell / 2, y)
                draw.text(place, str(first + line), look.faint, font, anchor="ra")
        left += gutter + 6
    depth = 0
    for y in range(top, side, pitch):
        if rng.random() < 0.06:
            draw.rectangle((left, y, left + 1000, y + pitch - 1), mixed(paper, ink, 0.15))
        if rng.random() < 0.1:
            continue
        depth = max(0, min(5, depth + int(rng.integers(-1, 2))))
        tokens = _prompt(rng) if terminal and rng.random() < 0.3 else _tokens(rng)
        x = left + (0 if terminal else 4 * depth * cell)
        for token in tokens:
            end = x + len(token) * cell
            if end > 0:
                draw.text((x, y), token, palette[rng.integers(len(palette))], font)
            x = end
            if x > side:
                break
    return picture


def _tokens(rng: np.random.Generator) -> list[str]:
    """Words of a line of a program, each with a space after it or none."""
    made = []
    for _ in range(int(rng.integers(2, 14))):
        kind = rng.random()
        if kind < 0.45:
            token = _KEYWORDS[rng.integers(len(_KEYWORDS))]
        elif kind < 0.85:
            first, second = rng.integers(len(LATIN.words), size=2)
            joiner = ("_", ".", "(", "")[rng.integers(4)]
            token = LATIN.words[first] + (joiner + LATIN.words[second] if joiner else "")
        else:
            token = f'"{number(rng)}"' if rng.random() < 0.5 else str(rng.integers(10**4))
        made.append(token + (" " if rng.random() < 0.75 else ""))
    return made


def _prompt(rng: np.random.Generator) -> list[str]:
    """A terminal's prompt and command, or a row of a listing."""
    if rng.random() < 0.6:
        command = ("ls -la", "git status", "make check", "cd /var/log", "python -m http.server")
        return ["user@host", ":", "~/work", "$ ", command[rng.integers(len(command))]]
    name = LATIN.words[rng.integers(len(LATIN.words))]
    return ["-rw-r--r-- ", "1 root ", f"{rng.integers(10**6):>7} ", "Nov 25 ", f"{name}.txt"]
