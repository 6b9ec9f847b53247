"""`tessera doctor`: what works here or there, how fast, and what to do about what doesn't."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from rich.console import Console

from app.cli.client import local_settings
from app.cli.failures import REFUSED, UNAVAILABLE, CommandFailed
from app.cli.options import AsJson, Device, Key, ModelsDir, Precision, Url, client_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from app.cli.checks import Finding

_MARKS = {"ok": "[green]ok  [/]", "note": "[cyan]note[/]", "bad": "[red]bad [/]"}


def doctor(
    as_json: AsJson = False,
    url: Url = None,
    api_key: Key = None,
    models_dir: ModelsDir = None,
    device: Device = None,
    precision: Precision = None,
) -> None:
    """Look at this machine: device, models, whether graphs compute what they should, speed.

    With --url look at a running service instead: whether it is ready, its models, a picture there
    and back, latency. Ends with 1 if anything is bad, with 3 if the service isn't reached.
    """
    import orjson

    findings = (
        _here(models_dir, device, precision)
        if url is None
        else _there(url, api_key, models_dir, device, precision)
    )
    console = Console(highlight=False, soft_wrap=True)
    found = []
    for finding in findings:
        found.append(finding)
        if not as_json:
            # As they come: the speed takes a while.
            console.print(f"{_MARKS[finding.state]}  {finding.subject}: ", end="")
            console.print(finding.text, markup=False)
            if finding.advice:
                console.print(f"      → {finding.advice}", markup=False)
    if as_json:
        typer.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())
    bad = sum(finding.state == "bad" for finding in found)
    if bad:
        unreached = url is not None and len(found) == 1
        raise CommandFailed(
            f"{bad} of {len(found)} findings {'is' if bad == 1 else 'are'} bad",
            UNAVAILABLE if unreached else REFUSED,
        )


def _here(models_dir: Path | None, device: str | None, precision: str | None) -> Iterator[Finding]:
    from app.cli.checks import examine

    return examine(local_settings(models_dir=models_dir, device=device, precision=precision))


def _there(
    url: str, key: str | None, models_dir: Path | None, device: str | None, precision: str | None
) -> Iterator[Finding]:
    from app.cli.remote_checks import examine_service

    with client_for(url, key, models_dir, device, precision) as client:
        yield from examine_service(client)
