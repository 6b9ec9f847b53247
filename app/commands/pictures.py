"""`tessera encode`, `decode` and `embed`: the API's operations, on files."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import orjson
import typer

from app.commands.failures import MISUSED, REFUSED, CommandFailed
from app.commands.files import PIPE, multipart, read_file, write_file
from app.commands.options import (
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

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from app.commands.clients import Client

_JSON = "application/json"
_NPY = "application/x-npy"
_PACKED = "application/vnd.tessera.codes"

_CODE_TYPES = {"tess": _PACKED, "npy": _NPY, "json": _JSON}
_PICTURE_TYPES = {
    "png": "image/png",
    "webp": "image/webp",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "npy": _NPY,
}
_VECTOR_TYPES = {"json": _JSON, "npy": _NPY}
_SUFFIXES = {"image/png": "png", "image/webp": "webp", "image/jpeg": "jpg"}

_ITEM = re.compile(r"item (\d+): ")

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
    files = _read_all(pictures)
    with client_for(url, api_key, models_dir, device, precision) as client:
        body = _send_pictures(client, "/v1/encode", files, kind, model=model, size=size, fit=fit)
    _write_answer(output, body, kind, files)


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
    code_type = _code_type(content)
    if code_type is None:
        raise CommandFailed(f"{_shown(codes)}: is none of .tess, .npy and .json")
    several = output != PIPE and output.is_dir()
    accept = f"{_JSON}, {kind};q=0.9" if several else kind
    if several and kind == _NPY:
        raise CommandFailed("npy is one file, not a folder of them", MISUSED)
    with client_for(url, api_key, models_dir, device, precision) as client:
        answer = client.send(
            "/v1/decode",
            content,
            {"Content-Type": code_type, "Accept": accept},
            model=_named(client, model, code_type),
            quality=quality,
        )
    if not several:
        write_file(output, answer.body)
        return
    names = _names_in(content, code_type)
    for item in answer.json()["data"]:
        index = item["index"]
        if "error" in item:
            raise CommandFailed(f"{_shown(codes)}: item {index}: {item['error']['detail']}")
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
    files = _read_all(inputs)
    code_type = _code_type(files[0][1]) if len(files) == 1 else None
    with client_for(url, api_key, models_dir, device, precision) as client:
        if code_type is None:
            body = _send_pictures(client, "/v1/embed", files, kind, model=model, size=size, fit=fit)
        else:
            body = client.send(
                "/v1/embed",
                files[0][1],
                {"Content-Type": code_type, "Accept": kind},
                model=_named(client, model, code_type),
            ).body
    _write_answer(output, body, kind, files if code_type is None else None)


def _read_all(paths: Sequence[Path]) -> list[tuple[str, bytes]]:
    if list(paths).count(PIPE) > 1:
        raise CommandFailed("standard input can be read once", MISUSED)
    return [("" if path == PIPE else path.name, read_file(path)) for path in paths]


def _send_pictures(
    client: Client,
    path: str,
    files: list[tuple[str, bytes]],
    kind: str,
    **query: str | None,
) -> bytes:
    if query["size"] is None:
        query["fit"] = None
    body, content_type = multipart(files)
    try:
        answer = client.send(path, body, {"Content-Type": content_type, "Accept": kind}, **query)
    except CommandFailed as error:
        if error.exit_code != REFUSED:
            raise
        raise CommandFailed(_with_name(str(error), files)) from error
    return answer.body


def _write_answer(
    output: Path, body: bytes, kind: str, files: list[tuple[str, bytes]] | None = None
) -> None:
    """Write an answer; JSON says of single pictures that they failed, and so does this.

    Raises:
        CommandFailed: some did.
    """
    write_file(output, body + b"\n" if kind == _JSON else body)
    if kind != _JSON or files is None:
        return
    failed = [item for item in orjson.loads(body)["data"] if "error" in item]
    for item in failed:
        name, why = files[item["index"]][0], item["error"]["detail"]
        typer.echo(f"tessera: {name}: {why}", err=True)
    if failed:
        raise CommandFailed(f"{len(failed)} of {len(files)} could not be read")


def _with_name(text: str, files: list[tuple[str, bytes]]) -> str:
    """Say which file it was, where the service can only say which item."""
    if len(files) == 1:
        return f"{files[0][0] or 'standard input'}: {text}"
    found = _ITEM.search(text)
    if found is None:
        return text
    return f"{files[int(found[1])][0]}: {text.replace(found[0], '')}"


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


def _code_type(content: bytes) -> str | None:
    """What form codes have, judged by content; None if they are no codes."""
    if content.startswith(b"\x89TESS"):
        return _PACKED
    if content.startswith(b"\x93NUMPY"):
        return _NPY
    return _JSON if content.lstrip()[:1] == b"{" else None


def _named(client: Client, model: str | None, code_type: str) -> str | None:
    """The model for codes; an npy array doesn't say whose it holds, so the default is named."""
    if model is not None or code_type != _NPY:
        return model
    default: str = client.send("/v1/models").json()["default"]
    return default


def _names_in(content: bytes, code_type: str) -> dict[int, str | None]:
    from app.packed import unpack_codes

    if code_type == _PACKED:
        file = unpack_codes(content, max_images=2**32, max_pixels=2**32)
        return {index: grid.name for index, grid in enumerate(file.grids)}
    if code_type == _JSON:
        items: list[Any] = orjson.loads(content)["data"]
        return {index: item.get("name") for index, item in enumerate(items)}
    return {}


def _shown(path: Path) -> str:
    return "standard input" if path == PIPE else str(path)
