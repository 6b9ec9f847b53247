"""Whether each loaded model has lately run, which canaries prove where no request does."""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from app.batching.work import Work
from app.runtime.operations import RECONSTRUCT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from app.batching.batcher import Batcher
    from app.runtime.model import Model

_log = logging.getLogger(__name__)

# A model that served nothing for this long runs a canary: 64 × 64 pixels through all of it, a
# millisecond or two, under 0.1 % of a core.
_CANARY_AFTER_S = 10.0
# A model that hasn't run for this long, canaries included, isn't ready.
_UNREADY_AFTER_S = 30.0
_CANARY_SIDE = 64


class ModelHealth:
    """When each loaded model last ran.

    Attributes:
        last_run: time of each loaded model's last run, by `time.monotonic`.
    """

    def __init__(self) -> None:
        self.last_run: dict[Model, float] = {}
        self._canaries: dict[Model, asyncio.Task[None]] = {}

    def replace_models(self, models: Iterable[Model]) -> list[Model]:
        """Watch these models from now on, which warming up has just run.

        Returns:
            The models that were watched before.
        """
        replaced = list(self.last_run)
        self.last_run = dict.fromkeys(models, time.monotonic())
        return replaced

    def note_run(self, model: Model) -> None:
        """Note that a model has just run; called from the batcher's threads."""
        last_run = self.last_run
        if model in last_run:  # a replaced one may still be answering
            last_run[model] = time.monotonic()

    def problem(self) -> str | None:
        """Why a model counts as not ready; None if all have lately run."""
        now = time.monotonic()
        for model, ran in self.last_run.items():
            if now - ran > _UNREADY_AFTER_S:
                return f"the model {model.name} has not run for {now - ran:.0f} s"
        return None

    def start_canaries(self, batcher: Batcher) -> None:
        """Start a canary of each model that hasn't run for a while and has none under way.

        A busy model doesn't stand for an idle one, so that this is for the idle one alone.
        """
        now = time.monotonic()
        for model, ran in self.last_run.items():
            if now - ran > _CANARY_AFTER_S and model not in self._canaries:
                task = asyncio.get_running_loop().create_task(self.run_canary(model, batcher))
                self._canaries[model] = task
                task.add_done_callback(partial(self._canary_ended, model))

    async def run_canary(self, model: Model, batcher: Batcher) -> None:
        """Run a small image through all of a model, as a request would."""
        side = -(-_CANARY_SIDE // model.manifest.stride) * model.manifest.stride
        samples = model.samples
        pixels = np.zeros((side, side, samples.channels), samples.dtype)
        work = Work((model, RECONSTRUCT, pixels.shape), pixels, side * side)
        try:
            async with asyncio.timeout(_CANARY_AFTER_S):
                await batcher.submit_prepared(work)
        except Exception as error:  # noqa: BLE001  (whatever it is, readiness will show it)
            _log.warning("the canary of %s failed: %s", model.id, type(error).__name__)

    def _canary_ended(self, model: Model, _: asyncio.Task[None]) -> None:
        self._canaries.pop(model, None)

    async def stop(self) -> None:
        """End the canaries under way."""
        canaries = list(self._canaries.values())
        for task in canaries:
            task.cancel()
        await asyncio.gather(*canaries, return_exceptions=True)
