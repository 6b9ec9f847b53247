"""`tessera tokenize`: a folder or shards of images into shards of codes."""

from __future__ import annotations

import asyncio
import re
import time
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import orjson
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from app.cli.failures import MISUSED, REFUSED, CommandFailed
from app.cli.options import AsJson, ImageOptions, LocalOptions, ModelName, Stages

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.cli.tokenize.encoder import Outcome, Task
    from app.cli.tokenize.formats import Form

_ON_RAY = "On a Ray cluster"
# An address of two letters or more as a path has it, such as `s3:/bucket/codes`.
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/")

Engine = Annotated[str, typer.Option(help="where it runs: local, or ray, on a cluster")]
RayAddress = Annotated[
    str,
    typer.Option(
        help="address of the cluster: auto, host:port or ray://…", rich_help_panel=_ON_RAY
    ),
]
RayCpus = Annotated[
    int,
    typer.Option(
        min=1, help="CPUs of each worker, which has a model of its own", rich_help_panel=_ON_RAY
    ),
]


def tokenize(
    source: Annotated[
        str,
        typer.Argument(
            help="folder of images, of WebDataset tars or of Parquet files, one such file, or an "
            "address of one of these, such as s3://bucket/folder"
        ),
    ],
    out: Annotated[
        Path, typer.Argument(help="folder for the shards; what is there and current is kept")
    ],
    *,
    image: ImageOptions,
    shard_size: Annotated[
        int, typer.Option(min=1, help="images of the source in each shard")
    ] = 4096,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="form of the shards: npy, webdataset (a tar), each with JSON, or parquet",
        ),
    ] = "npy",
    coding: Annotated[
        str,
        typer.Option(
            help="fixed, or context: each image's codes as bytes, about a third fewer, which only "
            "the same model reads; with --format parquet"
        ),
    ] = "fixed",
    stages: Stages = None,
    model: ModelName = None,
    keep: Annotated[
        str,
        typer.Option(
            help="endings of the files that are kept of each image's sample, such as txt,json,cls"
        ),
    ] = "",
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="refuse a source that is damaged, and fail if an image is broken"
        ),
    ] = False,
    as_json: AsJson = False,
    local: LocalOptions,
    engine: Engine = "local",
    ray_address: RayAddress = "auto",
    ray_cpus: RayCpus = 1,
) -> None:
    """Tokenize a data set, to train other models on its codes.

    Stopped or killed, the same command goes on where it was. Broken images are reported in
    broken.jsonl and don't stop it.

    tessera tokenize photos/ codes/ --size 256x256
    """
    from app.cli.tokenize.encoder import Task
    from app.cli.tokenize.shards import locked
    from app.service.preprocessing import PreprocessingOptions

    settings = local.settings()
    if _ADDRESS.match(str(out)):
        raise CommandFailed(
            f"{out}: shards are written to a folder of this machine, not to an object store; "
            "copy them there once they are complete",
            MISUSED,
        )
    _check_choice("--format", form, ("npy", "webdataset", "parquet"))
    _check_choice("--coding", coding, ("fixed", "context"))
    if coding == "context" and form != "parquet":
        raise CommandFailed("--coding context needs --format parquet", MISUSED)
    _check_choice("--engine", engine, ("local", "ray"))
    preprocessing = PreprocessingOptions(
        settings.max_pixels, image.wanted(settings.max_pixels), image.fit, image.sample_bits
    )
    task = Task(
        *(source, out, preprocessing, model, shard_size, cast("Form", form), settings, strict),
        by_context=coding == "context",
        keep=_endings(keep),
        stages=stages,
    )
    if engine == "ray":
        from app.cli.tokenize.ray import tokenize_on_ray

        with locked(out), _Bar() as bar:
            outcome = tokenize_on_ray(task, ray_address, ray_cpus, bar.show)
    else:
        with locked(out), _Bar() as bar:
            outcome = _tokenize_here(task, bar.show)
    if as_json:
        summary = {**outcome._asdict(), "seconds": round(outcome.seconds, 3)}
        typer.echo(orjson.dumps(summary).decode())
    else:
        _say(out, outcome)
    if outcome.images == 0:
        raise CommandFailed("not one image could be read", REFUSED)
    if strict and outcome.broken:
        raise CommandFailed(f"--strict: {outcome.broken:,} could not be read", REFUSED)


