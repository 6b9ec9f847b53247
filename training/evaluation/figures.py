"""Pictures before and after: pairs, the crops worth a closer look, and a contact sheet."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from training.data.dataset import Pixels, read_image
from training.evaluation.results import Evaluation
from training.onnx_export.codec import Codec

# Pictures in a report; more make it slow to load and nobody looks at them.
_PAIRS = 8
# Height and width of a crop, pixels, before it is enlarged three times.
_CROP = (84, 112)
ENLARGED = 3
# Every cell of a contact sheet is as large as an enlarged crop.
_CELL = (ENLARGED * _CROP[0], ENLARGED * _CROP[1])


@dataclass(frozen=True)
class Pair:
    """A picture before and after.

    Attributes:
        name: of the file.
        original, reconstruction: uint8 `[h, w, 3]`.
        psnr: of the one against the other, dB.
    """

    name: str
    original: Pixels
    reconstruction: Pixels
    psnr: float

    def crops(self) -> tuple[Pixels, Pixels]:
        """The same part of both, at most 84×112 pixels: where the reconstruction errs most."""
        error = self.original.astype(np.float64) - self.reconstruction
        area = largest_window(np.square(error).sum(axis=2))
        return self.original[area], self.reconstruction[area]


def largest_window(weights: NDArray[np.float64]) -> tuple[slice, slice]:
    """Rows and columns of the window of a crop's size in which the weights `[h, w]` sum highest."""
    height, width = (min(a, b) for a, b in zip(_CROP, weights.shape, strict=True))
    # Sums over every window from the table of sums (Crow 1984).
    table = np.pad(weights, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    sums = table[height:, width:] - table[:-height, width:]
    sums -= table[height:, :-width] - table[:-height, :-width]
    top, left = np.unravel_index(sums.argmax(), sums.shape)
    return slice(int(top), int(top) + height), slice(int(left), int(left) + width)


def pairs(
    codec: Codec, evaluation: Evaluation, folders: Sequence[Path], count: int = _PAIRS
) -> list[Pair]:
    """Originals beside reconstructions, from the best PSNR to the worst, evenly spread.

    Args:
        codec: the model that was evaluated.
        evaluation: of it.
        folders: the ones it was evaluated on.
        count: how many pictures at most.
    """
    order = sorted(evaluation.results, key=lambda r: -r.quality.psnr)
    last = max(1, min(count, len(order)) - 1)
    picks = sorted({round(i * (len(order) - 1) / last) for i in range(min(count, len(order)))})
    made = []
    for result in (order[i] for i in picks):
        path = next(f / result.path for f in folders if (f / result.path).is_file())
        image = read_image(path)
        height, width = image.shape[:2]
        reconstruction = codec.decode_image(codec.encode_image(image), height, width)
        made.append(Pair(result.path, image, reconstruction, result.quality.psnr))
    return made


def contact_sheet(pictures: Sequence[Pair]) -> bytes:
    """Original, reconstruction and a crop of either at 3×, one row a picture.

    Args:
        pictures: the rows.

    Returns:
        A WebP file of quality 90.
    """
    titles = ("original", "reconstruction", "original, 3x", "reconstruction, 3x")
    rows = [
        SheetRow(
            [fitted(pair.original), fitted(pair.reconstruction), *map(enlarged, pair.crops())],
            [f"{pair.name}  {pair.psnr:.2f} dB"],
        )
        for pair in pictures
    ]
    return draw_sheet(titles, rows)


@dataclass(frozen=True)
class SheetRow:
    """A row of a contact sheet.

    Attributes:
        cells: pictures of at most 336×252 pixels, from left to right.
        captions: what stands below them, from left to right; may be fewer.
    """

    cells: Sequence[Image.Image]
    captions: Sequence[str]


def fitted(picture: Pixels) -> Image.Image:
    """A whole picture, uint8 `[h, w, 3]`, reduced to the size of a cell."""
    image = Image.fromarray(picture)
    image.thumbnail((_CELL[1], _CELL[0]), Image.Resampling.LANCZOS)
    return image


def enlarged(crop: Pixels) -> Image.Image:
    """A crop of at most 84×112 pixels at 3×, each pixel a square."""
    image = Image.fromarray(crop)
    size = (image.width * ENLARGED, image.height * ENLARGED)
    return image.resize(size, Image.Resampling.NEAREST)


def draw_sheet(titles: Sequence[str], rows: Sequence[SheetRow], quality: int = 90) -> bytes:
    """A WebP file of pictures in rows, with a title above each column.

    Args:
        titles: of the columns.
        rows: each with as many cells as there are titles.
        quality: of the file, 0…100.
    """
    height, width = _CELL
    margin, caption = 8, 26
    size = (
        margin + len(titles) * (width + margin),
        caption + len(rows) * (height + caption + margin),
    )
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(15)
    for column, title in enumerate(titles):
        draw.text((margin + column * (width + margin), 5), title, "#222222", font)
    for number, row in enumerate(rows):
        top = caption + number * (height + caption + margin)
        for column, cell in enumerate(row.cells):
            sheet.paste(cell, (margin + column * (width + margin), top))
        for column, text in enumerate(row.captions):
            draw.text((margin + column * (width + margin), top + height + 4), text, "#555555", font)
    buffer = io.BytesIO()
    sheet.save(buffer, "WEBP", quality=quality)
    return buffer.getvalue()
