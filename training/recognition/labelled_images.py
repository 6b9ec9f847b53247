"""Labelled images from folders: split into `train/` and `test/` already, or split here by class."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from training.data.dataset import DataError, Pixels, find_images, read_image
from training.evaluation.linear_probe import Labelled, read_labelled

# To learn from, to stop by and to test on.
_LEAST_OF_A_CLASS = 3


def is_split(folder: Path) -> bool:
    """Whether a folder has a part `train/` or `test/`, and isn't plain `CLASS/*`."""
    return (folder / "train").is_dir() or (folder / "test").is_dir()


def read_labelled_images(folder: Path, test_share: float) -> Labelled:
    """Reads `train/CLASS/*` and `test/CLASS/*`, or `CLASS/*`, of which a share is for testing.

    Args:
        folder: that holds them.
        test_share: of the images of each class, chosen by their names; not used where the
            folder is split already.

    Raises:
        DataError: fewer than two classes, too few images of one, or an unreadable image.
    """
    if is_split(folder):
        return read_labelled(folder)
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder")
    classes = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(classes) < 2:
        raise DataError(
            f"{folder} needs one folder of images for each of two or more classes, or such folders "
            "in train/ and test/"
        )
    images: dict[bool, list[Pixels]] = {False: [], True: []}
    labels: dict[bool, list[int]] = {False: [], True: []}
    for label, name in enumerate(classes):
        found = find_images([folder / name])
        for broken in found.broken:
            raise DataError(f"{broken.path} can't be read: {broken.reason}")
        if len(found.paths) < _LEAST_OF_A_CLASS:
            raise DataError(
                f"{folder / name} has {len(found.paths)} images, and {_LEAST_OF_A_CLASS} are the "
                "least: to learn from, to stop by and to test on"
            )
        for path, tested in zip(found.paths, split_by_name(found.paths, test_share), strict=True):
            try:
                images[tested].append(read_image(path))
            except OSError as error:
                raise DataError(f"{path} can't be read: {error}") from error
            labels[tested].append(label)
    return Labelled(
        tuple(classes),
        images[False],
        np.array(labels[False], dtype=np.int64),
        images[True],
        np.array(labels[True], dtype=np.int64),
    )


def split_by_name(paths: Sequence[Path], share: float) -> list[bool]:
    """Which images of one class are tested on.

    Decided by a hash of each file's name without its ending, so that adding files moves no other
    and the same photograph in two formats falls on the same side; but one at least is tested on,
    and two at least aren't.
    """
    places = [_place(path) for path in paths]
    tested = [place < share for place in places]
    by_place = sorted(range(len(paths)), key=places.__getitem__)
    if not any(tested):
        tested[by_place[0]] = True
    for index in by_place[::-1][:2]:
        tested[index] = False
    return tested


def _place(path: Path) -> float:
    digest = hashlib.sha256(path.stem.encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
