"""Labelled images: plain folders of classes are split by class, always alike."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.data.dataset import DataError
from training.recognition.labelled_images import read_labelled_images, split_by_name


def write(folder, names):
    """Images of one colour each."""
    folder.mkdir(parents=True)
    for index, name in enumerate(names):
        Image.fromarray(np.full((8, 8, 3), index, np.uint8)).save(folder / name)


def test_plain_folders_are_split_by_class(tmp_path):
    """A share of every class is tested on, the rest learnt from, nothing twice and nothing lost."""
    for name in ("cats", "dogs"):
        write(tmp_path / name, [f"{i}.png" for i in range(20)])
    labelled = read_labelled_images(tmp_path, 0.25)
    assert labelled.classes == ("cats", "dogs")
    assert len(labelled.train) + len(labelled.test) == 40
    for label in (0, 1):
        tested = [i for i, c in zip(labelled.test, labelled.test_labels, strict=True) if c == label]
        learnt = [
            i for i, c in zip(labelled.train, labelled.train_labels, strict=True) if c == label
        ]
        assert 1 <= len(tested) <= 10
        assert sorted(int(image[0, 0, 0]) for image in tested + learnt) == list(range(20))


def test_the_split_stays_when_images_are_added():
    """Decided by each name alone, whatever its ending."""
    few = [Path(f"{i}.png") for i in range(30)]
    many = [Path(f"{i}.jpg") for i in range(60)]
    assert split_by_name(many, 0.3)[:30] == split_by_name(few, 0.3)


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_one_image_is_tested_on_and_two_are_not(share):
    """However the names fall: to learn from, to stop by, to test on."""
    for start in range(40):
        tested = split_by_name([Path(f"{start + i}.png") for i in range(3)], share)
        assert sum(tested) == 1


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({"cats": 5}, "two or more classes"),
        ({"cats": 5, "dogs": 2}, "dogs has 2 images, and 3 are the least"),
        ({"train/cats": 5, "train/dogs": 5}, "no folder test/"),
    ],
)
def test_what_cannot_be_split_is_refused(classes, message, tmp_path):
    """One class, a class of too few images, and half of a split."""
    for name, count in classes.items():
        write(tmp_path / name, [f"{i}.png" for i in range(count)])
    with pytest.raises(DataError, match=message):
        read_labelled_images(tmp_path, 0.2)
