"""`tessera encode`, `decode` and `embed`: the API's operations, on files."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import orjson
import typer

from app.api.parsing import JSON, NPY
from app.cli.failures import MISUSED, CommandFailed
from app.cli.files import PIPE, read_file, write_file
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
    read_all,
    send_pictures,
    send_pictures_or_codes,
    shown,
)
from app.codecs.tess import MEDIA_TYPE as PACKED

if TYPE_CHECKING:
    from collections.abc import Mapping

_CODE_TYPES = {"tess": PACKED, "npy": NPY, "json": JSON}
_PICTURE_TYPES = {
    "png": "image/png",
    "webp": "image/webp",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "npy": NPY,
}
_VECTOR_TYPES = {"json": JSON, "npy": NPY}
_SUFFIXES = {"image/png": "png", "image/webp": "webp", "image/jpeg": "jpg"}

Pictures = Annotated[list[Path], typer.Argument(help="pictures; - reads one from standard input")]
Output = Annotated[Path, typer.Option("--output", "-o", help="file; - is standard output")]


def encode(
    pictures: Pictures,
    output: Output = PIPE,
    format: Annotated[  # noqa: A002  (the option's name)
        Literal["tess", "npy", "json"] | None,
        typer.Option(help="of the codes; else by the output's name, else tess"),
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
    """Pictures to codes.

    tessera encode photo.jpg -o photo.tess
    """
    kind = _media_type("json" if as_json else format, output, _CODE_TYPES, "tess")
    files = read_all(pictures)
    with client_for(url, api_key, models_dir, device, precision) as client:
        body = send_pictures(client, "/v1/encode", files, kind, model=model, size=size, fit=fit)
    _write_answer(output, body, kind)


def decode(
    codes: Annotated[Path, typer.Argument(help=".tess, .npy or .json; - is standard input")],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="file; a folder for several pictures; - is the output"),
    ] = PIPE,
    format: Annotated[  # noqa: A002  (the option's name)
        Literal["png", "webp", "jpg", "npy"] | None,
        typer.Option(help="of the pictures; else by the output's name, else png"),
    ] = None,
    quality: Annotated[int, typer.Option(min=1, max=100, help="of webp and jpg")] = 90,
    model: ModelName = None,
    models_dir: ModelsDir = None,
    device: Device = None,
    precision: Precision = None,
    url: Url = None,
    api_key: Key = None,
) -> None:
    """Codes to pictures.

    tessera decode photo.tess -o photo.png
    """
    kind = _media_type(format, output, _PICTURE_TYPES, "png")
    content = read_file(codes)
    code_type = code_type_of(content)
    if code_type is None:
        raise CommandFailed(f"{shown(codes)}: is none of .tess, .npy and .json")
    several = output != PIPE and output.is_dir()
    accept = f"{JSON}, {kind};q=0.9" if several else kind
    if several and kind == NPY:
        raise CommandFailed("npy is one file, not a folder of them", MISUSED)
    with client_for(url, api_key, models_dir, device, precision) as client:
        answer = client.send(
            "/v1/decode",
            content,
            {"Content-Type": code_type, "Accept": accept},
            model=model_for(client, model, code_type),
            quality=quality,
        )
    if not several:
        write_file(output, answer.body)
        return
    names = _names_in(content, code_type)
    for item in answer.json()["data"]:
        index = item["index"]
        if "error" in item:
            raise CommandFailed(f"{shown(codes)}: item {index}: {item['error']['detail']}")
        # A name from a file is somebody's: only its last part is used, and never over another.
        stem = Path(names.get(index) or "").name.rpartition(".")[0] or f"{index:05}"
        target = output / f"{stem}.{_SUFFIXES[item['media_type']]}"
        if target.exists():
            target = output / f"{stem}-{index:05}{target.suffix}"
        write_file(target, base64.b64decode(item["image"]))


def embed(
    inputs: Annotated[
        list[Path], typer.Argument(help="pictures, or one file of codes; - is standard input")
    ],
    output: Output = PIPE,
    format: Annotated[  # noqa: A002  (the option's name)
        Literal["json", "npy"] | None,
        typer.Option(help="of the vectors; else by the output's name, else json"),
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
    """Pictures or codes to vectors of length 1.

    tessera embed a.jpg b.jpg -o vectors.npy
    """
    kind = _media_type("json" if as_json else format, output, _VECTOR_TYPES, "json")
    files = read_all(inputs)
    with client_for(url, api_key, models_dir, device, precision) as client:
        body = send_pictures_or_codes(
            client, "/v1/embed", files, kind, model=model, size=size, fit=fit
        )
    _write_answer(output, body, kind)


def _write_answer(output: Path, body: bytes, kind: str) -> None:
    """Write an answer; JSON says of single items that they failed, and so does this.

    Raises:
        CommandFailed: some did.
    """
    write_file(output, body + b"\n" if kind == JSON else body)
    if kind == JSON:
        check_items(orjson.loads(body)["data"])


def _media_type(asked: str | None, output: Path, types: Mapping[str, str], otherwise: str) -> str:
    """The media type of a format asked for, or told by a file's name."""
    if asked is not None:
        return types[asked]
    suffix = output.suffix.removeprefix(".").lower()
    if output == PIPE or output.is_dir() or not suffix:
        return types[otherwise]
    if suffix not in types:
        raise CommandFailed(
            f"{output.name}: .{suffix} is none of {', '.join(types)}; or say --format", MISUSED
        )
    return types[suffix]


def _names_in(content: bytes, code_type: str) -> dict[int, str | None]:
    from app.codecs.tess import unpack_codes

    if code_type == PACKED:
        file = unpack_codes(content, max_images=2**32, max_pixels=2**32)
        return {index: grid.name for index, grid in enumerate(file.grids)}
    if code_type == JSON:
        items: list[Any] = orjson.loads(content)["data"]
        return {index: item.get("name") for index, item in enumerate(items)}
    return {}
