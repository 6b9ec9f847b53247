"""Classical codecs at a given number of bytes."""

import pytest

from training.data.dataset import read_image
from training.evaluation.baselines import BaselineCodec, baseline_codecs, decode_file, encode_within


@pytest.mark.parametrize("baseline", baseline_codecs(), ids=lambda p: p.name)
def test_bisection_finds_the_largest_file_that_fits(baseline, photos):
    """One quality more would be too long, and the picture can be decoded."""
    image = read_image(photos / "colosseum.webp")[:128, :128]
    limit = 2000
    file = encode_within(baseline, image, limit)
    assert file.fits
    assert len(file.data) <= limit < len(baseline.encode(image, file.quality + 1))
    assert decode_file(file.data).shape == image.shape


def test_a_codec_that_cannot_go_so_low_gives_its_smallest(photos):
    """It isn't left out: the file counts, and that it doesn't fit is said."""
    baseline = baseline_codecs()[0]
    image = read_image(photos / "spices.webp")
    file = encode_within(baseline, image, 100)
    assert not file.fits
    assert file.data == baseline.encode(image, baseline.qualities[0])


def test_peers_are_named_as_people_write_them():
    """JPEG is always there; the names are for tables."""
    names = [baseline.name for baseline in baseline_codecs()]
    assert names[0] == "JPEG"
    assert set(names) <= {"JPEG", "WebP", "AVIF"}
    assert all(isinstance(baseline, BaselineCodec) for baseline in baseline_codecs())
