"""`Accept` is read as RFC 9110 says."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.negotiation import choose
from app.errors import NotAcceptable

OFFERS = ("application/json", "application/x-npy", "image/png", "image/webp")


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (None, "application/json"),
        ("", "application/json"),
        ("*/*", "application/json"),
        ("application/x-npy", "application/x-npy"),
        ("APPLICATION/X-NPY; Charset=x", "application/x-npy"),
        ("image/*", "image/png"),
        ("image/*;q=0.9, application/json;q=0.5", "image/png"),
        ("application/json;q=0.5, application/x-npy;q=0.8", "application/x-npy"),
        ("image/avif,image/webp,image/*,*/*;q=0.8", "image/webp"),
        ("image/webp, image/png", "image/webp"),
        ("*/*, application/json;q=0", "application/x-npy"),
        ("image/*, image/png;q=0", "image/webp"),
        ("text/html, */*;q=0.1", "application/json"),
        ("application/json;q=nonsense, image/png", "image/png"),
    ],
)
def test_the_best_match_is_chosen(accept, chosen):
    """Quality first, then exactness, then the client's order, then ours."""
    assert choose(accept, OFFERS) == chosen


@pytest.mark.parametrize(
    "accept", ["text/html", "application/json;q=0", "audio/*", ";;,,", "*/*;q=0"]
)
def test_what_does_not_exist_is_not_acceptable(accept):
    """The refusal names what there is."""
    with pytest.raises(NotAcceptable, match="application/x-npy"):
        choose(accept, OFFERS)


@given(st.text(max_size=200))
def test_any_header_is_answered_or_refused(accept):
    """Nothing a client writes makes it fail otherwise."""
    with contextlib.suppress(NotAcceptable):
        assert choose(accept, OFFERS) in OFFERS
