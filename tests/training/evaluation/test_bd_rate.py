"""The Bjøntegaard delta against published figures, and where there is none."""

import pytest

from training.evaluation.bd_rate import bd_rate, rate_difference

# The example of the package bjontegaard (FAU-LMS, whose PCHIP equals the spreadsheet of the
# common test conditions, JVET-T2010), and the one of Bjøntegaard's own spreadsheet.
_X265 = (
    ((9487.76, 40.037), (4593.60, 38.615), (2486.44, 36.845), (1358.24, 34.851)),
    ((9787.80, 40.121), (4469.00, 38.651), (2451.52, 36.970), (1356.24, 34.987)),
)
_CLASSIC = (
    ((686.76, 40.28), (309.58, 37.18), (157.11, 34.24), (85.95, 31.42)),
    ((893.34, 40.39), (407.8, 37.21), (204.93, 34.17), (112.75, 31.24)),
)


@pytest.mark.parametrize(
    ("curves", "percent"), [(_X265, -4.417485350589), (_CLASSIC, 31.379878202398)]
)
def test_it_is_that_of_the_reference(curves, percent):
    """Equal to bjontegaard 1.3.0 with `pchip`, in whichever order the points are given."""
    assert bd_rate(*curves) == pytest.approx(percent, rel=1e-9)
    assert bd_rate(curves[0][::-1], curves[1][::-1]) == pytest.approx(percent, rel=1e-9)


def test_half_the_bits_are_minus_fifty_percent():
    """Scaled rates give the scale, whatever the curve's form."""
    halved = [(rate / 2, quality) for rate, quality in _X265[0]]
    assert bd_rate(_X265[0], halved) == pytest.approx(-50)


def test_curves_without_a_common_quality_have_none():
    """Where nothing overlaps, and for a single point, there is no number."""
    high = [(rate, quality + 20) for rate, quality in _X265[0]]
    assert bd_rate(_X265[0], high) is None
    assert bd_rate(_X265[0], _X265[1][:1]) is None


def test_a_point_that_costs_more_for_less_is_dropped():
    """Such a point of a codec would make the curve ambiguous."""
    worse = (*_X265[0], (5000.0, 37.0))
    assert bd_rate(worse, _X265[1]) == pytest.approx(bd_rate(*_X265))


def test_a_single_point_is_compared_at_its_own_quality():
    """On a point of the curve with half its bits: −50 %; beyond the curve: none."""
    rate, quality = _X265[0][1]
    assert rate_difference(_X265[0], rate / 2, quality) == pytest.approx(-50)
    assert rate_difference(_X265[0], rate, 50.0) is None
