"""Data sets as people have them: Parquet files with a column of images, and object stores."""

from __future__ import annotations

import importlib.util
import io
import json
import tarfile

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def pictures():
    """Ten small pictures as PNG files."""
    random = np.random.default_rng(0)
    made = []
    for _ in range(10):
        file = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (16, 24, 3), dtype=np.uint8)).save(file, "PNG")
        made.append(file.getvalue())
    return made


@pytest.fixture
def folder(pictures, tmp_path):
    """The same as files."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i, picture in enumerate(pictures):
        (folder / f"{i:03}.png").write_bytes(picture)
    return folder


@pytest.fixture
def store(folder):
    """An object store in memory that holds the same, and its address."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    for path in folder.iterdir():
        system.pipe_file(f"/bucket/sub/{path.name}", path.read_bytes())
    yield system
    system.store.clear()


def _codes(folder):
    return np.concatenate([np.load(path) for path in sorted(folder.glob("[0-9]*.npy"))])


def _images(folder):
    return [
        image
        for path in sorted(folder.glob("[0-9]*.json"))
        for image in json.loads(path.read_text())["images"]
    ]


SIZE = ("--size", "24x16", "--shard-size", "4")


@pytest.mark.parametrize("kind", ["bytes", "hugging face"])
def test_rows_of_parquet_files_are_images(tokenize, folder, pictures, tmp_path, kind):
    """In several files and row groups, with columns kept: the codes of the same files."""
    source = tmp_path / "rows"
    source.mkdir()
    for part, rows in enumerate((range(7), range(7, 10))):
        images = [pictures[i] for i in rows]
        if kind == "hugging face":
            images = [{"bytes": pictures[i], "path": f"some/{i}.png"} for i in rows]
        table = pa.table({"image": images, "text": [f"text {i}" for i in rows], "label": rows})
        pq.write_table(table, source / f"{part}.parquet", row_group_size=3)
    summary = tokenize("out", source, *SIZE, "--keep", "text,label")
    assert (summary["images"], summary["broken"], summary["skipped"]) == (10, 0, {})
    tokenize("files", folder, *SIZE)
    assert np.array_equal(_codes(tmp_path / "out"), _codes(tmp_path / "files"))
    images = _images(tmp_path / "out")
    assert images[8]["name"] == ("1.parquet/1/8.png" if kind == "hugging face" else "1.parquet/1")
    assert images[8]["kept"] == {"text": "text 8", "label": "8"}
    assert tokenize("out", source, *SIZE, "--keep", "text,label")["new_images"] == 0


def test_rows_without_an_image_are_broken_and_keep_their_place(tokenize, pictures, tmp_path):
    """Nothing, a path without bytes, bytes that are no image."""
    rows = [
        *({"bytes": pictures[0], "path": None}, None, {"bytes": None, "path": "a.png"}),
        *({"bytes": b"no picture", "path": None}, {"bytes": pictures[1], "path": None}),
    ]
    pq.write_table(pa.table({"image": rows}), tmp_path / "a.parquet")
    summary = tokenize("out", tmp_path / "a.parquet")
    assert (summary["images"], summary["broken"]) == (2, 3)
    lines = (tmp_path / "out" / "broken.jsonl").read_text().splitlines()
    assert ["has no image" in line or "no bytes" in line for line in lines] == [True, True, False]


def test_a_damaged_row_group_loses_its_own_rows_and_no_others(tokenize, pictures, tmp_path):
    """Rows before and behind it are encoded; those in it are broken and keep their place."""
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": pictures}), path, row_group_size=4, compression="none")
    data = path.read_bytes()
    damaged = pq.ParquetFile(path).metadata.row_group(1).column(0)
    at = damaged.dictionary_page_offset or damaged.data_page_offset
    path.write_bytes(data[:at] + b"\xff" * 20 + data[at + 20 :])
    summary = tokenize("out", path)
    assert (summary["images"], summary["broken"]) == (6, 4)
    broken = (tmp_path / "out" / "broken.jsonl").read_text().splitlines()
    assert [json.loads(line)["place"] for line in broken] == [4, 5, 6, 7]
    assert all("the Parquet file is damaged" in line for line in broken)
    assert [image["name"] for image in _images(tmp_path / "out")][-1] == "a.parquet/9"


