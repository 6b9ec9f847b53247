"""`python -m training.data.synthetic --out sheet.png`: a contact sheet of synthetic crops."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from training.data.synthetic.fonts import FontError, find_fonts
from training.data.synthetic.generator import KINDS, Synthetic

_CAPTION = 12


def main(arguments: list[str] | None = None) -> int:
    """Draws the sheet; 0, or 2 where an argument makes no sense."""
    parser = argparse.ArgumentParser(
        prog="python -m training.data.synthetic",
        description="Write a contact sheet of the synthetic pictures that a model is trained on.",
    )
    parser.add_argument("--out", type=Path, required=True, help="The image file to write.")
    parser.add_argument("--seed", type=int, default=0, help="Of everything random.")
    parser.add_argument("--crop", type=int, default=96, help="Side of a picture, 16 to 512 pixels.")
    parser.add_argument("--count", type=int, default=100, help="How many pictures.")
    parser.add_argument(
        "--kind",
        choices=[kind.name for kind in KINDS],
        help="Show this kind alone instead of all by their shares.",
    )
    parser.add_argument(
        "--fonts",
        type=Path,
        action="append",
        default=[],
        help="A folder of further fonts; may be given several times.",
    )
    options = parser.parse_args(arguments)
    if options.count < 1:
        parser.error(f"--count must be at least 1, not {options.count}")
    if options.seed < 0:
        parser.error(f"--seed must not be negative: {options.seed}")
    try:
        fonts = find_fonts(options.fonts, lambda line: print(line, file=sys.stderr))
        sheet = contact_sheet(
            Synthetic(options.seed, options.crop, fonts), options.count, options.kind
        )
        sheet.save(options.out)
    except (FontError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def contact_sheet(synthetic: Synthetic, count: int, kind: str | None = None) -> Image.Image:
    """Crops of successive steps in rows, each with the name of its kind below it.

    Args:
        synthetic: draws the crops.
        count: how many.
        kind: shows this kind alone; None: all, by their shares.
    """
    found: list[tuple[Image.Image, str]] = []
    step = 0
    while len(found) < count:
        name = synthetic.kind_of(step, 0).name
        if kind in (None, name):
            found.append((Image.fromarray(synthetic.crop_of(step, 0)), name))
        step += 1
    side = found[0][0].width
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    gap = 4
    sheet = Image.new(
        "RGB", (columns * (side + gap) + gap, rows * (side + gap + _CAPTION) + gap), "#808080"
    )
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(10)
    for index, (picture, name) in enumerate(found):
        row, column = divmod(index, columns)
        corner = (gap + column * (side + gap), gap + row * (side + gap + _CAPTION))
        sheet.paste(picture, corner)
        draw.text((corner[0], corner[1] + side), name, "white", font)
    return sheet


if __name__ == "__main__":
    sys.exit(main())
