"""What tokenizing comes down to, on one machine or many: a model, and images into codes in order.

Codes of a data set go through the service's own queue: decoding of images is ahead of the model,
and images of one size run together.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import sys
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from app.batching.batcher import Batcher
from app.cli.failures import MISUSED, UNAVAILABLE, CommandFailed
from app.errors import Internal, InvalidParameter, NotReady, Overloaded, TesseraError
from app.observability.request_context import RequestContext
from app.runtime.device import DeviceUnavailable, choose_device, usable_cpus
from app.runtime.engine import BATCH_PIXELS
from app.runtime.registry import ModelsRefused, load_models
from app.service.context_coding import run_operation
from app.service.results import Item
from app.service.runner import Runner

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from app.cli.tokenize.formats import Form
    from app.cli.tokenize.sources import Stored
    from app.runtime.model import Model
    from app.service.preprocessing import PreprocessingOptions
    from app.service.runner import AnyGrid
    from app.settings import Settings

# Images that are decoded, queued or running at once, in units of a full batch of ordinary ones:
# enough that the engine never waits for a decoder, few enough for the memory of any machine.
_BATCHES_AHEAD = 4
_LEAST_AHEAD = 16
_ORDINARY_PIXELS = 65_536

# What fails by the engine's fault or the queue's.
_NOT_THE_IMAGES = {Internal.status, NotReady.status, Overloaded.status}


@dataclass(frozen=True, slots=True)
class Task:
    """A data set to be tokenized.

    Attributes:
        source: as `survey` takes it.
        out: folder for the shards.
        preprocessing: how images become model input.
        model: its name; None for the default one.
        shard_size: images of the source per shard.
        form: of the shards' files.
        settings: device, precision, threads, models folder.
        strict: whether damage in the source is an error.
        by_context: whether each image's codes are coded by their context.
        keep: endings of the files that are kept of each image's sample.
        stages: how many stages the codes have; None for what the model's manifest says.
    """

    source: str
    out: Path
    preprocessing: PreprocessingOptions
    model: str | None
    shard_size: int
    form: Form
    settings: Settings
    strict: bool = False
    by_context: bool = False
    keep: tuple[str, ...] = ()
    stages: int | None = None


class Outcome(NamedTuple):
    """What became of a task.

    Attributes:
        images, broken, shards: of all of it.
        new_images: of this run.
        seconds: that those took, without loading.
        skipped: how many entries of the source of each kind are not encoded.
        warned: images that may look wrong.
    """

    images: int
    broken: int
    shards: int
    new_images: int
    seconds: float
    skipped: dict[str, int]
    warned: int


def load_model(task: Task) -> Model:
    """The model that the task names, on the device that it names.

    Raises:
        CommandFailed: there is none, it doesn't run here, or it has fewer stages than asked for.
    """
    settings = task.settings
    try:
        device = choose_device(settings.device, settings.threads)
        default = settings.default_model or task.model
        models = load_models(
            settings.models_dir,
            default,
            device,
            settings.precision,
            tile_pixels=settings.max_tile_pixels,
            concurrent=True,
        )
        model = models.get(task.model)
        model.stages(task.stages)
    except InvalidParameter as error:
        raise CommandFailed(f"--{error}", MISUSED) from error
    except (DeviceUnavailable, ModelsRefused, TesseraError) as error:
        text = str(error)
        if settings.default_model is None:
            text = text.replace("TESSERA_DEFAULT_MODEL is", "--model is")
        raise CommandFailed(text, UNAVAILABLE) from error
    return model


def job_of(task: Task, model: Model) -> dict[str, Any]:
    """What decides the codes, but for the source: plain values for JSON."""
    manifest = model.manifest
    options = task.preprocessing
    stages = model.stages(task.stages)
    staged = {"stages": stages, "residual_sizes": list(manifest.residual_sizes[: stages - 1])}
    return {
        "model": manifest.name,
        "model_version": manifest.version,
        "code_space": manifest.code_space,
        "codebook_size": manifest.codebook_size,
        "stride": manifest.stride,
        # Codes of another precision or device differ in near ties: they don't mix unnoticed.
        "precision": model.precision,
        "device": model.graphs.device.kind,
        "size": None if options.size is None else list(options.size),
        "fit": None if options.size is None else options.fit,
        "shard_size": task.shard_size,
        "format": task.form,
        **(
            {"coding": "context", "prior": model.prior_of(stages=stages).digest}
            if task.by_context
            else {}
        ),
        # One stage alone goes without saying.
        **(staged if manifest.stages > 1 else {}),
        "keep": list(task.keep) or None,
        "sample_bits": options.sample_bits,
    }


async def encoded(
    images: Iterator[Stored], model: Model, task: Task
) -> AsyncIterator[tuple[Stored, Item[AnyGrid]]]:
    """Images in their order, and what became of each.

    Raises:
        CommandFailed: the engine failed, not an image.
    """
    # Which image failed, and why, the report says; the log would say it again.
    logging.getLogger("app.batching.batcher").setLevel(logging.CRITICAL)
    device = model.graphs.device
    batch_pixels = task.settings.max_batch_pixels or BATCH_PIXELS[device.kind]
    ahead = max(_LEAST_AHEAD, _BATCHES_AHEAD * batch_pixels // _ORDINARY_PIXELS)
    batcher = Batcher(
        lambda key, payloads: run_operation(model, key[1], payloads),
        max_items=ahead,
        max_weight=sys.maxsize,
        max_batch_weight=batch_pixels,
        prepare_threads=task.settings.threads or usable_cpus(),
        run_concurrently=lambda key, payloads: run_operation(
            model, key[1], payloads, exclusive=False
        ),
        runners=device.threads if device.kind == "cpu" else 1,
    )
    runner = Runner(batcher, model, RequestContext(None))

    async def one(image: Stored) -> tuple[Stored, Item[AnyGrid]]:
        try:
            async with batcher.slots():
                (item,) = await runner.encode([image], task.preprocessing, task.stages)
                value: AnyGrid | TesseraError = item.value
                if task.by_context:
                    value = (await runner.code([item]))[0].value
        except TesseraError as error:
            if error.status in _NOT_THE_IMAGES:
                raise  # going on would call the image broken
            return image, Item(0, image.name, error)
        return image, Item(0, image.name, value, item.warnings)

    tasks: deque[asyncio.Task[tuple[Stored, Item[AnyGrid]]]] = deque()
    try:
        for image in itertools.islice(images, ahead):
            tasks.append(asyncio.create_task(one(image)))
        while tasks:
            yield await tasks.popleft()
            for image in itertools.islice(images, 1):
                tasks.append(asyncio.create_task(one(image)))
    except NotReady as error:
        raise CommandFailed(error.detail, UNAVAILABLE) from error
    except TesseraError as error:
        raise CommandFailed(f"the engine failed: {error.detail}", UNAVAILABLE) from error
    finally:
        for left in tasks:
            left.cancel()
        batcher.close()
