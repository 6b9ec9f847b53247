"""OpenTelemetry's own SDK receives the spans: in memory, and over HTTP as a collector would."""

from __future__ import annotations

import asyncio
import gzip
import http.server
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import numpy as np
import pytest
import uvicorn
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from app.observability.tracing import Tracing, tracing_from
from app.server.app import create_app
from app.settings import SettingsError, read_settings
from imaging.encode import encode_image

ROOT = Path(__file__).parents[3]
IMAGE = encode_image(np.zeros((16, 24, 3), np.uint8), "image/png")
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CALLER = {"traceparent": f"00-{TRACE}-{PARENT}-01"}


def ask(settings: dict[str, str], tracing: Tracing, *requests: tuple[str, str, dict]) -> None:
    """Serve with this tracing, send the requests, and stop."""
    app = create_app(read_settings(settings), tracing=tracing)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="on"))

    async def serve_and_ask() -> None:
        serving = asyncio.ensure_future(server.serve())
        while not server.started:  # noqa: ASYNC110  (uvicorn tells it no other way)
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            while (await client.get("/readyz")).status_code != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            for method, path, options in requests:
                await client.request(method, path, **options)
        server.should_exit = True
        await serving

    asyncio.run(serve_and_ask())


@pytest.fixture(scope="module")
def spans(tiny_bundle):
    """Of a good request, of one from a caller that is not sampled, and of two refused ones."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    post = {"content": IMAGE, "headers": CALLER | {"content-type": "image/png"}}
    not_sampled = CALLER | {"traceparent": f"00-{TRACE}-{PARENT}-00"}
    ask(
        {"TESSERA_MODELS_DIR": str(tiny_bundle.parent)},
        Tracing(provider),
        ("POST", "/v1/encode", post),
        ("GET", "/v1/models", {"headers": not_sampled}),
        ("POST", "/v1/encode", {"content": b"?", "headers": {"content-type": "image/png"}}),
        ("GET", "/nowhere", {}),
    )
    return exporter.get_finished_spans()


def test_a_request_is_a_span_of_the_callers_trace(spans):
    """W3C context is taken from the caller, and the route named."""
    (span,) = (span for span in spans if span.parent and f"{span.parent.span_id:016x}" == PARENT)
    assert f"{span.context.trace_id:032x}" == TRACE
    assert (span.name, span.kind.name) == ("POST /v1/encode", "SERVER")
    assert span.attributes["http.response.status_code"] == 200
    assert span.attributes["http.route"] == "/v1/encode"
    assert (span.attributes["tessera.images"], span.attributes["tessera.codes"]) == (1, 6)


def test_its_stages_are_spans_in_it_one_after_the_other(spans):
    """Decode, queue, infer, encode: within the request, none before the last one's end."""
    (span,) = (span for span in spans if span.parent and f"{span.parent.span_id:016x}" == PARENT)
    stages = [
        child for child in spans if child.parent and child.parent.span_id == span.context.span_id
    ]
    stages.sort(key=lambda child: child.start_time)
    assert [stage.name for stage in stages] == ["decode", "queue", "infer", "encode"]
    times = [span.start_time, *(t for s in stages for t in (s.start_time, s.end_time))]
    for earlier, later in zip(times, [*times[1:], span.end_time], strict=True):
        assert earlier <= later + 1000  # rounding of floats to nanoseconds
    assert stages[2].end_time > stages[2].start_time


def test_refusals_are_spans_without_stages_of_their_own_trace(spans):
    """A client's fault is no error of the service's."""
    own = [s for s in spans if s.parent is None]
    assert [span.attributes["http.response.status_code"] for span in own] == [415, 404]
    assert [span.name for span in own] == ["POST /v1/encode", "GET"]
    assert all(span.status.status_code is StatusCode.UNSET for span in own)


def test_probes_and_what_the_caller_does_not_sample_leave_nothing(spans):
    """Readiness was asked many times; the caller's decision holds."""
    assert not {"GET /readyz", "GET /v1/models"} & {span.name for span in spans}


class _Collector(http.server.BaseHTTPRequestHandler):
    received: list[bytes]

    def do_POST(self) -> None:
        self.received.append(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_the_environment_alone_sends_them_to_a_collector(tiny_bundle, monkeypatch):
    """OTLP over HTTP, flushed when the service stops; the service's name is OpenTelemetry's."""
    _Collector.received = []
    with http.server.HTTPServer(("127.0.0.1", 0), _Collector) as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        variables = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
            "OTEL_SERVICE_NAME": "tiles",
        }
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        tracing = tracing_from(variables)
        assert tracing is not None
        post = {"content": IMAGE, "headers": CALLER | {"content-type": "image/png"}}
        ask({"TESSERA_MODELS_DIR": str(tiny_bundle.parent)}, tracing, ("POST", "/v1/embed", post))
        collector.shutdown()
    found = ExportTraceServiceRequest()
    for body in _Collector.received:
        found.MergeFromString(gzip.decompress(body))
    (resource, *_) = found.resource_spans
    names = {a.key: a.value.string_value for a in resource.resource.attributes}
    assert names["service.name"] == "tiles"
    spans = [s for r in found.resource_spans for scope in r.scope_spans for s in scope.spans]
    assert {span.name for span in spans} >= {"POST /v1/embed", "decode", "queue", "infer"}
    assert {span.trace_id.hex() for span in spans} == {TRACE}


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_TRACES_EXPORTER": "console", "OTEL_SDK_DISABLED": "true"},
    ],
)
def test_off_unless_asked_for(environment):
    """By OpenTelemetry's own switches."""
    assert tracing_from(environment) is None


def test_an_exporter_that_is_not_there_stops_the_start():
    """In one line, before anything is loaded."""
    with pytest.raises(SettingsError, match="otlp_proto_grpc is not installed"):
        tracing_from({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})


def test_off_costs_nothing():
    """The SDK is not even imported; the API alone comes with FastAPI."""
    code = (
        "import sys; sys.modules['opentelemetry.sdk'] = None\n"
        "from app.server.app import create_app; from app.settings import Settings\n"
        "from app.observability.tracing import tracing_from\n"
        "from app.settings import SettingsError\n"
        "create_app(Settings(), None, tracing_from({}))\n"
        "try: tracing_from({'OTEL_TRACES_EXPORTER': 'otlp'})\n"
        "except SettingsError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "extra `otel`" in done.stdout
