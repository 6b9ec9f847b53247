"""What each model of the Open Inference Protocol has done since the process started.

Totals, as the statistics extension of the protocol reports them: its readers take two samples and
divide the differences.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app.observability.request_context import RequestContext

# The protocol's names for the stages of a request, which are what it would call them: preparing
# the input, waiting, running the graphs, making the answer.
_STAGES = {
    "queue": "queue",
    "compute_input": "decode",
    "compute_infer": "infer",
    "compute_output": "encode",
}


@dataclass(slots=True)
class _Total:
    count: float = 0
    seconds: float = 0.0

    def add(self, seconds: float, count: float = 1) -> None:
        self.count += count
        self.seconds += seconds

    def described(self) -> dict[str, int]:
        return {"count": round(self.count), "ns": round(self.seconds * 1e9)}


@dataclass(slots=True)
class _Statistics:
    """The totals of one model and version."""

    last_inference_ms: int = 0
    items: int = 0
    success: _Total = field(default_factory=_Total)
    fail: _Total = field(default_factory=_Total)
    stages: dict[str, _Total] = field(
        default_factory=lambda: {name: _Total() for name in _STAGES},
    )
    runs: dict[int, _Total] = field(default_factory=dict)

    def described(self, name: str, version: str) -> dict[str, Any]:
        nothing = {"count": 0, "ns": 0}
        return {
            "name": name,
            "version": version,
            "last_inference": self.last_inference_ms,
            "inference_count": self.items,
            "execution_count": round(sum(run.count for run in self.runs.values())),
            "inference_stats": {
                "success": self.success.described(),
                "fail": self.fail.described(),
                **{stage: total.described() for stage, total in self.stages.items()},
                "cache_hit": nothing,
                "cache_miss": nothing,
            },
            "batch_stats": [
                {
                    "batch_size": size,
                    "compute_input": nothing,
                    "compute_infer": total.described(),
                    "compute_output": nothing,
                }
                for size, total in sorted(self.runs.items())
            ],
        }


class InferenceStatistics:
    """Totals by model of the protocol and version. Used on the event loop alone."""

    def __init__(self) -> None:
        self._of: dict[tuple[str, str], _Statistics] = {}

    def add(self, name: str, version: str, context: RequestContext, *, failed: bool) -> None:
        """Count a request that has ended.

        A run that it shared with others counts by its share of the items.

        Args:
            name: name of the protocol's model, in full.
            version: version of the model.
            context: the request's context, with the times of its stages.
            failed: whether it was answered with an error, or not at all.
        """
        statistics = self._of.setdefault((name, version), _Statistics())
        seconds = time.perf_counter() - context.started
        statistics.last_inference_ms = time.time_ns() // 1_000_000
        if failed:
            statistics.fail.add(seconds)
            return
        statistics.success.add(seconds)
        statistics.items += context.images
        for name_here, stage in _STAGES.items():
            statistics.stages[name_here].add(context.stages[stage] / 1000)
        for size, run_s in context.runs:
            statistics.runs.setdefault(size, _Total()).add(run_s / size, 1 / size)

    def of(self, name: str, version: str, *, called: str | None = None) -> dict[str, Any]:
        """The totals of a model and version, zeros before its first request.

        Args:
            name: name of the protocol's model, in full.
            version: version of the model.
            called: the name that the answer is to have, where the client asked by another.

        Returns:
            The protocol's `$model_stat`, durations in nanoseconds.
        """
        statistics = self._of.get((name, version)) or _Statistics()
        return statistics.described(called or name, version)
