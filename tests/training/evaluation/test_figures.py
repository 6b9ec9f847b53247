"""Pictures before and after, the crops worth a closer look, and the contact sheet."""

import io

import numpy as np
import pytest
from PIL import Image

from training.evaluation.figures import Pair, contact_sheet, pairs
from training.evaluation.quality import measure


def test_pairs_run_from_the_best_to_the_worst(codec, evaluation, photos):
    """Evenly spread over the PSNR, both ends included: no cherries picked."""
    chosen = pairs(codec, evaluation, [photos], count=3)
    ranked = sorted((r.quality.psnr for r in evaluation.results), reverse=True)
    assert [p.psnr for p in chosen][::2] == [ranked[0], ranked[-1]]
    for pair in chosen:
        assert measure(pair.reconstruction, pair.original).psnr == pytest.approx(pair.psnr)


def test_crops_show_where_the_error_is():
    """The window with the largest sum of squared errors, the same in both pictures."""
    original = np.zeros((200, 300, 3), np.uint8)
    reconstruction = original.copy()
    reconstruction[150:160, 250:260] = 255
    before, after = Pair("a", original, reconstruction, 1.0).crops()
    assert before.shape == after.shape == (84, 112, 3)
    assert before.max() == 0
    assert (after == 255).sum() == 10 * 10 * 3


def test_crops_of_a_picture_smaller_than_a_crop_are_all_of_it():
    """Small pictures are shown whole."""
    pixels = np.zeros((20, 30, 3), np.uint8)
    assert Pair("a", pixels, pixels, 1.0).crops()[0].shape == (20, 30, 3)


def test_a_contact_sheet_is_one_webp_with_a_row_each(codec, evaluation, photos):
    """Four columns of 336×252; rows for as many pictures as are given."""
    chosen = pairs(codec, evaluation, [photos], count=2)
    with Image.open(io.BytesIO(contact_sheet(chosen))) as sheet:
        assert sheet.format == "WEBP"
        assert sheet.width > 4 * 336
        assert 2 * 252 < sheet.height < 3 * 252 + 100
