"""`tessera info` and `models`: what a file holds, and what can decode it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import orjson
import typer
from rich.console import Console
from rich.table import Table

from app.cli.failures import CommandFailed
from app.cli.files import read_file, shown
from app.cli.options import AsJson, ServiceOptions
from app.codecs.tess import unpack_codes
from app.errors import TesseraError

_ANY = 2**32  # no limits: nothing is decoded, and a file is its owner's


def info(
    codes: Annotated[Path, typer.Argument(help="a .tess file; - is standard input")],
    as_json: AsJson = False,
) -> None:
    """Say what a .tess file holds; no model is needed.

    tessera info photo.tess
    """
    content = read_file(codes)
    try:
        file = unpack_codes(content, max_images=_ANY, max_pixels=_ANY)
    except TesseraError as error:
        raise CommandFailed(f"{shown(codes)}: {error.detail}") from error
    images: list[dict[str, Any]] = [
        {
            "name": grid.name,
            "width": grid.width,
            "height": grid.height,
            "grid": list(grid.codes.shape),
            "codes_used": int(np.unique(grid.codes).size),
        }
        for grid in file.grids
    ]
    facts: dict[str, Any] = {
        "code_space": file.code_space,
        "codebook_size": file.codebook_size,
        "bits_per_code": (file.codebook_size - 1).bit_length(),
        "stride": file.stride,
        "precision": file.precision,
        "bytes": len(content),
        "images": images,
    }
    if as_json:
        _print_json(facts)
        return
    pixels = sum(grid.width * grid.height for grid in file.grids)
    typer.echo(f"code space  {file.code_space}")
    typer.echo(
        f"codes       of {file.codebook_size:,}, {facts['bits_per_code']} bits each, "
        f"one for {file.stride} × {file.stride} pixels, made in {file.precision}"
    )
    typer.echo(
        f"file        {len(content):,} bytes, {8 * len(content) / pixels:.3f} bits per pixel"
    )
    table = Table(box=None, pad_edge=False)
    for column in ("image", "pixels", "grid", "codes used"):
        table.add_column(column, justify="left" if column == "image" else "right")
    for image in images:
        table.add_row(
            str(image["name"] or "–"),
            f"{image['width']} × {image['height']}",
            " × ".join(map(str, reversed(image["grid"]))),
            f"{image['codes_used']:,}",
        )
    typer.echo()
    Console(markup=False, highlight=False).print(table)


def models(as_json: AsJson = False, *, service: ServiceOptions) -> None:
    """List the models that there are, and how they run."""
    with service.client() as client:
        answer = client.request("GET", "/v1/models").json()
    if as_json:
        _print_json(answer)
        return
    table = Table(box=None, pad_edge=False)
    for column in ("model", "codes", "pixels/code", "bit/px", "embedding", "runs on", "code space"):
        table.add_column(column, justify="left" if column in {"model", "code space"} else "right")
    for model in answer["data"]:
        stride = model["stride"]
        # The newest version goes by the name alone, as in requests.
        name = model["aliases"][0] if model["aliases"] else model["id"]
        table.add_row(
            name + (" *" if name == answer["default"] else ""),
            f"{model['codebook_size']:,}",
            f"{stride} × {stride}",
            f"{model['bits_per_code'] / stride**2:.3f}",
            f"{model['embedding_dimension']:,}",
            f"{model['device']}, {model['precision']}",
            model["code_space"][:16] + "…",
        )
    Console(markup=False, highlight=False).print(table)
    typer.echo("* the default")


def _print_json(values: Any) -> None:
    typer.echo(orjson.dumps(values, option=orjson.OPT_INDENT_2).decode())
