"""What arrays may be: what is clear is done and said, what is ambiguous is refused in a line."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from imaging.samples import RGB, SampleFormat
from training.data.arrays import images_of
from training.data.dataset import DataError, split

random = np.random.default_rng(0)
COLOURS = random.integers(0, 256, (9, 16, 24, 3), dtype=np.uint8)
GREY = COLOURS[..., 0]


def _read(given, form=RGB, **options):
    said: list[str] = []
    folder = images_of(given, form, tell=said.append, **options)
    return [folder.read(path) for path in folder.paths], said


def test_bytes_are_taken_as_they_are():
    """One array, a list of sizes of their own, PIL images."""
    images, said = _read(COLOURS)
    assert np.array_equal(images, COLOURS)
    assert said == []
    images, said = _read([COLOURS[0], COLOURS[1, :8], Image.fromarray(COLOURS[2])])
    assert [image.shape for image in images] == [(16, 24, 3), (8, 24, 3), (16, 24, 3)]
    assert np.array_equal(images[2], COLOURS[2])
    assert said == []


def test_grey_becomes_three_equal_channels():
    """`[n, h, w]` and `[n, h, w, 1]`, alone or in a list."""
    wanted = np.repeat(GREY[..., None], 3, axis=3)
    for given in (GREY, GREY[..., None], list(GREY), list(GREY[..., None])):
        images, said = _read(given)
        assert np.array_equal(images, wanted)
        assert said == []


def test_channels_that_come_first_are_turned_round_and_told():
    """As torch has them."""
    images, said = _read(torch.from_numpy(COLOURS).permute(0, 3, 1, 2))
    assert np.array_equal(images, COLOURS)
    assert said == ["[9, 3, 16, 24]: taken as [n, c, h, w]"]


@pytest.mark.parametrize(
    ("given", "options", "told"),
    [
        (COLOURS / 255, {}, ["values of 0…1: multiplied by 255"]),
        ((COLOURS / 255).astype(np.float32), {}, ["values of 0…1: multiplied by 255"]),
        (COLOURS.astype(np.float32), {}, ["values of 0…255: taken as they are"]),
        (COLOURS.astype(np.int64), {}, ["values of 0…255: taken as they are"]),
        (COLOURS / 127.5 - 1, {"value_range": (-1, 1)}, []),
        (COLOURS.astype(np.uint16) * 257, {"value_range": (0, 65535)}, []),
    ],
)
def test_clear_numbers_are_scaled_and_told(given, options, told):
    """All come back as the bytes that they were made of."""
    images, said = _read(given, **options)
    assert np.array_equal(images, COLOURS)
    assert said == told


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (COLOURS / 16, "neither 0…1 nor 0…255"),
        (COLOURS / 127.5 - 1, "value_range=(-1, 1)"),
        (COLOURS * np.nan, "NaN"),
        (np.zeros((2, 8, 8)), "neither"),
        (COLOURS[0], "for a single image pass [image]"),
        (np.zeros((2, 8, 8, 5), np.uint8), "1 or 3 channels"),
        (np.zeros((2, 3, 8, 3), np.uint8), "pass a list of [h, w, c]"),
        (np.zeros((2, 2, 8, 8, 3), np.uint8), "not [2, 2, 8, 8, 3]"),
        ([], "no images"),
        ([np.array(["a"])], "not [1, 1]"),
        (np.zeros((2, 0, 8), np.uint8).astype(float), "at least one pixel"),
    ],
)
def test_what_is_ambiguous_is_refused_in_a_line(given, says):
    """The line says what to pass instead."""
    with pytest.raises(DataError) as refused:
        _read(given)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_values_outside_their_range_are_refused():
    """Nothing is clipped."""
    with pytest.raises(DataError, match=r"0…1, but the values are 0…255"):
        _read(COLOURS.astype(float), value_range=(0, 1))


def test_a_share_of_arrays_is_held_out():
    """As of files, always the same ones."""
    training, held_out = split(images_of(COLOURS), 0.2)
    assert len(training.paths) + len(held_out.paths) == 9
    assert held_out.paths
    assert held_out.read(held_out.paths[0]).shape == (16, 24, 3)


def test_a_folder_is_a_folder(photos):
    """By its path, or several."""
    assert len(images_of(str(photos)).paths) == len(images_of([photos]).paths) > 0


def test_a_model_of_16_bits_takes_its_own_samples():
    """One channel, or seven; what has 8 bits has to say so."""
    deep = random.integers(0, 65536, (5, 16, 24)).astype(np.uint16)
    images, said = _read(deep, form=SampleFormat(1, 65535))
    assert np.array_equal(images, deep[..., None])
    assert said == []
    with pytest.raises(DataError, match=r"neither 0…1 nor 0…65535"):
        _read(GREY, form=SampleFormat(1, 65535))
    images, _ = _read(GREY, form=SampleFormat(1, 65535), value_range=(0, 255))
    assert np.array_equal(images, GREY[..., None].astype(np.uint16) * 257)
    seven = random.integers(0, 256, (5, 7, 16, 24), dtype=np.uint8)
    images, said = _read(seven, form=SampleFormat(7, 255))
    assert np.array_equal(images, np.moveaxis(seven, 1, 3))
    assert said == ["[5, 7, 16, 24]: taken as [n, c, h, w]"]
