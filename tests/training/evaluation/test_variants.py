"""The ways to read codes back: every decoder with every number of stages."""

import numpy as np
import pytest

from bundle import open_bundle
from training.evaluation.quality import Measures
from training.evaluation.rate_distortion import evaluate
from training.evaluation.variants import variants_of
from training.onnx_export.codec import BundleCodec


@pytest.fixture(scope="module")
def codec(staged_bundle):
    """Two stages of 8 and 4 bits, and a decoder named texture."""
    return BundleCodec(open_bundle(staged_bundle), threads=1)


def test_every_decoder_with_every_number_of_stages(codec):
    """The main decoder with all of them comes first."""
    assert [(v.name, v.decoder, v.stages) for v in variants_of(codec)] == [
        ("tiny-staged", "default", 2),
        ("tiny-staged, 1 stage", "default", 1),
        ("tiny-staged, texture", "texture", 2),
        ("tiny-staged, texture, 1 stage", "texture", 1),
    ]


def test_each_gives_other_pictures_for_the_bytes_of_its_stages(codec, images):
    """12 bits a patch with both stages, 8 with the first alone."""
    image = images[0][:61, :80]  # 8 × 10 patches
    made = [variant.reconstruct(codec, image) for variant in variants_of(codec)]
    assert [size for _, size in made] == [120, 80, 120, 80]
    for index, (picture, _) in enumerate(made):
        assert picture.shape == image.shape
        assert not any(np.array_equal(picture, other) for other, _ in made[:index])


def test_the_usage_is_of_the_first_stage_and_the_histogram_of_all(codec, photos):
    """An entropy coder of fixed shares would need the bits of every stage."""
    measured = evaluate(codec, [photos], baseline_images=0, measures=Measures(), synthetic=False)
    assert measured.bits_per_pixel == pytest.approx(12 / 64, rel=0.02)  # padding
    first = measured.usage.entropy / 64
    assert first < measured.bits_per_pixel_own_histogram < first + 4.1 / 64
