"""`tessera tokenize --engine ray`: the same shards, made by the machines of a Ray cluster.

One shard is one unit of work: a worker reads its part of the source, decodes, encodes and writes
it, with the very code that runs on one machine. Ray Data hands the units out, and hands those of
a lost machine to another. A shard that is there already is skipped, so that it doesn't matter
how often a unit is begun. The driver lists the source and counts; it holds no image, no codes and
no names, but a number for each shard.

Every machine must see source, models and output under the same paths, and have Tessera installed.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import logging
import os
import socket
import sys
import time
from collections import Counter
from contextlib import redirect_stdout
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from app.cli.failures import MISUSED, UNAVAILABLE, CommandFailed, install_hint
from app.cli.tokenize.encoder import Outcome, encoded, job_of, load_model
from app.cli.tokenize.entries import Skipped
from app.cli.tokenize.formats import ShardContent, Tally
from app.cli.tokenize.partition import (
    ArchiveContents,
    contents_of,
    cut,
    fingerprint_of_part,
    images_of_part,
)
from app.cli.tokenize.shards import Shards, shard_files
from app.cli.tokenize.storage import located

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from app.cli.tokenize.encoder import Task
    from app.runtime.model import Model

# Units of a thousand million images would otherwise be as many tasks for Ray to keep.
_MOST_BLOCKS = 10_000

_CONNECT_S = 10.0


def tokenize_on_ray(
    task: Task, address: str, cpus: int, show: Callable[[int, int | None], None]
) -> Outcome:
    """Tokenize on a cluster that is running.

    Args:
        task: its paths are seen by all machines.
        address: `auto`, `host:port` or `ray://host:port`.
        cpus: of each worker; on CUDA each has a GPU too.
        show: told of images done, and of all.

    Raises:
        CommandFailed: Ray isn't installed or not there, or a worker can't go on.
    """
    if importlib.util.find_spec("ray") is None:
        hint = install_hint("ray[client,data]")
        raise CommandFailed(f"--engine ray needs Ray: {hint}", MISUSED)
    _check_reachable(address)
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    import ray

    # Standard output is for the result: Ray tells there of machines that are lost.
    with redirect_stdout(sys.stderr):
        try:
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = str(error).partition("\n")[0]
            raise CommandFailed(f"no Ray cluster at {address!r}: {reason}", UNAVAILABLE) from error
        try:
            placed = _placed(task, cpus)
            if not address.startswith("ray://"):
                return _tokenize(placed, cpus, show)
            # Ray Data can't be driven through such a connection: it is driven from within.
            drive = ray.remote(_drive).options(num_cpus=0, max_retries=-1)
            return Outcome(**_answer(ray.get(drive.remote(placed, cpus))))
        except ray.exceptions.RayError as error:
            reason = str(error).strip().rpartition("\n")[2]
            raise CommandFailed(f"Ray gave up: {reason}", UNAVAILABLE) from error
        finally:
            ray.shutdown()


def _check_reachable(address: str) -> None:
    """Refuse at once where nobody listens: Ray would try for minutes."""
    known = os.environ.get("RAY_ADDRESS", "auto") if address == "auto" else address
    if known == "auto":
        return
    host, _, port = known.removeprefix("ray://").partition("/")[0].rpartition(":")
    if not host or not port.isdecimal():
        raise CommandFailed(
            f"--ray-address: {address!r} is not auto, host:port or ray://host:port", MISUSED
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S).close()
    except OSError as error:
        raise CommandFailed(f"no Ray cluster at {known!r}: {error}", UNAVAILABLE) from error


def _placed(task: Task, cpus: int) -> Task:
    """The task as workers get it: paths that hold anywhere, and one kind of device."""
    import ray

    settings = task.settings
    device = settings.device
    if device == "auto":
        device = "cuda" if ray.cluster_resources().get("GPU") else "cpu"
    changed = {
        "models_dir": settings.models_dir.resolve(),
        "device": device,
        "threads": settings.threads or cpus,
    }
    return replace(
        task,
        source=located(task.source),
        out=task.out.resolve(),
        settings=settings.model_copy(update=changed),
    )


def _tokenize(task: Task, cpus: int, show: Callable[[int, int | None], None]) -> Outcome:
    import ray
    from ray.data import ActorPoolStrategy, DataContext

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    DataContext.get_current().enable_progress_bars = False
    needs = {"num_cpus": cpus, "num_gpus": int(task.settings.device.startswith("cuda"))}
    _check_room(needs)
    job = _answer(ray.get(ray.remote(_job).options(max_retries=-1, **needs).remote(task)))
    shards = Shards(task.out, job, task.source)
    there = cut(task.source, shards.parts, task.shard_size, _contents, task.keep)
    skipped = dict(there.skipped)
    if not shards.begin(there, strict=task.strict):
        return Outcome(shards.images, shards.broken, shards.done, 0, 0.0, skipped, shards.warned)
    started = time.monotonic()
    show(0, there.images)
    most = max(1, int(ray.cluster_resources().get("CPU", 1)) // cpus)
    rows = (
        ray.data.range(there.parts, override_num_blocks=min(there.parts, _MOST_BLOCKS))
        .map_batches(
            _Worker,
            fn_constructor_args=(task, job),
            batch_size=1,
            compute=ActorPoolStrategy(min_size=1, max_size=most),
            **needs,
        )
        .iter_rows()
    )
    new = 0
    for row in rows:
        _answer(row)
        shards.count(int(row["shard"]), Tally(*(int(row[name]) for name in Tally._fields)))
        new += int(row["images"]) if row["new"] else 0
        show(shards.images + shards.broken, there.images)
    shards.finish(there)
    seconds = time.monotonic() - started
    return Outcome(shards.images, shards.broken, shards.done, new, seconds, skipped, shards.warned)


def _drive(task: Task, cpus: int) -> dict[str, Any]:
    """On one of the machines: the whole, or what went wrong."""
    try:
        return {**_tokenize(task, cpus, lambda *_: None)._asdict(), "error": ""}
    except CommandFailed as error:
        return {"error": str(error)}


class _Worker:
    """A model on one of the machines."""

    def __init__(self, task: Task, job: dict[str, Any]) -> None:
        self._task = task
        self._files = shard_files(task.out, job)
        self._job = job
        self._model: Model | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Make one shard.

        Args:
            batch: `id` `[1]`: its number.

        Returns:
            As columns of one row: what it holds, whether it is new, and what went wrong.
        """
        index = int(batch["id"][0])
        error, new, tally = "", False, Tally(0, 0)
        try:
            source = fingerprint_of_part(self._task.out / ".parts", index)
            if self._files.source(index) == source:
                tally = self._files.tally(index)
            else:
                tally, new = asyncio.run(self._make(index, source)), True
        except (CommandFailed, OSError) as failure:
            error = str(failure)
        row = {"shard": index, **tally._asdict()}
        return {key: [value] for key, value in {**row, "new": new, "error": error}.items()}

    async def _make(self, index: int, source: str) -> Tally:
        place = index * self._task.shard_size
        content = ShardContent()
        images = images_of_part(self._task.out / ".parts", index, self._task.keep)
        async for image, item in encoded(images, self._loaded(), self._task):
            content.add(place, image, item)
            place += 1
        return self._files.write(index, content, source)

    def _loaded(self) -> Model:
        if self._model is None:
            self._model = load_model(self._task)
            here = job_of(self._task, self._model)
            other = [key for key in here if here[key] != self._job[key]]
            if other:
                raise CommandFailed(f"machines differ in {', '.join(other)}: of --models-dir")
        return self._model


def _check_room(needs: dict[str, int]) -> None:
    """Refuse what would wait for ever: Ray waits for a machine that could run it."""
    import ray

    for node in ray.nodes():
        there = node["Resources"] if node["Alive"] else {}
        if all(there.get(name, 0) >= needs[f"num_{name.lower()}s"] for name in ("CPU", "GPU")):
            return
    gpu = " and a GPU" if needs["num_gpus"] else ""
    raise CommandFailed(
        f"no machine of the cluster has {needs['num_cpus']} CPUs{gpu} for a worker: "
        "see --ray-cpus and --device",
        UNAVAILABLE,
    )


def _job(task: Task) -> dict[str, Any]:
    """On one of the machines: what decides the codes, or what went wrong."""
    try:
        return job_of(task, load_model(task)) | {"error": ""}
    except CommandFailed as error:
        return {"error": str(error)}


def _answer(row: dict[str, Any]) -> dict[str, Any]:
    if row["error"]:
        reason = row["error"].removeprefix("on the cluster: ")
        raise CommandFailed(f"on the cluster: {reason}", UNAVAILABLE)
    return {key: value for key, value in row.items() if key != "error"}


def _contents(place: str, archives: list[str], keep: tuple[str, ...]) -> Iterator[ArchiveContents]:
    """What each archive holds, looked at by the cluster."""
    import ray

    found: dict[str, ArchiveContents] = {}
    rows = ray.data.from_items([{"archive": archive} for archive in archives]).map(
        _look_into, fn_args=(place, keep), num_cpus=1
    )
    for row in rows.iter_rows():
        answer = json.loads(_answer(row)["found"])
        skipped = [Skipped(*one) for one in answer["skipped"]]
        found[row["archive"]] = ArchiveContents(answer["images"], Counter(answer["kinds"]), skipped)
    for archive in archives:
        yield found.pop(archive)


def _look_into(row: dict[str, Any], place: str, keep: tuple[str, ...]) -> dict[str, Any]:
    try:
        found = contents_of(place, row["archive"], keep)
    except (CommandFailed, OSError) as error:
        return {**row, "found": "", "error": str(error)}
    # As one value: Ray would make columns of it. Names need not be UTF-8, and this keeps them.
    values = {"images": found.images, "kinds": found.kinds, "skipped": found.skipped}
    return {**row, "found": json.dumps(values), "error": ""}
