"""`tessera info` and `models`: what a file holds, and what can decode it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import orjson
import typer
from rich.console import Console
from rich.table import Table

from app.cli.failures import CommandFailed
from app.cli.files import read_file, shown
from app.cli.options import AsJson, ServiceOptions
from app.codecs.bits import bits_per_code
from app.codecs.tess import unpack_codes
from app.errors import TesseraError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

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
            "grid": list(grid.shape),
            "codes_used": _used(grid.codes),
        }
        for grid in file.grids
    ]
    sizes = (file.codebook_size, *file.residual_sizes)
    facts: dict[str, Any] = {
        "code_space": file.code_space,
        "codebook_size": file.codebook_size,
        **({"residual_sizes": file.residual_sizes} if file.residual_sizes else {}),
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
        f"codes       of {_joined(sizes)}, {_joined([bits_per_code(size) for size in sizes])} bits "
        f"each, one {'of each ' if len(sizes) > 1 else ''}for {file.stride} × {file.stride} "
        f"pixels, made in {file.precision}"
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
            _joined(np.atleast_1d(image["codes_used"]).tolist()),
        )
    typer.echo()
    Console(markup=False, highlight=False).print(table)


def _used(codes: NDArray[np.int64]) -> int | list[int]:
    """How many different codes there are; of several stages, in each."""
    if codes.ndim == 2:
        return int(np.unique(codes).size)
    return [int(np.unique(stage).size) for stage in codes]


def _joined(numbers: Sequence[int]) -> str:
    """One number for each stage."""
    return " + ".join(f"{number:,}" for number in numbers)


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
        # A service of an earlier version knows one stage, and says nothing of it.
        stages = model.get("stages", [model])
        bits = sum(one["bits_per_code"] for one in stages[: model.get("default_stages", 1)])
        # The newest version goes by the name alone, as in requests.
        name = model["aliases"][0] if model["aliases"] else model["id"]
        table.add_row(
            name + (" *" if name == answer["default"] else ""),
            _joined([one["codebook_size"] for one in stages]),
            f"{stride} × {stride}",
            f"{bits / stride**2:.3f}",
            f"{model['embedding_dimension']:,}",
            f"{model['device']}, {model['precision']}",
            model["code_space"][:16] + "…",
        )
    Console(markup=False, highlight=False).print(table)
    typer.echo("* the default")


def _print_json(values: Any) -> None:
    typer.echo(orjson.dumps(values, option=orjson.OPT_INDENT_2).decode())
