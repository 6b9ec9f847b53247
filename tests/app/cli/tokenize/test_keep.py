"""Captions and labels that stay with their images, and shards that WebDataset reads."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

_READER = """
import json, sys, webdataset
from torch.utils.data import DataLoader
samples = webdataset.WebDataset(sys.argv[1:], shardshuffle=False, empty_check=False).decode()
loaded = list(DataLoader(samples, batch_size=None, num_workers=0))
print(json.dumps([{k: v.tolist() if k == "npy" else v for k, v in one.items()} for one in loaded]))
"""


def _samples():
    """Ten pictures, each with a caption, a class and facts; one lacks its caption."""
    random = np.random.default_rng(0)
    for i in range(10):
        file = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (16, 24, 3), dtype=np.uint8)).save(file, "PNG")
        members = {"cls": str(i % 3), "png": file.getvalue(), "json": json.dumps({"i": i})}
        if i != 4:
            members["txt"] = f"caption ä {i}"
        yield (
            f"sub/{i:03}",
            {
                ending: value if isinstance(value, bytes) else value.encode()
                for ending, value in members.items()
            },
        )


@pytest.fixture(params=["folder", "tar"])
def source(request, tmp_path):
    """The samples as files, or as members of a tar file."""
    if request.param == "folder":
        for key, members in _samples():
            for ending, content in members.items():
                path = tmp_path / "source" / f"{key}.{ending}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        return tmp_path / "source"
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        for key, members in _samples():
            for ending, content in members.items():
                info = tarfile.TarInfo(f"{key}.{ending}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return tmp_path / "t.tar"


def test_a_sample_that_comes_twice_keeps_its_own_caption(tokenize, tmp_path):
    """Two tars joined, or one appended to: names repeat, and each picture has what follows it."""
    pictures = [dict(_samples()) for _ in range(2)]
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        for members, caption in zip(pictures, ("first", "second"), strict=True):
            for ending, content in (("png", members["sub/000"]["png"]), ("txt", caption.encode())):
                info = tarfile.TarInfo(f"sub/000.{ending}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    assert tokenize("npy", tmp_path / "t.tar", "--keep", "txt")["images"] == 2
    (shard,) = (tmp_path / "npy").glob("[0-9]*.json")
    kept = [image["kept"]["txt"] for image in json.loads(shard.read_text())["images"]]
    assert kept == ["first", "second"]


def test_captions_and_labels_are_kept_in_every_form(tokenize, source, tmp_path):
    """With the image that they belong to, across the ends of shards."""
    keep = ("--keep", "txt,cls", "--shard-size", "4")
    summary = tokenize("npy", source, *keep)
    assert (summary["images"], summary["skipped"]) == (10, {"beside an image": 10})
    kept = [
        image.get("kept", {})
        for shard in sorted((tmp_path / "npy").glob("[0-9]*.json"))
        for image in json.loads(shard.read_text())["images"]
    ]
    wanted = [{"txt": f"caption ä {i}", "cls": str(i % 3)} for i in range(10)]
    del wanted[4]["txt"]
    assert kept == wanted
    tokenize("rows", source, *keep, "--format", "parquet")
    rows = [
        row
        for shard in sorted((tmp_path / "rows").glob("*.parquet"))
        for row in pq.read_table(shard).to_pylist()
    ]
    assert [row["txt"] for row in rows] == [one.get("txt") for one in wanted]
    assert [row["cls"] for row in rows] == [one["cls"] for one in wanted]


def test_what_was_not_kept_is_refused_to_be_added(tokenize, source):
    """As other settings are: the shards that are there lack it."""
    tokenize("out", source)
    assert "--keep none then, txt now" in tokenize("out", source, "--keep", "txt")
    assert "is a name that the shards use" in tokenize("new", source, "--keep", "codes")


def test_webdataset_reads_the_shards_into_a_pytorch_loader(tokenize, source, tmp_path):
    """Keys, codes, captions, classes and facts, decoded as WebDataset does."""
    options = ("--keep", "txt,cls,json", "--shard-size", "4", "--size", "24x16")
    tokenize("out", source, *options, "--format", "webdataset")
    tokenize("npy", source, *options)
    shards = sorted(str(path) for path in (tmp_path / "out").glob("*.tar"))
    assert len(shards) == 3
    # In a process of its own, since it leaves its last file open.
    done = subprocess.run(
        [sys.executable, "-c", _READER, *shards], capture_output=True, text=True, check=True
    )
    loaded = json.loads(done.stdout)
    assert [one["__key__"] for one in loaded] == [f"sub/{i:03}" for i in range(10)]
    codes = [np.load(path) for path in sorted((tmp_path / "npy").glob("[0-9]*.npy"))]
    assert np.array_equal(np.array([one["npy"] for one in loaded]), np.concatenate(codes))
    assert [one["cls"] for one in loaded] == [i % 3 for i in range(10)]
    assert loaded[3]["txt"] == "caption ä 3"
    assert "txt" not in loaded[4]
    assert loaded[7]["json"] == {"i": 7}


def test_a_caption_that_changed_is_taken_up(tokenize, tmp_path):
    """Its shard is made anew, as if its image had changed, and no other."""
    for key, members in _samples():
        for ending, content in members.items():
            path = tmp_path / "source" / f"{key}.{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    options = ("--keep", "txt", "--shard-size", "4")
    tokenize("out", tmp_path / "source", *options)
    (tmp_path / "source" / "sub" / "005.txt").write_text("another caption")
    assert tokenize("out", tmp_path / "source", *options)["new_images"] == 4
    assert "another caption" in (tmp_path / "out" / "00001.json").read_text()
