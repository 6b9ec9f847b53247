"""Configuration: the only reader of the environment.

Every field of `Settings` is one variable, `TESSERA_` and the field's name in capitals. A name
that isn't known or a value that makes no sense stops the start with one clear line.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "TESSERA_"

# The model that the project ships: the default wherever it is among several.
SHIPPED_MODEL = "photo-f8"

_SERVICE_LINK = re.compile(
    r"TESSERA_(?:GRPC_|METRICS_)?(?:SERVICE_HOST|SERVICE_PORT(?:_.+)?|PORT(?:_\d+_(?:TCP|UDP).*)?)"
)
_DEVICE = re.compile(r"auto|cpu|cuda(:\d{1,2})?")


class SettingsError(Exception):
    """The environment holds a name or value that can't be used; the text is one line."""


def _comma_separated(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return tuple(part for part in (part.strip() for part in value.split(",")) if part)


class Settings(BaseModel):
    """What the service can be told. Units are in the names; frozen once read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field(default="0.0.0.0", description="address to listen on")  # noqa: S104 (a container)
    port: int = Field(
        default=8000, ge=0, le=65_535, description="port to listen on; 0 takes a free one"
    )
    metrics_port: Annotated[int | None, Field(ge=1, le=65_535)] = Field(
        default=None,
        description="separate port for /metrics; by default it is served on the service's own port",
    )
    metrics_host: str | None = Field(
        default=None,
        description="address that TESSERA_METRICS_PORT listens on; by default TESSERA_HOST",
    )
    grpc_port: Annotated[int | None, Field(ge=1, le=65_535)] = Field(
        default=None,
        description="port for the Open Inference Protocol over gRPC, at TESSERA_HOST; none by "
        "default; needs the extra grpc",
    )
    models_dir: Path = Field(
        default=Path("models"),
        description="folder of bundles, each folder in it one; or a bundle's own folder",
    )
    default_model: str | None = Field(
        default=None,
        description="model for requests that name none: name, or name@version; needed where "
        "several are loaded and none is photo-f8",
    )
    device: Annotated[str, Field(pattern=_DEVICE.pattern.join(("^(", ")$")))] = Field(
        default="auto",
        description="device that the graphs run on: auto, cpu, cuda or cuda:N; cuda where CUDA "
        "can't run is a failed start",
    )
    precision: Literal["auto", "fp32", "fp16", "int8"] = Field(
        default="auto",
        description="precision that the graphs run in; auto is fp16 on CUDA and fp32 on a CPU",
    )
    threads: int = Field(
        default=0,
        ge=0,
        le=1024,
        description="most CPU threads that one graph run uses; 0: all CPUs that this process may "
        "use",
    )
    api_keys: Annotated[tuple[SecretStr, ...], BeforeValidator(_comma_separated)] = Field(
        default=(),
        description="API keys, comma-separated; requests then need one as Authorization: Bearer",
    )
    api_keys_file: Path | None = Field(
        default=None, description="file with one API key a line, besides those in TESSERA_API_KEYS"
    )
    max_body_bytes: int = Field(
        default=32 * 2**20, ge=1024, le=2**31, description="most bytes of a request body"
    )
    max_images: int = Field(default=64, ge=1, le=65_535, description="most images in a request")
    max_pixels: int = Field(
        default=25_000_000, ge=1, le=500_000_000, description="most pixels of an image"
    )
    max_batch_pixels: int = Field(
        default=0,
        ge=0,
        description="most pixels stacked for one run; 0: 65,536 on a CPU, 4,194,304 on CUDA",
    )
    max_tile_pixels: int = Field(
        default=4_665_600,
        ge=262_144,
        description="most pixels of an image that runs whole; larger ones run in tiles of so many "
        "pixels, which bounds memory and gives the same codes",
    )
    max_queue: int = Field(
        default=256, ge=1, le=65_535, description="most images accepted and not yet answered"
    )
    request_timeout_s: float = Field(
        default=30.0,
        gt=0,
        le=3600,
        description="seconds from a request's first byte to its answer; then 504",
    )
    client_timeout_s: float = Field(
        default=20.0,
        gt=0,
        le=3600,
        description="seconds for a request's headers to arrive, and over which 16 KiB a second of "
        "an answer must be read; then the connection is cut",
    )
    stuck_after_s: float = Field(
        default=60.0,
        gt=0,
        le=3600,
        description="seconds after which a run counts as hung: the process ends",
    )
    drain_timeout_s: float = Field(
        default=8.0,
        gt=0,
        le=3600,
        description="seconds that requests in flight on SIGTERM are given before they are cut off",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info",
        description="least severe messages that are logged; warning and error leave out the line "
        "per request",
    )
    log_format: Literal["auto", "json", "text"] = Field(
        default="auto",
        description="json for programs, text for people; auto is text on a terminal, else json",
    )
    cors_origins: Annotated[tuple[str, ...], BeforeValidator(_comma_separated)] = Field(
        default=(),
        description="origins that browsers may call from, comma-separated; none by default",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.metrics_host is not None and self.metrics_port is None:
            raise ValueError(f"{PREFIX}METRICS_HOST needs {PREFIX}METRICS_PORT")
        if self.max_images > self.max_queue:
            raise ValueError(
                f"{PREFIX}MAX_IMAGES ({self.max_images}) may not be above "
                f"{PREFIX}MAX_QUEUE ({self.max_queue}): such a request would never be accepted"
            )
        return self


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Read every `TESSERA_…` variable.

    Args:
        environment: such as `os.environ`; an empty value counts as not set.

    Raises:
        SettingsError: an unknown name or a bad value; its text names all of them in one line.
    """
    values: dict[str, str] = {}
    faults: list[str] = []
    links = [name for name, value in environment.items() if is_service_link(name, value)]
    if links:
        faults.append(
            f"{', '.join(sorted(links))}: set by Kubernetes for a Service named tessera; "
            "set enableServiceLinks: false in the pod's spec, or give the Service another name"
        )
    for name, value in environment.items():
        if not name.startswith(PREFIX) or name in links:
            continue
        field = name.removeprefix(PREFIX).lower()
        if field not in Settings.model_fields or name != name.upper():
            faults.append(f"{name} is not a setting{_meant(name)}")
        elif value.strip():
            values[field] = value.strip()
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        faults += [_fault(problem) for problem in error.errors(include_url=False)]
    if faults:
        raise SettingsError("; ".join(faults))
    return settings


def is_service_link(name: str, value: str) -> bool:
    """Whether Kubernetes sets this variable in the pods around a Service named tessera, or so."""
    ours = name.removeprefix(PREFIX).lower() in Settings.model_fields
    return bool(_SERVICE_LINK.fullmatch(name)) and (not ours or "://" in value)


def _meant(name: str) -> str:
    known = [PREFIX + field.upper() for field in Settings.model_fields]
    near = difflib.get_close_matches(name.upper(), known, 1)
    return f" (did you mean {near[0]}?)" if near else ""


def _fault(problem: Any) -> str:
    if not problem["loc"]:
        return str(problem["ctx"]["error"])
    name = PREFIX + str(problem["loc"][0]).upper()
    if problem["type"] == "string_pattern_mismatch":
        return f"{name}: must be auto, cpu, cuda or cuda:N"
    message = problem["msg"]
    return f"{name}: {message[0].lower()}{message[1:]}"
