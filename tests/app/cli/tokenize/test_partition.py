"""A source cut into parts: every image once, in the order of one machine, in little memory."""

from __future__ import annotations

import tarfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.cli.tokenize.partition import contents_of, count_of_part, cut, images_of_part
from app.cli.tokenize.sources import Found, survey


def _contents(place: str, archives: list[str], keep: tuple[str, ...]):
    return [contents_of(place, archive, keep) for archive in archives]


def _cut(source: Path, folder: Path, shard_size: int):
    made = cut(str(source), folder, shard_size, _contents)
    parts = [
        [(image.name, image.read()) for image in images_of_part(folder, index)]
        for index in range(made.parts)
    ]
    assert [count_of_part(folder, index) for index in range(made.parts)] == [*map(len, parts)]
    return made, parts


def _check(source: Path, folder: Path, shard_size: int, names: list[str]) -> None:
    """The parts together are the source, each image once, and each part but the last is full."""
    made, parts = _cut(source, folder, shard_size)
    assert [name for part in parts for name, _ in part] == names
    assert all(len(part) == shard_size for part in parts[:-1])
    assert made.images == len(names)


@pytest.mark.parametrize("shard_size", [1, 4, 7, 100])
def test_of_a_folder(tmp_path, shard_size):
    source = tmp_path / "source"
    for name in ("a.png", "b/c.png", "b-d/e.jpg", "b.png", "b/a/z.webp", "z.gif", "b0.png"):
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    names = ["a.png", "b-d/e.jpg", "b.png", "b/a/z.webp", "b/c.png", "b0.png", "z.gif"]
    _check(source, tmp_path / "parts", shard_size, names)


@pytest.mark.parametrize("shard_size", [1, 4, 7, 100])
def test_of_tar_files(tmp_path, shard_size):
    """Parts go across the ends of tar files, one of which holds no image."""
    source = tmp_path / "source"
    source.mkdir()
    content = tmp_path / "content"
    content.write_text("content")
    for tar, images in (("a.tar", 5), ("b.tar.gz", 0), ("c.tar.gz", 9)):
        with tarfile.open(source / tar, "w:gz" if tar.endswith("gz") else "w") as file:
            for i in range(images):
                file.add(content, f"{i:03}.png")
                file.add(content, f"{i:03}.txt")
    names = [f"a.tar/{i:03}.png" for i in range(5)] + [f"c.tar.gz/{i:03}.png" for i in range(9)]
    _check(source, tmp_path / "parts", shard_size, names)


_names = st.lists(st.text("ab-./0", min_size=1, max_size=8), min_size=1, max_size=12)


@given(_names)
@settings(max_examples=40)
def test_listing_has_the_order_of_whole_names(tmp_path_factory, names):
    """Folder by folder, it comes out as if all names had been sorted together."""
    root = tmp_path_factory.mktemp("names")
    made = set()
    for name in names:
        parts = [part for part in name.split("/") if part.strip(".")]
        path = root.joinpath(*(f"x{part}" for part in parts)).with_name(f"x{name.count('a')}.png")
        if not path.is_relative_to(root) or path.parent == root.parent:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        made.add(path.relative_to(root).as_posix())
    if made:
        assert [one.name for one in survey(str(root))[1] if isinstance(one, Found)] == sorted(made)


def test_names_are_not_held(tmp_path):
    """Ten times the files take no more memory: a driver must list a thousand million."""
    peaks = []
    for folders in (4, 40):
        source = tmp_path / f"{folders}"
        for i in range(folders):
            folder = source / f"{i:03}"
            folder.mkdir(parents=True)
            for j in range(100):
                (folder / f"{'a long name ' * 8}{j}.png").touch()
        tracemalloc.start()
        cut(str(source), tmp_path / f"{folders}.parts", 64, _contents)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]