def _endings(keep: str) -> tuple[str, ...]:
    endings = [ending.strip().removeprefix(".") for ending in keep.split(",") if ending.strip()]
    taken = {"npy", "place", "name", "width", "height", "rows", "columns", "stages", "codes"}
    for ending in endings:
        if ending in taken or "/" in ending:
            raise CommandFailed(f"--keep: {ending} is a name that the shards use", MISUSED)
    return tuple(dict.fromkeys(endings))


def _check_choice(option: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise CommandFailed(f"{option}: must be {' or '.join(choices)}, not {value}", MISUSED)


def _say(out: Path, outcome: Outcome) -> None:
    from app.cli.tokenize.entries import in_words

    images, broken, shards, new, seconds, skipped, warned = outcome
    rate = f", {new / seconds:.1f} images/s" if new and seconds else ""
    typer.echo(f"{out}: {_count(images, 'image')} in {_count(shards, 'shard')} ({new:,} now{rate})")
    if broken:
        typer.echo(f"{broken:,} could not be read: {out / 'broken.jsonl'}")
    if warned:
        typer.echo(f"{warned:,} may look wrong: {out / 'warnings.jsonl'}")
    if skipped:
        typer.echo(f"not encoded: {in_words(skipped.items())}: {out / 'skipped.jsonl'}")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _tokenize_here(task: Task, show: Callable[[int, int | None], None]) -> Outcome:
    """Make the shards that aren't there, or not of what the source holds now."""
    from app.cli.tokenize.encoder import Outcome, encoded, job_of, load_model
    from app.cli.tokenize.formats import ShardContent
    from app.cli.tokenize.partition import contents_of, count_of_part, cut, images_of_part
    from app.cli.tokenize.shards import Shards

    model = load_model(task)
    shards = Shards(task.out, job_of(task, model), task.source)
    source = cut(
        *(task.source, shards.parts, task.shard_size),
        lambda place, archives, keep: (contents_of(place, one, keep) for one in archives),
        task.keep,
    )
    before = 0
    started = time.monotonic()

    async def make(wanted: list[int]) -> None:
        images = chain.from_iterable(
            images_of_part(shards.parts, index, task.keep) for index in wanted
        )
        results = encoded(images, model, task)
        for index in wanted:
            content = ShardContent()
            first = index * task.shard_size
            for place in range(first, first + count_of_part(shards.parts, index)):
                content.add(place, *(await anext(results)))
                show(shards.images + shards.broken + place - first + 1, source.images)
            # Not in a thread: it takes milliseconds, and what is ahead goes on meanwhile.
            shards.write(index, content)

    if shards.begin(source, strict=task.strict):
        wanted = []
        for index in range(source.parts):
            if shards.is_current(index):
                shards.count(index, shards.files.tally(index))
            else:
                wanted.append(index)
        before = shards.images
        show(shards.images + shards.broken, source.images)
        asyncio.run(make(wanted))
        shards.finish(source)
    else:
        before = shards.images
    return Outcome(
        *(shards.images, shards.broken, shards.done, shards.images - before),
        *(time.monotonic() - started, dict(source.skipped), shards.warned),
    )


class _Bar:
    """A bar with rate and time left, on standard error; nothing where that is no terminal.

    It appears with the first call of `show`: until then the work may yet be refused.
    """

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("tokenizing"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("images  {task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("so far "),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
            disable=not console.is_terminal,
            refresh_per_second=4,
        )
        self._bar = self._progress.add_task("images", total=None, rate="")
        self._began: tuple[float, int] | None = None
        self._shown = 0.0

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def show(self, done: int, total: int | None) -> None:
        """Show how far it is; the first call says where it begins."""
        now = time.monotonic()
        if self._began is None:
            self._began = now, done
            self._progress.start()
        elif now - self._shown < 0.1 and done != total:
            return
        self._shown = now
        since, first = self._began
        rate = f"{(done - first) / (now - since):.1f} images/s " if now > since else ""
        self._progress.update(self._bar, completed=done, total=total, rate=rate)
