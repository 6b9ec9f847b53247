"""Pictures before and after: pairs, the crops worth a closer look, and a contact sheet."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from training.data.dataset import Pixels, read_image
from training.evaluation.results import Evaluation
from training.onnx_export.codec import Codec

# Pictures in a report; more make it slow to load and nobody looks at them.
_PAIRS = 8
# Height and width of a crop, pixels, before it is enlarged three times.
_CROP = (84, 112)
ENLARGED = 3


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
        height, width = (min(a, b) for a, b in zip(_CROP, self.original.shape[:2], strict=True))
        error = self.original.astype(np.float64) - self.reconstruction
        error = np.square(error).sum(axis=2)
        # Sums over every window from the table of sums (Crow 1984).
        table = np.pad(error, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
        sums = table[height:, width:] - table[:-height, width:]
        sums -= table[height:, :-width] - table[:-height, :-width]
        top, left = np.unravel_index(sums.argmax(), sums.shape)
        area = (slice(top, top + height), slice(left, left + width))
        return self.original[area], self.reconstruction[area]


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
    # Every cell is as large as an enlarged crop; whole pictures are reduced to fit.
    height, width = ENLARGED * _CROP[0], ENLARGED * _CROP[1]
    margin, caption = 8, 26
    titles = ("original", "reconstruction", "original, 3x", "reconstruction, 3x")
    size = (
        margin + len(titles) * (width + margin),
        caption + len(pictures) * (height + caption + margin),
    )
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(15)
    for column, title in enumerate(titles):
        draw.text((margin + column * (width + margin), 5), title, "#222222", font)
    for row, pair in enumerate(pictures):
        top = caption + row * (height + caption + margin)
        pixels = (pair.original, pair.reconstruction, *pair.crops())
        for column, picture in enumerate(pixels):
            image = Image.fromarray(picture)
            if column < 2:
                image.thumbnail((width, height), Image.Resampling.LANCZOS)
            else:
                image = image.resize(
                    (image.width * ENLARGED, image.height * ENLARGED), Image.Resampling.NEAREST
                )
            sheet.paste(image, (margin + column * (width + margin), top))
        draw.text((margin, top + height + 4), f"{pair.name}  {pair.psnr:.2f} dB", "#555555", font)
    buffer = io.BytesIO()
    sheet.save(buffer, "WEBP", quality=90)
    return buffer.getvalue()
