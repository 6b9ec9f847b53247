"""Windows of programs and pages: bars, buttons, tables, lists, forms, cards, dialogues.

A picture is a part of a larger screen, whose pixels are drawn as they are: its edges fall
on pixel borders, its text is anti-aliased by the font renderer alone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from training.data.synthetic.colours import BLACK, WHITE, Colour, Theme, mixed, theme, vivid
from training.data.synthetic.fonts import Face, Fonts
from training.data.synthetic.scripts import CYRILLIC, GREEK, LATIN, number

Box = tuple[int, int, int, int]
_TEXT_SIZES = (10, 11, 12, 13, 14, 15, 16)


class _Screen:
    """What the parts of a screen are drawn with.

    Attributes:
        side: of the picture; what lies outside is left undrawn.
        face: of all text.
        size: of all text, pixels.
    """

    def __init__(self, rng: np.random.Generator, side: int, fonts: Fonts, look: Theme) -> None:
        self.rng, self.side, self.look, self.fonts = rng, side, look, fonts
        self.picture = Image.new("RGB", (side, side), look.page)
        self.draw = ImageDraw.Draw(self.picture)
        script = (LATIN, LATIN, LATIN, CYRILLIC, GREEK)[rng.integers(5)]
        self.script = script if script.name in fonts.faces else LATIN
        self.face: Face = fonts.face(rng, self.script)
        self.size = int(rng.choice(_TEXT_SIZES))
        self.corner = int(rng.choice((0, 0, 3, 6, 10)))
        self.row = round(self.size * rng.uniform(1.5, 2.3))

    @property
    def font(self) -> ImageFont.FreeTypeFont:
        return self.face.at(self.size)

    def shows(self, left: float, top: float, right: float, bottom: float) -> bool:
        """Whether any of a box lies in the picture."""
        return left < self.side and top < self.side and right > 0 and bottom > 0

    def write(self, x: int, middle: int, words: str, ink: Colour, anchor: str = "lm") -> None:
        """One line of text, left out where it can't be seen."""
        reach = len(words) * self.size
        before = {"l": 0, "m": reach // 2, "r": reach}[anchor[0]]
        if self.shows(x - before, middle - self.size, x - before + reach, middle + self.size):
            self.draw.text((x, middle), words, ink, self.font, anchor=anchor)

    def words(self, characters: int) -> str:
        return self.script.line(self.rng, characters)

    def icon(self, x: int, middle: int, ink: Colour) -> None:
        face, character = self.fonts.icons[self.rng.integers(len(self.fonts.icons))]
        if self.shows(x - self.size, middle - self.size, x + 2 * self.size, middle + self.size):
            self.draw.text((x, middle), character, ink, face.at(self.size), anchor="lm")

    def button(self, x: int, top: int, *, primary: bool) -> int:
        """A button with a word; where it ends."""
        words = self.words(4)
        right = x + round(self.font.getlength(words)) + 2 * self.size
        fill = self.look.accent if primary else self.look.panel
        outline = fill if primary else self.look.line
        box = (x, top, right, top + self.row)
        if self.shows(*box):
            self.draw.rounded_rectangle(box, self.corner, fill, outline)
            ink = self.look.on_accent if primary else self.look.ink
            self.write((x + right) // 2, top + self.row // 2, words, ink, "mm")
        return right


def window(rng: np.random.Generator, side: int, fonts: Fonts) -> Image.Image:
    """A program's window or a page: bars, buttons, and a table, list, form, cards or dialogue."""
    screen = _Screen(rng, side, fonts, theme(rng))
    width, height = max(side, int(rng.integers(320, 900))), max(side, int(rng.integers(240, 700)))
    left = -int(rng.integers(0, width - side + 1)) + int(rng.integers(0, 9))
    top = -int(rng.integers(0, height - side + 1)) + int(rng.integers(0, 9))
    content_top = top
    if rng.random() < 0.8:
        content_top = _bars(screen, (left, top, left + width, top + height))
    content_left = left
    if rng.random() < 0.5:
        content_left = left + int(rng.integers(90, 220))
        screen.draw.rectangle((left, content_top, content_left, top + height), screen.look.panel)
        _list(screen, (left, content_top, content_left, top + height))
        screen.draw.line((content_left, content_top, content_left, top + height), screen.look.line)
    contents: tuple[Callable[[_Screen, Box], None], ...] = (_table, _table, _list, _form, _cards)
    contents[rng.integers(len(contents))](
        screen, (content_left, content_top, left + width, top + height)
    )
    if rng.random() < 0.15:
        _dialogue(screen)
    return screen.picture


def _bars(screen: _Screen, box: Box) -> int:
    """The title bar with its buttons and perhaps a bar of tools or tabs; where they end."""
    rng, look = screen.rng, screen.look
    left, top, right, _ = box
    tall = screen.row + int(rng.integers(2, 12))
    coloured = rng.random() < 0.35
    fill = look.accent if coloured else look.panel
    ink = look.on_accent if coloured else look.ink
    screen.draw.rectangle((left, top, right, top + tall), fill)
    middle = top + tall // 2
    if rng.random() < 0.4:  # three round buttons at the left
        for index, colour in enumerate(((255, 95, 87), (254, 188, 46), (40, 200, 64))):
            x = left + 10 + 20 * index
            screen.draw.ellipse((x, middle - 6, x + 12, middle + 6), colour)
    else:
        for index, sign in enumerate("×□–"):
            screen.write(right - 14 - 26 * index, middle, sign, ink, "mm")
    screen.write((left + right) // 2, middle, screen.words(16), ink, "mm")
    bottom = top + tall
    screen.draw.line((left, bottom, right, bottom), look.line)
    if rng.random() < 0.7:
        x = left + 8
        tools = rng.random() < 0.5
        while x < min(right, screen.side):
            if tools:
                screen.icon(x, bottom + 2 + screen.row // 2, look.ink)
                x += round(screen.size * 2)
            else:
                x = screen.button(x, bottom + 4, primary=rng.random() < 0.2) + 6
        bottom += screen.row + 8
        screen.draw.line((left, bottom, right, bottom), look.line)
    return bottom


def _table(screen: _Screen, box: Box) -> None:
    """Rows and columns of words and numbers, with a head, lines or bands."""
    rng, look = screen.rng, screen.look
    left, top, right, bottom = box
    columns = []
    x = left
    while x < right:
        columns.append((x, rng.random() < 0.4))
        x += int(rng.integers(50, 160))
    banded, ruled = rng.random() < 0.4, rng.random() < 0.5
    for index, y in enumerate(range(top, min(bottom, screen.side), screen.row)):
        if y + screen.row < 0:
            continue
        fill = look.panel if index == 0 or (banded and index % 2) else None
        if rng.random() < 0.04:
            fill = mixed(look.page, look.accent, 0.35)
        if fill:
            screen.draw.rectangle((left, y, right, y + screen.row - 1), fill)
        if not banded:
            screen.draw.line((left, y, right, y), look.line)
        for (x, numeric), (end, _) in zip(columns, [*columns[1:], (right, False)], strict=True):
            middle = y + screen.row // 2
            if numeric and index:
                screen.write(end - 6, middle, number(rng), look.ink, "rm")
            elif screen.shows(x, y, end, y + screen.row):
                fitting = max(1, int((end - x - 12) / (screen.size * 0.6)))
                ink = look.faint if index == 0 else look.ink
                screen.write(x + 6, middle, screen.words(fitting)[:fitting], ink)
    if ruled:
        for x, _ in columns:
            screen.draw.line((x, top, x, bottom), look.line)


def _list(screen: _Screen, box: Box) -> None:
    """Entries below each other, with icons, and one of them selected."""
    rng, look = screen.rng, screen.look
    left, top, right, bottom = box
    fitting = max(4, min(60, int((right - left) / (screen.size * 0.6)) - 4))
    icon = rng.random() < 0.6
    rows = range(top, min(bottom, screen.side), screen.row)
    selected = int(rng.integers(len(rows))) if len(rows) else 0
    for index, y in enumerate(rows):
        if y + screen.row < 0:
            continue
        ink = look.ink
        if index == selected:
            screen.draw.rectangle((left, y, right, y + screen.row - 1), look.accent)
            ink = look.on_accent
        if icon:
            screen.icon(left + 8, y + screen.row // 2, ink)
        start = left + 8 + (round(screen.size * 1.8) if icon else 0)
        screen.write(start, y + screen.row // 2, screen.words(fitting // 2)[:fitting], ink)


def _form(screen: _Screen, box: Box) -> None:
    """Labels with fields, boxes to tick, switches, sliders and buttons."""
    rng, look = screen.rng, screen.look
    left, top, right, bottom = box
    x, end = left + 16, min(right - 16, left + int(rng.integers(160, 420)))
    y = top + 12
    while y < min(bottom, screen.side):
        kind = rng.integers(5)
        middle = y + screen.row // 2
        if kind == 0:
            screen.write(x, middle, screen.words(12), look.ink)
            y += screen.row
            field = (x, y, end, y + screen.row)
            screen.draw.rounded_rectangle(field, screen.corner, look.page, look.line)
            screen.write(x + 6, y + screen.row // 2, screen.words(10), look.faint)
        elif kind == 1:
            tick = (x, middle - 6, x + 12, middle + 6)
            on = rng.random() < 0.5
            screen.draw.rectangle(tick, look.accent if on else look.page, look.line)
            if on:
                mark = [(x + 3, middle), (x + 5, middle + 3), (x + 10, middle - 3)]
                screen.draw.line(mark, look.on_accent, 2)
            screen.write(x + 20, middle, screen.words(14), look.ink)
        elif kind == 2:
            on = rng.random() < 0.5
            fill = look.accent if on else look.line
            screen.draw.rounded_rectangle((x, middle - 8, x + 30, middle + 8), 8, fill)
            knob = x + (16 if on else 2)
            screen.draw.ellipse((knob, middle - 6, knob + 12, middle + 6), WHITE)
            screen.write(x + 40, middle, screen.words(14), look.ink)
        elif kind == 3:
            share = x + round((end - x) * rng.random())
            screen.draw.rectangle((x, middle - 2, end, middle + 2), look.line)
            screen.draw.rectangle((x, middle - 2, share, middle + 2), look.accent)
            screen.draw.ellipse((share - 7, middle - 7, share + 7, middle + 7), look.accent)
        else:
            next_to = screen.button(x, y, primary=True) + 8
            screen.button(next_to, y, primary=False)
        y += screen.row + int(rng.integers(4, 14))


def _cards(screen: _Screen, box: Box) -> None:
    """Tiles with a picture's place, a heading, some lines and a button."""
    rng, look = screen.rng, screen.look
    left, top, right, bottom = box
    wide, tall = int(rng.integers(110, 260)), int(rng.integers(110, 240))
    for y in range(top + 10, min(bottom, screen.side), tall + 12):
        for x in range(left + 10, min(right, screen.side), wide + 12):
            card = (x, y, x + wide, y + tall)
            if not screen.shows(*card):
                continue
            screen.draw.rounded_rectangle(card, screen.corner, look.panel, look.line)
            picture = (x + 1, y + 1, x + wide - 1, y + tall // 3)
            screen.draw.rectangle(picture, vivid(rng)[0] if rng.random() < 0.7 else look.line)
            fitting = int((wide - 16) / (screen.size * 0.6))
            line = y + tall // 3 + screen.size
            ink = look.ink
            while line < y + tall - screen.row - 10:
                screen.write(x + 8, line, screen.words(fitting)[:fitting], ink)
                ink = look.faint
                line += round(screen.size * 1.4)
            screen.button(x + 8, y + tall - screen.row - 6, primary=rng.random() < 0.5)


def _dialogue(screen: _Screen) -> None:
    """A small window over the rest, with a shadow."""
    rng, look = screen.rng, screen.look
    x, y = rng.integers(-80, max(1, screen.side - 40), 2).tolist()
    wide, tall = int(rng.integers(120, 280)), int(rng.integers(90, 160))
    for depth in range(4):
        shade = mixed(look.line, BLACK, 0.1 * depth)
        screen.draw.rectangle(
            (x + depth, y + depth, x + wide + 4 - depth, y + tall + 6 - depth), shade
        )
    box = (x, y, x + wide, y + tall)
    screen.draw.rounded_rectangle(box, screen.corner, look.page, look.line)
    screen.write(x + 12, y + 16, screen.words(12), look.ink)
    screen.write(x + 12, y + 16 + screen.row, screen.words(18), look.faint)
    end = screen.button(x + 12, y + tall - screen.row - 10, primary=True)
    screen.button(end + 8, y + tall - screen.row - 10, primary=False)
