"""`tessera classify`: what pictures or codes show, and where in the picture it is seen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import orjson
import typer
from PIL import Image, ImageDraw
from rich.console import Console
from rich.table import Table

from app.api.parsing import JSON, NPY
from app.cli.failures import MISUSED, CommandFailed
from app.cli.files import PIPE, write_file
from app.cli.options import (
    AsJson,
    Device,
    Fit,
    Key,
    ModelName,
    ModelsDir,
    Precision,
    Size,
    Url,
    client_for,
)
from app.cli.sending import (
    check_items,
    code_type_of,
    model_for,
    name_of,
    read_all,
    send_pictures_or_codes,
)
from app.codecs.npy import read_npy
from app.errors import TesseraError
from app.service.preprocessing import ImageInput, PreprocessingOptions, decode, parse_size
from imaging.encode import MediaType, encode_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from app.cli.client import Client

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
    inputs: Annotated[
        list[Path], typer.Argument(help="pictures, or one file of codes; - is standard input")
    ],
    recognizer: Annotated[
        str | None, typer.Option(help="of the model; the first by name where it isn't named")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, max=1000, help="most labels of each")] = 5,
    map_file: Annotated[
        Path | None,
        typer.Option(
            "--map",
            help="write the one picture there, with the place of its first label laid over it "
            "and a box around the main region (.png, .webp, .jpg)",
        ),
    ] = None,
    size: Size = None,
    fit: Fit = "cover",
    model: ModelName = None,
    as_json: AsJson = False,
    models_dir: ModelsDir = None,
    device: Device = None,
    precision: Precision = None,
    url: Url = None,
    api_key: Key = None,
) -> None:
    """Pictures or codes to labels, by a recognizer that the model carries.

    tessera classify photo.jpg --map where.png
    """
    if map_file is not None:
        _check_map(map_file, inputs)
    files = read_all(inputs)
    with client_for(url, api_key, models_dir, device, precision) as client:
        body = send_pictures_or_codes(
            client,
            "/v1/classify",
            files,
            JSON,
            model=model,
            size=size,
            fit=fit,
            recognizer=recognizer,
            k=k,
            map=None if map_file is None else "true",
        )
        answer = orjson.loads(body)
        data = answer["data"]
        if map_file is not None:
            if len(data) != 1:
                raise CommandFailed(
                    f"--map is for one picture; the file holds {len(data)}", MISUSED
                )
            pixels = _picture(client, files[0][1], model, size, fit)
            stride = client.send(f"/v1/models/{model or answer['model']}").json()["stride"]
            activation = np.array(data[0]["map"], np.float32)
            painted = _painted(pixels, activation, stride, data[0]["box"])
            write_file(map_file, encode_image(painted, _MAP_TYPES[map_file.suffix.lower()], 90))
    if as_json:
        write_file(PIPE, body + b"\n")
    else:
        _print(data)
    check_items(data)


def _check_map(map_file: Path, inputs: list[Path]) -> None:
    if len(inputs) > 1:
        raise CommandFailed("--map is for one picture", MISUSED)
    if map_file.suffix.lower() not in _MAP_TYPES:
        raise CommandFailed(f"--map: {map_file.name}: is none of {', '.join(_MAP_TYPES)}", MISUSED)


def _print(data: list[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False, show_header=False)
    named = len(data) > 1
    for column in ("image", "label", "probability") if named else ("label", "probability"):
        table.add_column(column, justify="right" if column == "probability" else "left")
    for item in data:
        for place, label in enumerate(item.get("labels", ())):
            row = (label["label"], f"{100 * label['probability']:.1f} %")
            table.add_row(*((name_of(item) if place == 0 else "",) if named else ()), *row)
    Console(markup=False, highlight=False).print(table)


def _picture(
    client: Client, content: bytes, model: str | None, size: str | None, fit: Any
) -> NDArray[np.uint8]:
    """The picture as it was classified: as it went in, or as its codes decode."""
    code_type = code_type_of(content)
    if code_type is not None:
        headers = {"Content-Type": code_type, "Accept": NPY}
        model = model_for(client, model, code_type)
        (decoded,) = read_npy(client.send("/v1/decode", content, headers, model=model).body)
        return np.asarray(decoded)
    asked = None if size is None else parse_size(size, max_pixels=_OWN_PIXELS)
    options = PreprocessingOptions(_OWN_PIXELS, asked, fit)
    try:
        return decode(ImageInput(content).inspect(_OWN_PIXELS), options).pixels
    except TesseraError as error:
        raise CommandFailed(f"--map: the picture can't be read here: {error.detail}") from error


def _painted(
    pixels: NDArray[np.uint8], activation: NDArray[np.float32], stride: int, box: list[int]
) -> NDArray[np.uint8]:
    """A picture `[h, w, 3]` with a map over its code grid and a box laid over it."""
    height, width, _ = pixels.shape
    rows, columns = activation.shape
    # The grid's last codes may reach beyond the picture.
    grown = Image.fromarray(activation).resize(
        (columns * stride, rows * stride), Image.Resampling.BILINEAR
    )
    weight = _OPACITY * np.asarray(grown)[:height, :width, None]
    mixed = Image.fromarray((pixels * (1 - weight) + weight * _TINT).round().astype(np.uint8))
    draw = ImageDraw.Draw(mixed)
    left, top, right, bottom = box
    line = max(1, min(width, height) // 150)
    edge = (left, top, right - 1, bottom - 1)
    draw.rectangle(edge, outline=(0, 0, 0), width=2 * line)
    draw.rectangle(edge, outline=(255, 255, 255), width=line)
    return np.asarray(mixed)
