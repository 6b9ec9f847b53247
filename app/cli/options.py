"""Options that several commands have, each in one place.

Those that belong together are blocks: a command's parameter whose type is a block stands for all
of its options, and `with_option_blocks` puts them in its place.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from app.cli.failures import MISUSED, CommandFailed
from app.cli.service import (
    KEY_VARIABLE,
    URL_VARIABLE,
    connect,
    local_client,
    local_settings,
    remote_client,
)
from app.settings import PREFIX
from bundle.manifest import MAX_STAGES
from imaging.resize import Fit

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from app.settings import Settings
    from tessera_client import Client

_HERE = "In this process"
_THERE = "Against a running service"

_SIZE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})")

ModelName = Annotated[
    str | None,
    typer.Option("--model", "-m", help="name of the model; the default model where none is named"),
]
Stages = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=MAX_STAGES,
        help="how many stages the codes have, each of which makes the picture better; else what "
        "the model says",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON, for programs")]


@dataclass(frozen=True)
class LocalOptions:
    """How a model runs in this process; None leaves the choice to the environment."""

    models_dir: Annotated[
        Path | None,
        typer.Option(
            help="folder of models; else TESSERA_MODELS_DIR, else models", rich_help_panel=_HERE
        ),
    ] = None
    device: Annotated[
        str | None,
        typer.Option(help="what runs the model: auto, cpu, cuda or cuda:N", rich_help_panel=_HERE),
    ] = None
    precision: Annotated[
        str | None,
        typer.Option(
            help="precision of the model: auto, fp32, fp16 or int8", rich_help_panel=_HERE
        ),
    ] = None

    def settings(self) -> Settings:
        """The settings of a service in this process.

        Raises:
            CommandFailed: a value, here or in the environment, can't be used.
        """
        return local_settings(
            models_dir=self.models_dir, device=self.device, precision=self.precision
        )


@dataclass(frozen=True)
class ServiceOptions(LocalOptions):
    """Which service answers: the one at `url`, or one in this process."""

    url: Annotated[
        str | None,
        typer.Option(
            envvar=URL_VARIABLE,
            help="ask this service instead, such as http://localhost:8000",
            rich_help_panel=_THERE,
        ),
    ] = None
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar=KEY_VARIABLE,
            show_envvar=True,
            help="its API key; better in the environment than in the shell's history",
            rich_help_panel=_THERE,
        ),
    ] = None

    def client(self, model: str | None = None) -> AbstractContextManager[Client]:
        """A client of that service, whose errors are the command's.

        Args:
            model: the model that every request names; None names none.

        Raises:
            CommandFailed: an option can't be used, or has no meaning beside `url`; on entering,
                nobody answers or no model can be loaded.
        """
        if self.url is None:
            return local_client(self.settings(), model)
        self._check_remote(self.url)
        return remote_client(self.url, self.api_key, model)

    def connect(self) -> Client:
        """A client of the service at `url`, which may not answer.

        Raises:
            CommandFailed: an option can't be used, or has no meaning beside `url`.
        """
        assert self.url is not None  # noqa: S101
        self._check_remote(self.url)
        return connect(self.url, self.api_key)

    def _check_remote(self, url: str) -> None:
        for field in fields(LocalOptions):
            if getattr(self, field.name) is not None:
                name = field.name.replace("_", "-")
                raise CommandFailed(f"--{name} is for this process; {url} has its own", MISUSED)


@dataclass(frozen=True)
class ImageOptions:
    """What is done to pictures before they are encoded."""

    size: Annotated[
        str | None,
        typer.Option(
            metavar="WxH", help="resize to so many pixels before encoding, such as 256x256"
        ),
    ] = None
    fit: Annotated[
        Fit, typer.Option(help="how the size is filled, if the picture has another shape")
    ] = "cover"
    sample_bits: Annotated[
        int | None,
        typer.Option(min=9, max=16, help="bits that samples stored in 16 really have, such as 12"),
    ] = None

    def wanted(self, max_pixels: int | None = None) -> tuple[int, int] | None:
        """`(width, height)` in pixels; None to keep each picture's own.

        Args:
            max_pixels: most pixels of that size; None leaves it to the service.

        Raises:
            CommandFailed: the option isn't of the form WxH, or asks for more pixels.
        """
        if self.size is None:
            return None
        match = _SIZE.fullmatch(self.size)
        if match is None:
            raise CommandFailed(
                f"--size: must be WxH in pixels, such as 256x192, not {self.size}", MISUSED
            )
        width, height = int(match[1]), int(match[2])
        if max_pixels is not None and width * height > max_pixels:
            raise CommandFailed(
                f"--size: {self.size} are {width * height:,} pixels; the limit is {max_pixels:,} "
                f"({PREFIX}MAX_PIXELS)",
                MISUSED,
            )
        return width, height


def with_option_blocks(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of its blocks, one by one, instead of the blocks."""
    hints = get_type_hints(command, include_extras=True)
    parameters: list[inspect.Parameter] = []
    blocks: dict[str, Any] = {}
    for parameter in inspect.signature(command).parameters.values():
        kind = hints[parameter.name]
        if is_dataclass(kind):
            blocks[parameter.name] = kind
            options = get_type_hints(kind, include_extras=True)
            parameters += [
                _keyword(field.name, field.default, options[field.name]) for field in fields(kind)
            ]
        else:
            parameters.append(_keyword(parameter.name, parameter.default, kind))

    @wraps(command)
    def with_options(**values: Any) -> None:
        for name, kind in blocks.items():
            values[name] = kind(**{field.name: values.pop(field.name) for field in fields(kind)})
        command(**values)

    with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {one.name: one.annotation for one in parameters}
    return with_options


def _keyword(name: str, default: Any, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )
