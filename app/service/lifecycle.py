"""The service's life cycle: starting, ready, stuck, draining; and what requests use meanwhile."""

from __future__ import annotations

import asyncio
import logging
import time
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

from app.batching.batcher import Batcher
from app.errors import NotReady
from app.observability.inference_statistics import InferenceStatistics
from app.runtime.device import DeviceUnavailable, choose_device, usable_cpus
from app.runtime.engine import BATCH_PIXELS
from app.runtime.model import Model
from app.runtime.operations import ENCODE, Operation
from app.runtime.registry import Models, ModelsRefused, load_models
from app.service.api_keys import ApiKeys
from app.service.body_memory import BodyMemory
from app.service.context_coding import ContextCoding, run_operation
from app.service.model_health import ModelHealth
from app.service.preprocessing import Limits
from app.service.replaced_models import free

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.observability.metrics import Metrics
    from app.runtime.device import Device
    from app.settings import Settings

_log = logging.getLogger(__name__)

# Bodies in memory at once, in units of the largest one allowed.
_HELD_BODIES = 8
# What waits for a run may take this share of a request's time, the oldest twice as long: the
# rest is for uploads, runs and answers.
_QUEUED_SHARE = 0.4
# Decoded images that wait for a run, in units of the largest one allowed.
_QUEUED_IMAGES = 4


