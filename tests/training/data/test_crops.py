"""Facts about random crops and the batches made of them."""

import shutil

import numpy as np
import pytest
from PIL import Image

from training.data.crops import Crops, random_window
from training.data.dataset import DataError, find_images, read_image


def crops(folder, **changes):
    """Crops with the settings of these tests."""
    settings = {"crop": 32, "flip": True, "seed": 3, "cache_gib": 1.0, **changes}
    return Crops(folder, **settings)


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


def test_processes_make_the_same_batches(photos):
    """In order, whichever process is the first to be ready."""
    made = crops(find_images([photos]))
    batches = list(made.batches(2, 7, 4, workers=2))
    assert len(batches) == 5
    for step, batch in enumerate(batches, 2):
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
    """A file whose header is fine and whose pixels aren't is skipped and named."""
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


def test_small_images_are_left_out(photos, tmp_path):
    """With `enlarge` off no crop comes from them; if all are small, that is refused."""
    Image.new("RGB", (40, 40), (255, 0, 0)).save(tmp_path / "small.png")
    shutil.copy(photos / "lake.webp", tmp_path)
    folder = find_images([tmp_path])
    made = crops(folder, crop=64, enlarge=False)
    assert made.smaller == 1
    assert not any(
        (made.batch(step, 8) == (255, 0, 0)).all(axis=(1, 2, 3)).any() for step in range(9)
    )
    with pytest.raises(DataError, match="no image is as large as a crop of 2000×2000"):
        crops(folder, crop=2000, enlarge=False)


def test_random_windows_fit_in_and_reach_all_edges():
    """Each is of the size asked for, and every place is one."""
    random = np.random.default_rng(0)
    windows = {
        (rows.start, rows.stop, columns.start, columns.stop)
        for rows, columns in (random_window(random, 4, 5, 3, 3) for _ in range(200))
    }
    assert windows == {(t, t + 3, left, left + 3) for t in range(2) for left in range(3)}
