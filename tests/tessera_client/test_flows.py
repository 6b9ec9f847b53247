"""When a request is sent again: the flows, driven by hand."""

from __future__ import annotations

import time
from email.utils import formatdate

import httpx
import pytest

from tessera_client import Unreachable
from tessera_client.flows import Pause, Policy, Send, answered

SEND = Send("GET", "/")
RETRYING = Policy(16, 2**20, 60.0)


def answer(status: int, **headers: str) -> httpx.Response:
    return httpx.Response(
        status, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )


def drive(answers: list[httpx.Response | httpx.TransportError], policy: Policy = RETRYING):
    """Play these answers; return the last one and the pauses between them."""
    flow = answered(SEND, policy)
    pauses = []
    step = next(flow)
    try:
        for one in answers:
            assert step is SEND
            step = flow.send(one)
            assert isinstance(step, Pause)
            pauses.append(step.seconds)
            step = flow.send(None)
    except StopIteration as end:
        return end.value, pauses
    raise AssertionError("it wanted to go on")


def test_retry_after_is_obeyed():
    """In seconds, and as a date; never sooner."""
    date = formatdate(time.time() + 9, usegmt=True)
    good = answer(200)
    last, pauses = drive([answer(429, retry_after="7"), answer(503, retry_after=date), good])
    assert last is good
    assert pauses[0] >= 7
    assert 7.5 < pauses[1] <= 9


def test_pauses_grow_where_the_server_names_none():
    """And are bounded."""
    _, pauses = drive([httpx.ConnectError("gone")] * 8 + [answer(200)])
    assert all(0.05 <= pause <= 5 for pause in pauses)
    assert pauses[-1] > 2.4 > pauses[0]


@pytest.mark.parametrize("status", [200, 400, 401, 404, 409, 413, 422, 500])
def test_other_answers_are_final(status):
    """Asking again would give the same."""
    last, pauses = drive([answer(status)])
    assert (last.status_code, pauses) == (status, [])


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_retrying_ends_with_the_servers_own_answer(status):
    """Rather than waiting longer than was asked for."""
    last, pauses = drive([answer(status, retry_after="61")])
    assert (last.status_code, pauses) == (status, [])


def test_retrying_ends_with_unreachable():
    """Where there is no answer at all."""
    with pytest.raises(Unreachable, match="gone"):
        drive([httpx.ConnectError("gone")], Policy(16, 2**20, 0.0))


@pytest.mark.parametrize("value", ["soon", "-1", ""])
def test_a_retry_after_that_makes_no_sense_is_ignored(value):
    """The pause is our own then."""
    _, pauses = drive([answer(429, retry_after=value), answer(200)])
    assert 0 < pauses[0] <= 0.2
