"""`tessera tokenize`: a folder or shards of images into shards of codes."""

from __future__ import annotations

import asyncio
import itertools
import logging
import sys
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

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

from app.commands.clients import local_settings
from app.commands.failures import MISUSED, REFUSED, UNAVAILABLE, CommandFailed
from app.commands.options import AsJson, Device, Fit, ModelName, ModelsDir, Precision, Size

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from app.codes import CodeGrid
    from app.commands.shards import Shards
    from app.commands.sources import Source, Stored
    from app.errors import TesseraError
    from app.models import Model
    from app.operations import Intake
    from app.resizing import Fit as FitName
    from app.settings import Settings

# Images that are decoded, queued or running at once, in units of a full batch of ordinary ones:
# enough that the engine never waits for a decoder, few enough for the memory of any machine.
_BATCHES_AHEAD = 4
_LEAST_AHEAD = 16
_ORDINARY_PIXELS = 65_536


def tokenize(
    source: Annotated[
        Path, typer.Argument(help="folder of images, folder of WebDataset tars, or one tar")
    ],
    out: Annotated[Path, typer.Argument(help="folder for the shards; an unfinished one goes on")],
    size: Size = None,
    fit: Fit = "cover",
    shard_size: Annotated[int, typer.Option(min=1, help="images of the source per shard")] = 4096,
    model: ModelName = None,
    as_json: AsJson = False,
    models_dir: ModelsDir = None,
    device: Device = None,
    precision: Precision = None,
) -> None:
    """Tokenize a data set, to train other models on its codes.

    Stopped or killed, the same command goes on where it was. Broken images are reported in
    broken.jsonl and don't stop it.

    tessera tokenize photos/ codes/ --size 256x256
    """
    from app.commands.shards import locked
    from app.commands.sources import open_source
    from app.device import DeviceUnavailable, choose_device
    from app.errors import TesseraError
    from app.models import ModelsRefused, load_models
    from app.operations import Intake
    from app.resizing import parse_size

    settings = local_settings(models_dir=models_dir, device=device, precision=precision)
    if fit not in {"cover", "contain", "stretch"}:
        raise CommandFailed("--fit: must be cover, contain or stretch", MISUSED)
    try:
        wanted = None if size is None else parse_size(size, max_pixels=settings.max_pixels)
    except TesseraError as error:
        raise CommandFailed(f"--size: {error.detail}", MISUSED) from error
    intake = Intake(settings.max_pixels, wanted, cast("FitName", fit))
    images = open_source(source)
    with locked(out):
        try:
            place = choose_device(settings.device, settings.threads)
            loaded = load_models(
                settings.models_dir, settings.default_model or model, place, settings.precision
            )
            chosen = loaded.get(model)
        except (DeviceUnavailable, ModelsRefused, TesseraError) as error:
            raise CommandFailed(str(error), UNAVAILABLE) from error
        shards = _open_shards(out, images, intake, chosen, shard_size)
        started, before = time.monotonic(), shards.images
        if not shards.complete:
            # Which image failed, and why, the report says; the log would say it again.
            logging.getLogger("app.batching").setLevel(logging.CRITICAL)
            asyncio.run(_tokenize(images, shards, chosen, intake, shard_size, settings))
        seconds = time.monotonic() - started
    summary = {
        "images": shards.images,
        "broken": shards.broken,
        "shards": shards.done,
        "new_images": shards.images - before,
        "seconds": round(seconds, 3),
    }
    if as_json:
        typer.echo(orjson.dumps(summary).decode())
    else:
        _say(out, summary)
    if shards.images == 0:
        raise CommandFailed("not one image could be read", REFUSED)


def _say(out: Path, summary: dict[str, Any]) -> None:
    new, seconds = summary["new_images"], summary["seconds"]
    rate = f", {new / seconds:.1f} images/s" if new and seconds else ""
    typer.echo(
        f"{out}: {summary['images']:,} images in {summary['shards']:,} shards ({new:,} now{rate})"
    )
    if summary["broken"]:
        typer.echo(f"{summary['broken']:,} could not be read: {out / 'broken.jsonl'}")