def test_parquet_that_is_no_source_is_said(tokenize, folder, tmp_path):
    """No column of images, several, or a column that isn't there; a cut file is named."""
    table = pa.table({"a": [b"x"], "b": [b"y"]})
    pq.write_table(table, tmp_path / "a.parquet")
    assert "which column holds images? There are a, b" in tokenize("o1", tmp_path / "a.parquet")
    pq.write_table(pa.table({"image": [b"x"]}), tmp_path / "b.parquet")
    assert "has no column text" in tokenize("o2", tmp_path / "b.parquet", "--keep", "text")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "cut.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-9])
    assert "not one image" in tokenize("o3", tmp_path / "c")
    assert "unreadable" in (tmp_path / "o3" / "skipped.jsonl").read_text()
    pq.write_table(table, folder / "metadata.parquet")
    assert tokenize("o4", folder)["skipped"] == {".parquet": 1}


def test_an_object_store_is_read_as_a_folder_is(tokenize, store, folder, tmp_path):
    """The same images, codes and names; a second run finds them done, a change is found."""
    store.pipe_file("/bucket/sub/notes.txt", b"text")
    store.pipe_file("/bucket/sub/.hidden.png", b"")
    store.pipe_file("/bucket/sub/unknown", (folder / "000.png").read_bytes())
    summary = tokenize("out", "memory://bucket", *SIZE)
    assert (summary["images"], summary["skipped"]) == (11, {".txt": 1, "hidden": 1})
    tokenize("files", folder, *SIZE)
    assert np.array_equal(_codes(tmp_path / "out")[:10], _codes(tmp_path / "files"))
    assert _images(tmp_path / "out")[3]["name"] == "sub/003.png"
    assert tokenize("out", "memory://bucket/", *SIZE)["new_images"] == 0
    store.pipe_file("/bucket/sub/more.png", (folder / "001.png").read_bytes())
    assert tokenize("out", "memory://bucket", *SIZE)["new_images"] == 4


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_tar_and_parquet_files_in_an_object_store(tokenize, store, folder, tmp_path, mode):
    """Read where they are, headers first."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, path.name)
    name = "t.tar.gz" if mode.endswith("gz") else "t.tar"
    store.pipe_file(f"/tars/{name}", file.getvalue())
    tokenize("files", folder, *SIZE)
    assert tokenize("folder", "memory://tars", *SIZE)["images"] == 10
    assert tokenize("one", f"memory://tars/{name}", *SIZE)["images"] == 10
    rows = io.BytesIO()
    pq.write_table(
        pa.table({"image": [path.read_bytes() for path in sorted(folder.iterdir())]}), rows
    )
    store.pipe_file("/rows/a.parquet", rows.getvalue())
    assert tokenize("rows", "memory://rows", *SIZE)["images"] == 10
    for out in ("folder", "one", "rows"):
        assert np.array_equal(_codes(tmp_path / out), _codes(tmp_path / "files"))


def test_a_store_that_fails_ends_the_run_and_not_the_images(tokenize, store, folder, monkeypatch):
    """What could be read a minute later is not called broken for good."""
    reading = type(store).cat_file
    failing = True

    def cat_file(self, path, *arguments, **options):
        if failing and path.endswith("006.png"):
            raise ConnectionError("the network is gone")
        return reading(self, path, *arguments, **options)

    monkeypatch.setattr(type(store), "cat_file", cat_file)
    assert "memory://bucket: the network is gone" in tokenize("out", "memory://bucket", *SIZE)
    failing = False
    summary = tokenize("out", "memory://bucket", *SIZE)
    assert (summary["images"], summary["broken"], summary["new_images"]) == (10, 0, 6)


def test_what_an_address_needs_is_named(tokenize, monkeypatch):
    """A protocol that isn't there, a package that is missing, a folder that is empty."""
    assert "memory://nothing" in tokenize("o1", "memory://nothing")
    assert "nonsense" in tokenize("o2", "nonsense://a/b")
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "fsspec" else found(name)
    )
    assert "-m pip install fsspec" in tokenize("o3", "memory://nothing")
