"""The range coder: what it writes is read back, is as short as it can be, and damage is noticed."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.codecs.range_coder import MAX_TOTAL, RangeDecoder, encode_symbols
from app.errors import MalformedRequest


@st.composite
def messages(draw):
    """Distributions of one to many symbols, rare and certain ones among them, and symbols."""
    message = []
    for _ in range(draw(st.integers(0, 60))):
        frequencies = draw(
            st.lists(st.sampled_from([0, 1, 1, 3, 4096, 65536]), min_size=1, max_size=64)
        )
        if not any(frequencies):
            frequencies[0] = 1
        symbols = [i for i, f in enumerate(frequencies) if f]
        message.append((frequencies, draw(st.sampled_from(symbols))))
    return message


def sums_of(frequencies):
    return [0, *itertools.accumulate(frequencies)]


def intervals_of(message):
    return [(sums_of(f)[s], f[s], sum(f)) for f, s in message]


@given(messages())
def test_round_trip(message):
    """What is encoded is decoded the same, and all bytes are needed."""
    decoder = RangeDecoder(encode_symbols(intervals_of(message)))
    assert decoder.decode(sums_of(f) for f, _ in message) == [s for _, s in message]
    decoder.finish()


@given(messages())
def test_the_length_is_what_the_frequencies_say(message):
    """At most two bytes more than the sum of −log2 of the probabilities."""
    bits = sum(math.log2(sum(f) / f[s]) for f, s in message)
    assert len(encode_symbols(intervals_of(message))) <= bits / 8 + 2


def test_a_carry_runs_through_words_that_are_full():
    """The highest symbols of a total that divides the range make a run of ones, then a carry."""
    message = [([MAX_TOTAL - 2, 1], 1)] * 40 + [([1, 1, MAX_TOTAL - 3], 2)] * 3
    for last in (0, 1):
        sent = [*message, ([1, 1], last)]
        decoder = RangeDecoder(encode_symbols(intervals_of(sent)))
        assert decoder.decode(sums_of(f) for f, _ in sent) == [s for _, s in sent]


def test_what_is_certain_costs_nothing():
    """A thousand symbols that have no alternative take no byte."""
    assert encode_symbols([(0, 7, 7)] * 1000) == b""


def test_bytes_that_are_cut_off_are_noticed():
    """A decoder doesn't go on beyond the end for ever."""
    coded = encode_symbols([(0, 1, 2)] * 400)
    decoder = RangeDecoder(coded[:20])
    with pytest.raises(MalformedRequest):
        decoder.decode([[0, 1, 2]] * 400)


def test_bytes_that_are_left_over_are_noticed():
    """More bytes than the symbols need are no encoder's work."""
    coded = encode_symbols([(0, 1, 2)] * 400)
    decoder = RangeDecoder(coded + bytes(9))
    decoder.decode([[0, 1, 2]] * 400)
    with pytest.raises(MalformedRequest):
        decoder.finish()


def test_a_value_beyond_the_total_is_noticed():
    """The part of the range that no symbol has is never decoded as one."""
    with pytest.raises(MalformedRequest):
        RangeDecoder(b"\xff" * 8).decode([[0, MAX_TOTAL - 1, MAX_TOTAL]])
