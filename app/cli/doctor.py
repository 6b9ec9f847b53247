"""`tessera doctor`: what works here or there, how fast, and what to do about what doesn't."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from rich.console import Console

from app.cli.failures import REFUSED, UNAVAILABLE, CommandFailed
from app.cli.options import AsJson, ServiceOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.cli.checks import Finding

_MARKS = {"ok": "[green]ok  [/]", "note": "[cyan]note[/]", "bad": "[red]bad [/]"}


def doctor(as_json: AsJson = False, *, service: ServiceOptions) -> None:
    """Examine this machine: device, models, whether graphs compute what they should, speed.

    With --url examine a running service instead: whether it is ready, its models, a picture there
    and back, latency. Ends with 1 if anything is bad, with 3 if the service isn't reached.
    """
    import orjson

    findings = _here(service) if service.url is None else _there(service)
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
        unreached = service.url is not None and len(found) == 1
        raise CommandFailed(
            f"{bad} of {len(found)} findings {'is' if bad == 1 else 'are'} bad",
            UNAVAILABLE if unreached else REFUSED,
        )


def _here(service: ServiceOptions) -> Iterator[Finding]:
    from app.cli.checks import examine

    return examine(service.settings())


def _there(service: ServiceOptions) -> Iterator[Finding]:
    from app.cli.remote_checks import examine_service

    with service.connect() as client:
        yield from examine_service(client)