def _open_shards(
    out: Path, source: Source, intake: Intake, model: Model, shard_size: int
) -> Shards:
    from app.commands.shards import Shards

    manifest = model.manifest
    return Shards(
        out,
        {
            "model": manifest.name,
            "model_version": manifest.version,
            "code_space": manifest.code_space,
            "codebook_size": manifest.codebook_size,
            "stride": manifest.stride,
            # Codes of another precision or device differ in near ties: they don't mix unnoticed.
            "precision": model.precision,
            "device": model.graphs.device.kind,
            "size": None if intake.size is None else list(intake.size),
            "fit": None if intake.size is None else intake.fit,
            "shard_size": shard_size,
            "source": source.fingerprint,
        },
    )


async def _tokenize(
    source: Source,
    shards: Shards,
    model: Model,
    intake: Intake,
    shard_size: int,
    settings: Settings,
) -> None:
    """Fill shards from the first that isn't complete to the end of the source."""
    place = shards.done * shard_size
    with _progress() as progress:
        task = progress.add_task("images", total=source.count, completed=place, rate="")
        grids: list[tuple[int, CodeGrid]] = []
        broken: list[tuple[int, str | None, TesseraError]] = []
        began = time.monotonic()
        shown = 0.0
        first = place
        async for name, result in _encoded(source.images(place), model, intake, settings):
            if isinstance(result, Exception):
                broken.append((place, name, result))
            else:
                grids.append((place, result))
            place += 1
            if len(grids) + len(broken) == shard_size:
                # Not in a thread: it takes milliseconds, and what is ahead goes on meanwhile.
                shards.write(grids, broken)
                grids, broken = [], []
            now = time.monotonic()
            if now - shown > 0.1:
                shown = now
                rate = f"{(place - first) / (now - began):.1f}/s"
                progress.update(task, completed=place, rate=rate)
        if grids or broken:
            shards.write(grids, broken)
        progress.update(task, completed=place)
    shards.finish()


async def _encoded(
    images: Iterator[Stored], model: Model, intake: Intake, settings: Settings
) -> AsyncIterator[tuple[str | None, CodeGrid | TesseraError]]:
    """Codes of images in their order, through the service's own queue: decoding is ahead."""
    from app.batching import Batcher
    from app.device import usable_cpus
    from app.engine import BATCH_PIXELS
    from app.errors import Internal, TesseraError
    from app.exchange import Exchange
    from app.operations import Runner

    batch_pixels = settings.max_batch_pixels or BATCH_PIXELS[model.graphs.device.kind]
    ahead = max(_LEAST_AHEAD, _BATCHES_AHEAD * batch_pixels // _ORDINARY_PIXELS)
    batcher = Batcher(
        lambda key, payloads: model.run(key[1], payloads),
        max_items=ahead,
        max_weight=sys.maxsize,
        max_batch_weight=batch_pixels,
        prepare_threads=usable_cpus(),
    )
    runner = Runner(batcher, model, Exchange(None))

    async def one(image: Stored) -> tuple[str | None, CodeGrid | TesseraError]:
        try:
            with batcher.admit(1):
                (item,) = await runner.encode([image], intake)
        except Internal:
            raise  # the engine failed, not the image: going on would call it broken
        except TesseraError as error:
            return image.name, error
        return image.name, item.value

    try:
        tasks: deque[asyncio.Task[tuple[str | None, CodeGrid | TesseraError]]] = deque()
        for image in itertools.islice(images, ahead):
            tasks.append(asyncio.create_task(one(image)))
        while tasks:
            yield await tasks.popleft()
            for image in itertools.islice(images, 1):
                tasks.append(asyncio.create_task(one(image)))
    except Internal as error:
        raise CommandFailed(f"the engine failed: {error.detail}", UNAVAILABLE) from error
    finally:
        for task in tasks:
            task.cancel()
        batcher.close()


def _progress() -> Progress:
    """A bar with rate and time left, on standard error; nothing where that is no terminal."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("tokenizing"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        refresh_per_second=4,
    )
