"""What is logged, and that a reader which has stopped holds up nobody."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import time
from contextlib import suppress

from app.observability.logging import BatchingHandler, JsonLines, TextLines


def record(message, **fields):
    made = logging.LogRecord("app", logging.INFO, "", 0, message, (), None)
    made.fields = fields
    return made


def test_a_log_line_is_one_json_object_with_its_fields_flat():
    """Line feeds in a message don't make two."""
    line = JsonLines().format(record("one\ntwo", request_id="r1", ms=1.5))
    assert "\n" not in line
    values = json.loads(line)
    assert (values["message"], values["request_id"], values["ms"]) == ("one\ntwo", "r1", 1.5)
    assert values["time"].endswith("Z")


def test_a_line_for_people_has_the_time_and_what_happened():
    """Of a request what matters first; line feeds in a message don't make two lines."""
    fields = {"method": "POST", "route": "/v1/encode", "status": 200, "ms": 23.456, "images": 2}
    line = TextLines().format(record("request", **fields))
    assert re.fullmatch(r"\d\d:\d\d:\d\d POST /v1/encode 200 23\.5 ms images=2", line)
    line = TextLines().format(record("one\ntwo", models={"tiny": "fp32"}))
    assert re.fullmatch(r'\d\d:\d\d:\d\d one\\ntwo models=\{"tiny":"fp32"\}', line)


def test_lines_are_written_together_and_dropped_beyond_a_bound():
    """A reader that falls behind costs lines, never time, and the log says so."""
    stream = io.StringIO()
    handler = BatchingHandler(stream, max_waiting=3)
    handler._filled.set = lambda: None  # the thread sleeps on
    for i in range(5):
        handler.handle(record(str(i)))
    assert not stream.getvalue()
    handler.drain(5)
    lines = stream.getvalue().splitlines()
    assert [json.loads(line)["message"] for line in lines[:3]] == ["0", "1", "2"]
    assert json.loads(lines[3])["lines"] == 2
    handler.close()


def test_a_closed_stream_stops_nothing():
    """Nobody reads the log any more; serving goes on."""
    stream = io.StringIO()
    handler = BatchingHandler(stream)
    stream.close()
    handler.handle(record("lost"))
    handler.drain(5)
    handler.close()


def test_a_reader_that_stopped_holds_up_nobody():
    """A full pipe blocks the writing thread alone, and draining it ends after its timeout."""
    reader, writer = os.pipe()
    stream = os.fdopen(writer, "w")
    handler = BatchingHandler(stream, max_waiting=100)
    for _ in range(3000):  # 3 MB: more than a pipe and the handler hold
        handler.handle(record("x" * 1000))
        time.sleep(0.0002)
    started = time.monotonic()
    handler.drain(0.2)
    for _ in range(100):
        handler.handle(record("x"))
    assert time.monotonic() - started < 30
    assert len(handler._lines) == 100
    assert handler._dropped
    os.close(reader)  # the blocked write fails, and the thread goes on
    handler.drain(30)
    assert not handler._lines
    handler.close()
    with suppress(BrokenPipeError):
        stream.close()
