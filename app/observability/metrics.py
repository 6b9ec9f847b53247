"""Metrics, request ids and logs."""

from __future__ import annotations

import itertools
import logging
import re
import secrets
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
import orjson
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from app.observability.timeout import wait_at_most

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

STAGES = ("decode", "queue", "infer", "encode")

# Lines wait this long for others to be written with.
_LOG_DELAY_S = 0.1

_REQUEST_ID = re.compile(r"[A-Za-z0-9._~:/+=@-]{1,128}")

_ID_PREFIX = secrets.token_hex(10)
_ids = itertools.count()

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)

# Codes of the last images weigh most: after this many codes, what came before counts half.
_USAGE_HALF_LIFE_CODES = 2**20


class Metrics:
    """Everything the service counts, in a registry of its own.

    Attributes:
        requests, seconds: by route, and status.
        stages: seconds by stage of a request: decode, queue, infer, encode.
        batch_items, batch_seconds: of every run.
        rejections: requests refused with 429, 503 or 504, by code.
        departed: clients that left before their answer.
        reloads: of the models folder, by outcome: `done` or `refused`.
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
        self.departed = Counter("departed_clients", "Clients that left before their answer.", **own)
        self.reloads = Counter("reloads", "Reloads of the models, by outcome.", ("outcome",), **own)
        for outcome in ("done", "refused"):
            self.reloads.labels(outcome)  # there from the start, so that a rate sees the first
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
    """How evenly encoding uses each model's codes, of late: a health of the tokenizer.

    A perplexity that falls far below its usual value says that what is being encoded isn't what
    the model was trained on.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, NDArray[np.float64]] = {}

    def add(self, model: str, codebook_size: int, codes: list[NDArray[Any]]) -> None:
        """Count the codes of some images, integers in `[0, codebook_size)`."""
        flat = np.concatenate([grid.reshape(-1) for grid in codes])
        seen = np.bincount(flat, minlength=codebook_size)
        with self._lock:
            counts = self._counts.get(model)
            if counts is None or len(counts) != codebook_size:
                counts = self._counts[model] = np.zeros(codebook_size)
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
            for model, counts in self._counts.items():
                shares = counts[counts > 0] / counts.sum()
                perplexity.add_metric([model], float(2 ** -(shares * np.log2(shares)).sum()))
                # A code seen once, that many half-lives ago, is forgotten.
                used.add_metric([model], float((counts > 2**-4).mean()))
        return [perplexity, used]


def request_id(asked: str | None) -> str:
    """The client's request id, if it is sane, else a new one.

    Args:
        asked: of the header `X-Request-ID`: 1–128 letters, digits and `._~:/+=@-`.
    """
    if asked is not None and _REQUEST_ID.fullmatch(asked):
        return asked
    # Unique, not secret: asking the system for randomness costs a tenth of a small request.
    return f"{_ID_PREFIX}{next(_ids):012x}"


class JsonLines(logging.Formatter):
    """One JSON object a line; what `extra={"fields": …}` holds is laid in flat."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update(getattr(record, "fields", {}))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


class Lines(logging.Handler):
    """Writes to a stream from a thread of its own, a few lines at once.

    A line per request, each with a system call of its own, costs a tenth of a small request; and
    a reader of the log that falls behind would hold up the event loop. Instead lines beyond
    `most` are dropped, and their number said.

    Args:
        stream: text, such as standard error.
        most: lines that may wait.
    """

    def __init__(self, stream: TextIO, most: int = 10_000) -> None:
        super().__init__()
        self._stream = stream
        self._most = most
        self._lines: list[str] = []
        self._dropped = 0
        self._writing = threading.Lock()
        self._filled = threading.Event()
        threading.Thread(target=self._write_on, name="tessera-log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`; called with its lock held."""
        if len(self._lines) >= self._most:
            self._dropped += 1
            return
        self._lines.append(self.format(record))
        if not self._filled.is_set():
            self._filled.set()

    def drain(self, timeout_s: float) -> None:
        """Write what waits, now, unless that takes longer: whoever reads it may have stopped.

        Not `flush`, which `logging` calls with the handler's lock held, for however long it takes.
        """
        wait_at_most(timeout_s, self._write)

    def _write_on(self) -> None:
        while True:
            self._filled.wait()
            self._filled.clear()
            time.sleep(_LOG_DELAY_S)
            self._write()

    def _write(self) -> None:
        with self._writing:
            self.acquire()
            try:
                lines, self._lines = self._lines, []
                dropped, self._dropped = self._dropped, 0
            finally:
                self.release()
            if dropped:
                lines.append(orjson.dumps({"message": "lines dropped", "lines": dropped}).decode())
            if lines:
                try:
                    self._stream.write("\n".join(lines) + "\n")
                    self._stream.flush()
                except (OSError, ValueError):
                    # Nobody reads it any more, or the disk is full; serving goes on.
                    return


def configure_logging(level: str) -> Lines:
    """Send the logs of the whole process to standard error as JSON lines, times in UTC.

    Args:
        level: `debug`, `info`, `warning` or `error`.

    Returns:
        What writes them, to be drained at the end.
    """
    handler = Lines(sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Pillow logs every chunk of every file at debug level.
    logging.getLogger("PIL").setLevel(logging.INFO)
    return handler
