"""`tessera classify`: what pictures or codes show, and where in the picture it is seen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from PIL import Image, ImageDraw
from rich.console import Console
from rich.table import Table

from app.cli.code_files import model_facts
from app.cli.failures import MISUSED, CommandFailed
from app.cli.files import PIPE, write_file
from app.cli.inputs import InputsArgument, read_inputs
from app.cli.options import AsJson, ImageOptions, ModelName, ServiceOptions
from app.cli.results import labels_json
from app.errors import TesseraError
from app.service.preprocessing import ImageInput, PreprocessingOptions, decode
from imaging.encode import MediaType, encode_image
from tessera_client import Codes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tessera_client import Classification, Client, ServerError

_MAP_TYPES: dict[str, MediaType] = {
    ".png": "image/png",
    ".webp": "image/webp",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
}
_OWN_PIXELS = 500_000_000
# What the map is laid over the picture with, and the most that it hides of it.
_TINT = (255, 120, 0)
_OPACITY = 0.6


def classify(
    inputs: InputsArgument,
    recognizer: Annotated[
        str | None,
        typer.Option(help="name of one of the model's recognizers; else the first by name"),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, max=1000, help="most labels of each picture")] = 5,
    map_file: Annotated[
        Path | None,
        typer.Option(
            "--map",
            help="write the one picture there, with the place of its first label laid over it "
            "and a box around the main region (.png, .webp, .jpg)",
        ),
    ] = None,
    *,
    image: ImageOptions,
    model: ModelName = None,
    as_json: AsJson = False,
    service: ServiceOptions,
) -> None:
    """Label pictures or codes, by a recognizer that the model carries.

    tessera classify photo.jpg --map where.png
    """
    if map_file is not None:
        _check_map(map_file, inputs)
    size = image.wanted()
    failed: dict[int, ServerError] = {}
    warnings: dict[int, list[str]] = {}
    with service.client(model) as client:
        given = read_inputs(inputs, client, model)
        if map_file is not None and len(given.contents) != 1:
            raise CommandFailed(
                f"--map is for one picture; there are {len(given.contents)}", MISUSED
            )
        found = client.classify(
            given.contents,
            recognizer=recognizer,
            k=k,
            with_map=map_file is not None,
            size=size,
            fit=image.fit,
            sample_bits=image.sample_bits,
            failed=failed,
            warnings=warnings,
        )
        facts = model_facts(client, model, given.contents)
        if map_file is not None and found:
            pixels = _picture(client, given.contents, size, image)
            painted = _painted(pixels, found[0], facts["stride"])
            write_file(map_file, encode_image(painted, _MAP_TYPES[map_file.suffix.lower()], 90))
    if as_json:
        write_file(PIPE, labels_json(facts, found, given.names, failed))
    else:
        pairs = enumerate(zip(given.names, given.shown, strict=True))
        good = [name or shown for index, (name, shown) in pairs if index not in failed]
        _print(good, found, named=len(given.contents) > 1)
    given.report(failed, warnings)


def _check_map(map_file: Path, inputs: list[Path]) -> None:
    if len(inputs) > 1:
        raise CommandFailed("--map is for one picture", MISUSED)
    if map_file.suffix.lower() not in _MAP_TYPES:
        raise CommandFailed(f"--map: {map_file.name}: is none of {', '.join(_MAP_TYPES)}", MISUSED)


def _print(shown: list[str], found: list[Classification], *, named: bool) -> None:
    table = Table(box=None, pad_edge=False, show_header=False)
    for column in ("image", "label", "probability") if named else ("label", "probability"):
        table.add_column(column, justify="right" if column == "probability" else "left")
    for name, one in zip(shown, found, strict=True):
        for place, label in enumerate(one.labels):
            row = (label.label, f"{100 * label.probability:.1f} %")
            table.add_row(*((name if place == 0 else "",) if named else ()), *row)
    Console(markup=False, highlight=False).print(table)


def _picture(
    client: Client,
    contents: Codes | list[Path | bytes],
    size: tuple[int, int] | None,
    image: ImageOptions,
) -> NDArray[np.uint8]:
    """The one picture as it was classified: as it went in, or as its codes decode."""
    if isinstance(contents, Codes):
        return client.decode(contents)[0]
    content = contents[0] if isinstance(contents[0], bytes) else contents[0].read_bytes()
    options = PreprocessingOptions(_OWN_PIXELS, size, image.fit, image.sample_bits)
    try:
        return decode(ImageInput(content).inspect(_OWN_PIXELS), options).pixels
    except TesseraError as error:
        raise CommandFailed(f"--map: the picture can't be read here: {error.detail}") from error


def _painted(pixels: NDArray[np.uint8], found: Classification, stride: int) -> NDArray[np.uint8]:
    """A picture `[h, w, 3]` with the map of its first label and the box laid over it."""
    assert found.map is not None  # noqa: S101
    assert found.box is not None  # noqa: S101
    height, width, _ = pixels.shape
    rows, columns = found.map.shape
    # The grid's last codes may reach beyond the picture.
    grown = Image.fromarray(found.map).resize(
        (columns * stride, rows * stride), Image.Resampling.BILINEAR
    )
    weight = _OPACITY * np.asarray(grown)[:height, :width, None]
    mixed = Image.fromarray((pixels * (1 - weight) + weight * _TINT).round().astype(np.uint8))
    draw = ImageDraw.Draw(mixed)
    left, top, right, bottom = found.box
    line = max(1, min(width, height) // 150)
    edge = (left, top, right - 1, bottom - 1)
    draw.rectangle(edge, outline=(0, 0, 0), width=2 * line)
    draw.rectangle(edge, outline=(255, 255, 255), width=line)
    return np.asarray(mixed)
