"""Facts about finding, reading and splitting images."""

import shutil

import numpy as np
import pytest
from PIL import Image

from training.data.dataset import (
    DataError,
    evenly,
    find_images,
    in_validation,
    read_image,
    reduced,
    split,
)


@pytest.fixture
def mixed(photos, tmp_path):
    """A nested folder with photographs, a broken one, and a file that is no image."""
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for index, path in enumerate(sorted(photos.glob("*.webp"))):
        shutil.copy(path, tmp_path / "deep" / ("er" if index % 2 else "") / path.name)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no image")
    (tmp_path / "notes.txt").write_text("not an image")
    return tmp_path


def test_finds_images_at_any_depth(mixed, photos):
    """All readable images are found, broken ones are named, other files skipped."""
    folder = find_images([mixed])
    assert {p.name for p in folder.paths} == {p.name for p in photos.glob("*.webp")}
    assert [b.path.name for b in folder.broken] == ["broken.jpg"]


def test_empty_folder(tmp_path):
    """A folder without a readable image, or no folder at all, is refused."""
    with pytest.raises(DataError, match="no readable image"):
        find_images([tmp_path])
    with pytest.raises(DataError, match="not a folder"):
        find_images([tmp_path / "nothing"])


def test_split_is_stable(photos):
    """Whether an image is held out depends on its stem alone, so adding files moves none."""
    folder = find_images([photos])
    training, validation = split(folder, 0.3)
    assert sorted(training.paths + validation.paths) == sorted(folder.paths)
    assert all(in_validation(p, 0.3) for p in validation.paths)
    path = folder.paths[0]
    assert in_validation(path, 0.5) == in_validation(path.with_suffix(".png"), 0.5)
    shares = [in_validation(path.with_name(f"{i}.png"), 0.3) for i in range(2000)]
    assert abs(np.mean(shares) - 0.3) < 0.05


def test_orientation_and_transparency(tmp_path):
    """EXIF orientation is applied, and what is transparent becomes white."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20), "blue").save(tmp_path / "turned.jpg", exif=exif)
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    folder = find_images([tmp_path])
    assert folder.sizes == ((4, 4), (20, 40))
    assert read_image(tmp_path / "turned.jpg").shape == (40, 20, 3)
    assert (read_image(tmp_path / "clear.png") == 255).all()


def test_large_images_are_reduced_and_small_ones_left():
    """By their short side; the proportions stay."""
    assert reduced(np.zeros((100, 300, 3), np.uint8), 50).shape == (50, 150, 3)
    assert reduced(np.zeros((20, 10, 3), np.uint8), 50).shape == (20, 10, 3)


def test_evenly_chosen_indices_are_spread_and_unique():
    """Never more than there are, always the same, from the first on."""
    assert evenly(10, 4) == [0, 2, 5, 7]
    assert evenly(3, 10) == [0, 1, 2]
    assert evenly(5, 0) == []


def test_few_images_leave_one_held_out(photos, tmp_path):
    """From 8 images on, at least one is held out, the same one whatever the share; of 7 none."""
    for index, path in enumerate(sorted(photos.glob("*.webp"))[:8]):
        shutil.copy(path, tmp_path / f"{index}.webp")
    eight = find_images([tmp_path])
    held = {split(eight, fraction)[1].paths for fraction in (1e-9, 1e-12)}
    assert [len(paths) for paths in held] == [1]
    assert len(split(eight, 1e-9)[0].paths) == 7
    assert split(eight, 0.0)[1].paths == ()
    (tmp_path / "7.webp").unlink()
    assert split(find_images([tmp_path]), 1e-9)[1].paths == ()
