"""OpenTelemetry traces: a span for each request, and in it one for each stage.

Off, and the SDK never imported, unless the environment asks by OpenTelemetry's own variables:
`OTEL_TRACES_EXPORTER=otlp` or `OTEL_EXPORTER_OTLP_ENDPOINT=…` switches them on, and all the
others (`OTEL_SERVICE_NAME`, `OTEL_TRACES_SAMPLER`, `OTEL_PROPAGATORS` …) mean what its SDK says.
The packages come with the extra `otel`.

`opentelemetry-instrumentation-asgi` would make the spans of requests too, but it names them and
`http.route` by nothing that knows the route, uses the attribute names of before semantic
conventions 1.23 (`http.status_code`) unless the environment says otherwise, and doesn't mark a
request whose client disconnected as failed.
"""

from __future__ import annotations

import asyncio
import time
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from app.observability.timeout import call_with_timeout
from app.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.observability.request_context import RequestContext

_FLUSH_S = 2.0


class Tracing:
    """Makes the spans of requests and exports them.

    Args:
        provider: an `opentelemetry.sdk.trace.TracerProvider`.
    """

    def __init__(self, provider: Any) -> None:
        from opentelemetry import propagate, trace

        self._extract = propagate.extract
        self._server = trace.SpanKind.SERVER
        self._in_span = trace.set_span_in_context
        self._error = trace.Status(trace.StatusCode.ERROR)
        self._provider = provider
        self._tracer = provider.get_tracer("tessera")

    def record(self, scope: Mapping[str, Any], context: RequestContext) -> None:
        """Make the spans of a request that has just been answered.

        Args:
            scope: the request's ASGI scope; its headers may name the caller's span.
            context: the request's context, with its status and the times of its stages.
        """
        status = context.status
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        route = getattr(scope.get("route"), "path", None)
        attributes: dict[str, Any] = {
            "http.request.method": scope["method"],
            "url.path": scope["path"],
            "tessera.request_id": context.id,
            "tessera.images": context.images,
            "tessera.codes": context.codes,
        }
        if route is not None:
            attributes["http.route"] = route
        if status:
            attributes["http.response.status_code"] = status
        now, clock = time.time_ns(), time.perf_counter()
        span = self._tracer.start_span(
            f"{scope['method']} {route}" if route else scope["method"],
            context=self._extract(headers),
            kind=self._server,
            attributes=attributes,
            start_time=now - int((clock - context.started) * 1e9),
        )
        if span.is_recording():
            if status == 0 or status >= 500:
                span.set_status(self._error)
            within = self._in_span(span)
            for stage, (start, end) in context.spans.items():
                child = self._tracer.start_span(
                    stage, context=within, start_time=now - int((clock - start) * 1e9)
                )
                child.end(now - int((clock - end) * 1e9))
        span.end(now)

    async def close(self) -> None:
        """Send the spans that wait, and give up after two seconds if the collector hangs."""
        await asyncio.to_thread(call_with_timeout, _FLUSH_S, self._provider.shutdown)


def tracing_from(environment: Mapping[str, str]) -> Tracing | None:
    """Return the tracing that OpenTelemetry's variables ask for; None if they ask for none.

    Raises:
        SettingsError: traces are asked for, but the packages or the exporter are not there.
    """
    names = environment.get("OTEL_TRACES_EXPORTER", "")
    if not names and (
        "OTEL_EXPORTER_OTLP_ENDPOINT" in environment
        or "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" in environment
    ):
        names = "otlp"
    if names in {"", "none"} or environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise SettingsError(
            "OTEL_TRACES_EXPORTER: traces need the extra `otel`: pip install '.[otel]' in the "
            "repository"
        ) from error
    # Sampler, limits and resource are read from the environment by the SDK itself.
    named = "OTEL_SERVICE_NAME" in environment or "service.name" in environment.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    )
    provider = TracerProvider(
        resource=Resource.create({} if named else {"service.name": "tessera"})
    )
    for name in names.split(","):
        provider.add_span_processor(BatchSpanProcessor(_exporter(name.strip(), environment)))
    return Tracing(provider)


def _exporter(name: str, environment: Mapping[str, str]) -> Any:
    if name == "otlp":
        protocol = environment.get(
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
            environment.get("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        )
        name = "otlp_proto_grpc" if protocol == "grpc" else "otlp_proto_http"
    found = entry_points(group="opentelemetry_traces_exporter", name=name)
    for one in found:
        return one.load()()
    raise SettingsError(f"OTEL_TRACES_EXPORTER: the exporter {name} is not installed")
