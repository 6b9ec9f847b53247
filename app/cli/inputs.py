"""What commands send: the files they were given, as requests, and failures by the files' names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import typer

from app.api.parsing import JSON, NPY
from app.cli.failures import MISUSED, REFUSED, CommandFailed
from app.cli.files import PIPE, multipart, read_file
from app.codecs.tess import MEDIA_TYPE as PACKED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from app.cli.client import Client

_ITEM = re.compile(r"item (\d+): ")


def read_all(paths: Sequence[Path]) -> list[tuple[str, bytes]]:
    """Names and contents of files; that from standard input has no name.

    Raises:
        CommandFailed: one can't be read, or standard input is named twice.
    """
    if list(paths).count(PIPE) > 1:
        raise CommandFailed("standard input can be read once", MISUSED)
    return [("" if path == PIPE else path.name, read_file(path)) for path in paths]


def send_pictures(
    client: Client,
    path: str,
    files: list[tuple[str, bytes]],
    kind: str,
    **query: str | int | None,
) -> bytes:
    """Send pictures as a form, and return the answer's body.

    Args:
        client: who answers.
        path: such as `/v1/encode`.
        files: names and contents.
        kind: media type of the answer.
        query: `size` among it.

    Raises:
        CommandFailed: refused; the text says which file it was about.
    """
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


def send_pictures_or_codes(
    client: Client,
    path: str,
    files: list[tuple[str, bytes]],
    kind: str,
    *,
    model: str | None,
    size: str | None,
    fit: str,
    **query: str | int | None,
) -> bytes:
    """Send pictures, or the codes in the one file that there is, as `send_pictures` does."""
    code_type = code_type_of(files[0][1]) if len(files) == 1 else None
    if code_type is None:
        return send_pictures(client, path, files, kind, model=model, size=size, fit=fit, **query)
    headers = {"Content-Type": code_type, "Accept": kind}
    model = model_for(client, model, code_type)
    return client.send(path, files[0][1], headers, model=model, **query).body


def name_of(item: Mapping[str, Any]) -> str:
    """What an answer's item is called to a person."""
    return item.get("name") or f"item {item['index']}"


def check_items(data: Sequence[Mapping[str, Any]]) -> None:
    """Say on standard error which items of an answer failed.

    Raises:
        CommandFailed: some did.
    """
    failed = [item for item in data if "error" in item]
    for item in failed:
        typer.echo(f"tessera: {name_of(item)}: {item['error']['detail']}", err=True)
    if failed:
        raise CommandFailed(f"{len(failed)} of {len(data)} could not be read")


def _with_name(text: str, files: list[tuple[str, bytes]]) -> str:
    """Say which file it was, where the service can only say which item."""
    if len(files) == 1:
        return f"{files[0][0] or 'standard input'}: {text}"
    found = _ITEM.search(text)
    if found is None:
        return text
    return f"{files[int(found[1])][0]}: {text.replace(found[0], '')}"


def code_type_of(content: bytes) -> str | None:
    """What form codes have, judged by content; None if they are no codes."""
    if content.startswith(b"\x89TESS"):
        return PACKED
    if content.startswith(b"\x93NUMPY"):
        return NPY
    return JSON if content.lstrip()[:1] == b"{" else None


def model_for(client: Client, model: str | None, code_type: str) -> str | None:
    """The model for codes; an npy array doesn't say whose it holds, so the default is named."""
    if model is not None or code_type != NPY:
        return model
    default: str = client.send("/v1/models").json()["default"]
    return default


def shown(path: Path) -> str:
    """A path as messages have it."""
    return "standard input" if path == PIPE else str(path)
