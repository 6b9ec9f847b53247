"""What is counted, and what is logged."""

from __future__ import annotations

import io
import json
import logging

import numpy as np
import pytest

from app.observability.metrics import CodeUsage, JsonLines, Lines, Metrics, request_id


def test_a_sane_request_id_is_kept_and_another_replaced():
    """What could break a log line or a header is not repeated."""
    assert request_id("4bf92f35-77b3:a/b") == "4bf92f35-77b3:a/b"
    for odd in (None, "", "a b", "a\nb", "x" * 129, '"', "é"):
        assert request_id(odd) not in {odd, ""}
    assert request_id(None) != request_id(None)


def values(usage):
    return {family.name: family.samples[0].value for family in usage.collect() if family.samples}


def test_perplexity_is_the_number_of_codes_evenly_used():
    """All of 16 codes alike give 16; a single one gives 1."""
    usage = CodeUsage()
    usage.add("m", 32, [np.arange(16).reshape(4, 4)] * 10)
    assert values(usage)["tessera_code_perplexity"] == pytest.approx(16)
    assert values(usage)["tessera_code_usage_ratio"] == pytest.approx(0.5)
    alone = CodeUsage()
    alone.add("m", 32, [np.zeros((8, 8), np.int64)])
    assert values(alone)["tessera_code_perplexity"] == pytest.approx(1)


def test_old_codes_are_forgotten():
    """What was encoded millions of codes ago says nothing of today's images."""
    usage = CodeUsage()
    usage.add("m", 4, [np.full((8, 8), 3)])
    for _ in range(24):
        usage.add("m", 4, [np.zeros((1024, 1024), np.int64)])
    assert values(usage)["tessera_code_perplexity"] == pytest.approx(1, abs=1e-3)
    assert values(usage)["tessera_code_usage_ratio"] == 0.25


def test_metrics_of_two_services_don_t_meet():
    """Each has a registry of its own."""
    one, two = Metrics(), Metrics()
    one.on_batch(3, 0.1)
    assert b"tessera_batch_items_sum 3.0" in one.exposition()
    assert b"tessera_batch_items_sum 0.0" in two.exposition()


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


def test_lines_are_written_together_and_dropped_beyond_a_bound():
    """A reader that falls behind costs lines, never time, and the log says so."""
    stream = io.StringIO()
    handler = Lines(stream, most=3)
    handler._filled.set = lambda: None  # the thread sleeps on
    for i in range(5):
        handler.handle(record(str(i)))
    assert not stream.getvalue()
    handler.drain(5)
    lines = stream.getvalue().splitlines()
    assert lines[:3] == ["0", "1", "2"]
    assert json.loads(lines[3])["lines"] == 2
    handler.close()


def test_a_closed_stream_stops_nothing():
    """Nobody reads the log any more; serving goes on."""
    stream = io.StringIO()
    handler = Lines(stream)
    stream.close()
    handler.handle(record("lost"))
    handler.drain(5)
    handler.close()
