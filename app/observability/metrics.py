"""Metrics of the service, as Prometheus reads them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from app.observability.request_context import STAGES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)

# Codes of the last images weigh most: after this many codes, what came before counts half.
_USAGE_HALF_LIFE_CODES = 2**20


class Metrics:
    """Everything the service counts, in a registry of its own.

    Attributes:
        requests: requests answered, by route and status.
        seconds: seconds that requests took, by route.
        stages: seconds that requests spent in each stage: decode, queue, infer, encode.
        batch_items: images or code grids in each run.
        batch_seconds: seconds that each run took.
        rejections: requests refused with 429, 503 or 504, by code.
        client_disconnects: clients that disconnected before their answer.
        reloads: reloads of the models folder, by outcome: `done` or `refused`.
        ready: 1 while `/readyz` answers 200.
        decoded: images decoded, by model and decoder.
        code_usage: how evenly encoding uses each model's codes, by stage.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        PlatformCollector(self.registry)
        ProcessCollector(registry=self.registry)
        own: dict[str, Any] = {"registry": self.registry, "namespace": "tessera"}
        self.requests = Counter("requests", "Requests answered.", ("route", "status"), **own)
        self.seconds = Histogram(
            "request_duration_seconds",
            "From the first byte of a request to its answer.",
            ("route",),
            buckets=_SECONDS,
            **own,
        )
        stages = Histogram(
            "stage_duration_seconds",
            "Seconds of a request in each stage.",
            ("stage",),
            buckets=_SECONDS,
            **own,
        )
        # Looked up once: labels() takes a lock and a dictionary for every observation.
        self.stages = {stage: stages.labels(stage) for stage in STAGES}
        self.batch_items = Histogram(
            "batch_items", "Images or code grids in a run.", buckets=_SIZES, **own
        )
        self.batch_seconds = Histogram(
            "batch_duration_seconds", "Seconds of a run.", buckets=_SECONDS, **own
        )
        self.rejections = Counter("rejections", "Requests refused, by code.", ("code",), **own)
        self.client_disconnects = Counter(
            "departed_clients", "Clients that disconnected before their answer.", **own
        )
        self.reloads = Counter("reloads", "Reloads of the models, by outcome.", ("outcome",), **own)
        for outcome in ("done", "refused"):
            self.reloads.labels(
                outcome
            )  # exported from the start, so that a rate sees the first one
        self.decoded = Counter(
            "decoded_images", "Images decoded, by model and decoder.", ("model", "decoder"), **own
        )
        self.ready = Gauge("ready", "1 while /readyz answers 200.", **own)
        self.code_usage = CodeUsage()
        self.registry.register(self.code_usage)

    def watch(self, name: str, documentation: str, value: Callable[[], float]) -> None:
        """Report a value as it is at each scrape; `value` is called on the event loop."""
        gauge = Gauge(name, documentation, registry=self.registry, namespace="tessera")
        gauge.set_function(value)

    def on_batch(self, items: int, seconds: float) -> None:
        """Count a run."""
        self.batch_items.observe(items)
        self.batch_seconds.observe(seconds)

    def exposition(self) -> bytes:
        """All of it as Prometheus text."""
        return generate_latest(self.registry)


class CodeUsage(Collector):
    """How evenly encoding has used each model's codes lately.

    A perplexity that falls far below its usual value says that the images being encoded are
    unlike those that the model was trained on.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, int | None], NDArray[np.float64]] = {}

    def add(
        self,
        model: str,
        codebook_size: int,
        codes: Sequence[NDArray[Any]],
        stage: int | None = None,
    ) -> None:
        """Count the codes of some images, integers in `[0, codebook_size)`.

        Args:
            model: the id of the model.
            codebook_size: number of codes that there are.
            codes: of each image.
            stage: of the codes, counted from 1; None where the model has but one.
        """
        flat = np.concatenate([grid.reshape(-1) for grid in codes])
        seen = np.bincount(flat, minlength=codebook_size)
        with self._lock:
            counts = self._counts.get((model, stage))
            if counts is None or len(counts) != codebook_size:
                counts = self._counts[model, stage] = np.zeros(codebook_size)
            counts *= 0.5 ** (len(flat) / _USAGE_HALF_LIFE_CODES)
            counts += seen

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The present values, as Prometheus wants them."""
        perplexity = GaugeMetricFamily(
            "tessera_code_perplexity",
            "2 to the entropy of the codes of recently encoded images.",
            labels=("model",),
        )
        used = GaugeMetricFamily(
            "tessera_code_usage_ratio",
            "Share of the codebook that recently encoded images used.",
            labels=("model",),
        )
        with self._lock:
            for (model, stage), counts in self._counts.items():
                labels = {"model": model} | ({} if stage is None else {"stage": str(stage)})
                shares = counts[counts > 0] / counts.sum()
                perplexity.add_sample(
                    perplexity.name, labels, float(2 ** -(shares * np.log2(shares)).sum())
                )
                # A code seen once, that many half-lives ago, is forgotten.
                used.add_sample(used.name, labels, float((counts > 2**-4).mean()))
        return [perplexity, used]
