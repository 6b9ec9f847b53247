"""What is known of one request."""

from __future__ import annotations

from app.observability.request_context import request_id


def test_a_sane_request_id_is_kept_and_another_replaced():
    """What could break a log line or a header is not repeated."""
    assert request_id("4bf92f35-77b3:a/b") == "4bf92f35-77b3:a/b"
    for odd in (None, "", "a b", "a\nb", "x" * 129, '"', "é"):
        assert request_id(odd) not in {odd, ""}
    assert request_id(None) != request_id(None)
