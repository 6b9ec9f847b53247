"""Facts about reading images and making batches."""

import shutil

import numpy as np
import pytest
from PIL import Image

from training.data.crops import Crops
from training.data.dataset import (
    DataError,
    evenly,
    find_images,
    in_validation,
    read_image,
    reduced,
    split,
)


def crops(folder, **changes):
    """Crops with the settings of these tests."""
    settings = {"crop": 32, "flip": True, "seed": 3, "cache_gib": 1.0, **changes}
    return Crops(folder, **settings)


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
    """All readable images are found, broken ones are named, other files passed over."""
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


def test_same_seed_same_batches(photos):
    """A batch depends on seed and step alone, not on what was asked for before."""
    folder = find_images([photos])
    first, second = crops(folder), crops(folder)
    second.batch(0, 4)
    assert np.array_equal(first.batch(5, 8), second.batch(5, 8))
    assert not np.array_equal(first.batch(5, 8), first.batch(6, 8))
    assert not np.array_equal(first.batch(5, 8), crops(folder, seed=4).batch(5, 8))


def test_batches_prefetch_the_same(photos):
    """The prefetching iterator gives what `batch` gives, in order."""
    made = crops(find_images([photos]))
    for step, batch in enumerate(made.batches(2, 6, 4), 2):
        assert np.array_equal(batch, made.batch(step, 4))


def test_parts_make_the_whole(photos):
    """The shares of several processes are together the batch of one."""
    made = crops(find_images([photos]))
    parts = [made.batch(1, 6, part, 2) for part in (0, 1)]
    assert np.array_equal(np.concatenate(parts), made.batch(1, 6))


def test_crops_are_cut_at_native_scale(photos):
    """Every crop stands somewhere in one of the images, as it is or mirrored."""
    folder = find_images([photos])
    images = [read_image(p) for p in folder.paths]
    for crop in crops(folder).batch(0, 4):
        found = False
        for image in images:
            windows = np.lib.stride_tricks.sliding_window_view(image, (32, 32, 3))
            for candidate in (crop, crop[:, ::-1]):
                # Compare one pixel everywhere first, then the few places that match.
                places = (windows[:, :, 0, 0, 0] == candidate[0, 0]).all(axis=2)
                found |= any(np.array_equal(w, candidate) for w in windows[places][:, 0])
        assert found


def test_small_images_are_enlarged(photos):
    """An image smaller than the crop is enlarged instead of refused."""
    folder = find_images([photos])
    assert crops(folder, crop=512).batch(0, 1).shape == (1, 512, 512, 3)


def test_no_cache_changes_nothing(photos):
    """Without room for decoded images the batches are the same."""
    folder = find_images([photos])
    assert np.array_equal(crops(folder, cache_gib=0.0).batch(3, 4), crops(folder).batch(3, 4))


def test_image_broken_behind_its_header(photos, tmp_path):
    """A file whose header is fine and whose pixels aren't is passed over and named."""
    whole = min(photos.glob("*.webp"))
    shutil.copy(whole, tmp_path)
    image = Image.new("RGB", (64, 64), "red")
    image.save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:60])
    folder = find_images([tmp_path])
    made = crops(folder)
    for step in range(8):
        made.batch(step, 4)
    if len(folder.paths) == 2:
        assert [b.path.name for b in made.broken] == ["cut.png"]
    else:
        assert [b.path.name for b in folder.broken] == ["cut.png"]


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
