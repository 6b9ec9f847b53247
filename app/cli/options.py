"""Options that several commands have, and whom they make answer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.client import (
    KEY_VARIABLE,
    URL_VARIABLE,
    LocalClient,
    RemoteClient,
    local_settings,
)
from app.cli.failures import MISUSED, CommandFailed

if TYPE_CHECKING:
    from app.cli.client import Client

_HERE = "In this process"
_THERE = "Against a running service"

Url = Annotated[
    str | None,
    typer.Option(
        envvar=URL_VARIABLE,
        help="ask this service instead, such as http://localhost:8000",
        rich_help_panel=_THERE,
    ),
]
Key = Annotated[
    str | None,
    typer.Option(
        "--api-key",
        envvar=KEY_VARIABLE,
        show_envvar=True,
        help="its API key; better in the environment than in the shell's history",
        rich_help_panel=_THERE,
    ),
]
ModelsDir = Annotated[
    Path | None,
    typer.Option(help="folder of models; TESSERA_MODELS_DIR, or models", rich_help_panel=_HERE),
]
Device = Annotated[
    str | None, typer.Option(help="auto, cpu, cuda or cuda:N", rich_help_panel=_HERE)
]
Precision = Annotated[
    str | None, typer.Option(help="auto, fp32, fp16 or int8", rich_help_panel=_HERE)
]
ModelName = Annotated[
    str | None, typer.Option("--model", "-m", help="model; the default one where it isn't named")
]
Size = Annotated[
    str | None, typer.Option(help="WxH in pixels: resize before encoding, such as 256x256")
]
Fit = Annotated[str, typer.Option(help="how size is filled: cover, contain or stretch")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON, for programs")]


def client_for(
    url: str | None,
    key: str | None,
    models_dir: Path | None,
    device: str | None,
    precision: str | None,
) -> Client:
    """The service that answers: the one at `url`, or one in this process.

    Raises:
        CommandFailed: an option that can't be used, or that has no meaning beside `url`.
    """
    here = {"--models-dir": models_dir, "--device": device, "--precision": precision}
    if url is None:
        return LocalClient(
            local_settings(models_dir=models_dir, device=device, precision=precision)
        )
    for name, value in here.items():
        if value is not None:
            raise CommandFailed(f"{name} is for this process; {url} has its own", MISUSED)
    return RemoteClient(url, key)
