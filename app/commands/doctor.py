"""`tessera doctor`: what works here, how fast, and what to do about what doesn't."""

from __future__ import annotations

import typer
from rich.console import Console

from app.commands.clients import local_settings
from app.commands.failures import CommandFailed
from app.commands.options import AsJson, Device, ModelsDir, Precision

_MARKS = {"ok": "[green]ok  [/]", "note": "[cyan]note[/]", "bad": "[red]bad [/]"}


def doctor(
    as_json: AsJson = False,
    models_dir: ModelsDir = None,
    device: Device = None,
    precision: Precision = None,
) -> None:
    """Look at this machine: device, models, whether graphs compute what they should, speed.

    Ends with 1 if anything is bad.
    """
    import orjson

    from app.commands.checks import examine

    settings = local_settings(models_dir=models_dir, device=device, precision=precision)
    console = Console(highlight=False, soft_wrap=True)
    found = []
    for finding in examine(settings):
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
        raise CommandFailed(f"{bad} of {len(found)} findings are bad")