class Service:
    """What requests may use, from the start of the process to its end.

    Args:
        settings: the settings, as read at the start.
        metrics: the metrics to count in.
        on_fatal: called with one line when the process should end: the start failed, or a run
            hangs.

    Attributes:
        limits: limits of one request.
        keys: the keys that requests may carry; reloading reads them anew.
        body_memory: the bytes of request bodies in memory.
        health: when each loaded model last ran.
        inferences: what the models of the Open Inference Protocol have done.
        draining: True from the first signal to stop.
    """

    def __init__(
        self, settings: Settings, metrics: Metrics, on_fatal: Callable[[str], None] | None = None
    ) -> None:
        self.settings = settings
        self.metrics = metrics
        self.limits = Limits(settings.max_body_bytes, settings.max_images, settings.max_pixels)
        self.draining = False
        self._on_fatal = on_fatal or (lambda _reason: None)
        self._device: Device | None = None
        self._models: Models | None = None
        self._batcher: Batcher | None = None
        self._failed: str | None = None
        self.health = ModelHealth()
        self.inferences = InferenceStatistics()
        self.body_memory = BodyMemory(_HELD_BODIES * settings.max_body_bytes)
        self.keys = ApiKeys(settings)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._reloading = asyncio.Lock()
        for name, meaning, value in (
            ("queue_items", "Images admitted and not yet answered.", self._depth),
            ("queue_pixels", "Pixels that wait for a run.", self._queued_pixels),
            (
                "held_body_bytes",
                "Request bodies in memory, in bytes.",
                lambda: self.body_memory.held_bytes,
            ),
            ("tasks", "Tasks on the event loop.", lambda: len(asyncio.all_tasks())),
        ):
            metrics.watch(name, meaning, value)

    # --- what requests use --------------------------------------------------------------------

    @property
    def models(self) -> Models:
        """The loaded models, now; a request takes them once and keeps them.

        Raises:
            NotReady: not loaded yet, draining, or stuck.
        """
        reason = self._reason_to_refuse()
        if reason is not None:
            raise NotReady(reason)
        assert self._models is not None  # noqa: S101
        return self._models

    @property
    def batcher(self) -> Batcher:
        """The queue.

        Raises:
            NotReady: the models are not loaded yet.
        """
        if self._batcher is None:
            raise NotReady("the models are being loaded")
        return self._batcher

    def check_ready(self) -> None:
        """Check that every loaded model has lately run.

        Raises:
            NotReady: with the reason.
        """
        reason = self._reason()
        self.metrics.ready.set(reason is None)
        if reason is not None:
            raise NotReady(reason)

    # --- life ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to load; `/readyz` says when it is done. Call it on the event loop."""
        self._spawn(self._load())

    def drain(self) -> None:
        """Accept nothing new. What was accepted is still answered."""
        self.draining = True
        self.metrics.ready.set(0)

    async def stop(self) -> None:
        """End tasks and threads."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.health.stop()
        if self._batcher is not None:
            try:
                await asyncio.to_thread(self._batcher.close)
            except RuntimeError:  # the interpreter ends, and gives no thread new work
                self._batcher.close()

    async def reload(self) -> Models:
        """Load the models folder anew and, if all of it is good, serve that from now on.

        Requests in flight finish with the models they began with. Keys are read anew too.

        Raises:
            NotReady: still starting, or stopping.
            ModelsRefused: a bundle is bad; what was loaded goes on serving.
            SettingsError: the file of keys can't be read.
        """
        async with self._reloading:
            try:
                loaded = await self._reload()
            except Exception:
                self.metrics.reloads.labels("refused").inc()
                raise
        self.metrics.reloads.labels("done").inc()
        _log.info("reloaded", extra={"fields": {"models": list(loaded.by_name)}})
        return loaded

    async def _reload(self) -> Models:
        if self._device is None or self._models is None or self.draining:
            raise NotReady("the service is not ready")
        keys = ApiKeys(self.settings)
        loaded = await asyncio.to_thread(self._load_models, self._device)
        self._adopt(loaded)
        self.keys = keys
        return loaded

    async def _load(self) -> None:
        started = time.monotonic()
        try:
            device = await asyncio.to_thread(
                choose_device, self.settings.device, self.settings.threads
            )
            loaded = await asyncio.to_thread(self._load_models, device)
        except (DeviceUnavailable, ModelsRefused) as error:
            self._fail(str(error))
            return
        except Exception as error:  # noqa: BLE001  (whatever it is, the start has failed)
            _log.exception("loading failed")
            self._fail(f"loading failed: {type(error).__name__}")
            return
        self._device = device
        settings = self.settings
        self._batcher = Batcher(
            self._run,
            max_items=settings.max_queue,
            max_weight=_QUEUED_IMAGES * settings.max_pixels,
            max_batch_weight=settings.max_batch_pixels or BATCH_PIXELS[device.kind],
            max_wait_s=_QUEUED_SHARE * settings.request_timeout_s,
            prepare_threads=usable_cpus(),
            on_batch=self.metrics.on_batch,
            run_concurrently=partial(self._run, exclusive=False),
            runners=device.threads if device.kind == "cpu" else 1,
        )
        self._adopt(loaded)
        self.metrics.ready.set(1)
        facts = {
            "device": str(device),
            "threads": device.threads,
            "seconds": round(time.monotonic() - started, 2),
            "models": {name: model.precision for name, model in loaded.by_name.items()},
            "default": loaded.default_name,
        }
        _log.info("ready", extra={"fields": facts})
        self._spawn(self._watch())

    def _load_models(self, device: Device) -> Models:
        settings = self.settings
        return load_models(
            settings.models_dir,
            settings.default_model,
            device,
            settings.precision,
            tile_pixels=settings.max_tile_pixels,
            concurrent=True,
        )

    def _adopt(self, models: Models) -> None:
        replaced = self.health.replace_models(models.by_name.values())
        if replaced:
            self._spawn(
                free([weakref.ref(model) for model in replaced], self.settings.request_timeout_s)
            )
        self._models = models

    def _run(
        self,
        key: tuple[Model, Operation | ContextCoding, Any],
        payloads: list[Any],
        *,
        exclusive: bool = True,
    ) -> list[Any]:
        """Run one operation of one model on items of one shape, in a thread of the batcher."""
        model, operation, _ = key
        results = run_operation(model, operation, payloads, exclusive=exclusive)
        self.health.note_run(model)
        if operation == ENCODE:
            self._count_codes(model, results)
        elif isinstance(operation, Operation) and operation.gives == "pixels":
            self.metrics.decoded.labels(model.id, model.decoder_of(operation.graph)).inc(
                len(results)
            )
        return results

    def _count_codes(self, model: Model, codes: list[Any]) -> None:
        sizes = model.manifest.codebook_sizes
        if len(sizes) == 1:
            self.metrics.code_usage.add(model.id, sizes[0], codes)
            return
        for index, (stage, size) in enumerate(zip(zip(*codes, strict=True), sizes, strict=True)):
            self.metrics.code_usage.add(model.id, size, stage, index + 1)

    async def _watch(self) -> None:
        """Once a second: is a run hung, has each model lately run?"""
        while True:
            await asyncio.sleep(1)
            running = self.batcher.running_for_s()
            if running > self.settings.stuck_after_s:
                # Nothing in this process can end a native call: the supervisor must.
                self._fail(f"a run has hung for {running:.0f} s")
                return
            self.health.start_canaries(self.batcher)
            self.metrics.ready.set(self._reason() is None)

    def _depth(self) -> int:
        return self._batcher.depth if self._batcher is not None else 0

    def _held_body_bytes(self) -> int:
        return self.body_memory.held_bytes

    def _queued_pixels(self) -> int:
        return self._batcher.queued_weight if self._batcher is not None else 0

    def _reason_to_refuse(self) -> str | None:
        """Why no request is served; None if they are."""
        if self._failed is not None:
            return self._failed
        if self.draining:
            return "the service is stopping"
        if self._models is None:
            return "the models are being loaded"
        return None

    def _reason(self) -> str | None:
        """Why the service is not ready, though it may still serve; None if it is."""
        return self._reason_to_refuse() or self.health.problem()

    def _fail(self, reason: str) -> None:
        self._failed = reason
        self.metrics.ready.set(0)
        if self._batcher is not None:
            # Whoever waits is told now; none of them would ever be served.
            self._batcher.close(NotReady(reason), timeout_s=0)
        self._on_fatal(reason)

    def _spawn(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
