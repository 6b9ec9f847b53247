"""The generator of synthetic crops."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from training.data.synthetic import KINDS, Synthetic, find_fonts
from training.data.synthetic.__main__ import main
from training.data.synthetic.colours import any_colour


@pytest.fixture(scope="module")
def fonts():
    return find_fonts()


def test_same_numbers_same_crop(fonts):
    """A crop depends on seed, step and index alone, not on what was drawn before it."""
    one, other = Synthetic(3, 48, fonts), Synthetic(3, 48, find_fonts())
    places = [(step, index) for step in range(5) for index in range(8)]
    forwards = [one.crop_of(*place) for place in places]
    backwards = [other.crop_of(*place) for place in reversed(places)]
    for made, again in zip(forwards, reversed(backwards), strict=True):
        np.testing.assert_array_equal(made, again)


@pytest.mark.parametrize("change", [(4, 0, 0), (3, 1, 0), (3, 0, 1)])
def test_each_number_counts(fonts, change):
    """Another seed, another step and another index each give other crops."""
    seed, step, index = change
    crops = [Synthetic(3, 32, fonts).crop_of(2 * i, 2 * i) for i in range(20)]
    others = [Synthetic(seed, 32, fonts).crop_of(2 * i + step, 2 * i + index) for i in range(20)]
    assert not any(np.array_equal(a, b) for a, b in zip(crops, others, strict=True))


def test_no_crop_equals_the_next(fonts):
    """Neighbours in a batch and in time differ."""
    synthetic = Synthetic(0, 32, fonts)
    crops = [synthetic.crop_of(step, index) for step in range(20) for index in range(20)]
    # Pure colours are drawn on purpose, so two flat crops may be alike.
    varied = [crop for crop in crops if np.ptp(crop.reshape(-1, 3), axis=0).any()]
    assert not any(np.array_equal(one, following) for one, following in pairwise(varied))


@pytest.mark.parametrize("crop", [16, 23, 96, 256, 512])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_kind_at_every_size(fonts, kind, crop):
    """Each kind draws uint8 crops of the size asked for, and all but `flat` show something."""
    synthetic = Synthetic(0, crop, fonts)
    shown = 0
    for seed in range(6):
        pixels = synthetic.drawn(kind, np.random.default_rng(seed))
        assert pixels.shape == (crop, crop, 3)
        assert pixels.dtype == np.uint8
        assert pixels.flags.writeable
        shown += bool(np.ptp(pixels.reshape(-1, 3), axis=0).any())
    assert shown == 0 if kind.name == "flat" else shown >= 3


def test_shares_as_documented(fonts):
    """The shares add up to one, the docstring has them, and crops come in them."""
    assert sum(kind.share for kind in KINDS) == pytest.approx(1)
    synthetic = Synthetic(1, 16, fonts)
    count = 4000
    seen = Counter(synthetic.kind_of(i // 50, i % 50).name for i in range(count))
    for kind in KINDS:
        assert f"| {kind.name} | {kind.share:.2f} |" in Synthetic.__doc__
        deviation = (kind.share * (1 - kind.share) / count) ** 0.5
        assert abs(seen[kind.name] / count - kind.share) < 4 * deviation, kind.name


def test_kind_is_that_of_the_crop(fonts):
    """`kind_of` says what `crop_of` draws."""
    synthetic = Synthetic(2, 16, fonts)
    for step in range(60):
        if synthetic.kind_of(step, 0).name == "flat":
            assert np.ptp(synthetic.crop_of(step, 0).reshape(-1, 3), axis=0).tolist() == [0, 0, 0]


def test_colours_fill_the_cube():
    """All eight corners come often, and every eighth of each channel occurs with every other."""
    rng = np.random.default_rng(0)
    colours = np.array([any_colour(rng) for _ in range(20_000)])
    corners = Counter(map(tuple, colours[((colours == 0) | (colours == 255)).all(axis=1)].tolist()))
    assert len(corners) == 8
    assert min(corners.values()) > 200
    assert len({tuple(cell) for cell in (colours // 32).tolist()}) == 512


@pytest.mark.parametrize("crop", [15, 513])
def test_refuses_other_sizes(fonts, crop):
    """A crop that is too small or too large is refused, with the limits."""
    with pytest.raises(ValueError, match="16 to 512"):
        Synthetic(0, crop, fonts)


def test_contact_sheet(tmp_path):
    """The command writes an image file that shows as many crops as asked for."""
    path = tmp_path / "sheet.png"
    assert main(["--out", str(path), "--crop", "32", "--count", "6"]) == 0
    with Image.open(path) as sheet:
        assert sheet.size == (3 * 36 + 4, 2 * (36 + 12) + 4)
        assert len(sheet.getcolors(maxcolors=1 << 20)) > 20


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--crop", "8"], "16 to 512"),
        (["--fonts", "nowhere"], "nowhere is not a folder"),
        (["--out", "no/such/folder/sheet.png"], "sheet.png"),
        (["--out", "sheet.unknown"], "unknown"),
    ],
)
def test_contact_sheet_says_what_is_wrong(tmp_path, capsys, options, words):
    """A wrong option is named in one line on standard error; the command exits with 2."""
    assert main(["--out", str(tmp_path / "sheet.png"), "--count", "2", *options]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("options", [["--count", "0"], ["--seed", "-1"]])
def test_contact_sheet_refuses_numbers(tmp_path, options):
    """A count of nothing and a negative seed are refused."""
    with pytest.raises(SystemExit, match="2"):
        main(["--out", str(tmp_path / "sheet.png"), *options])
