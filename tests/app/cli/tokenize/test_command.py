"""Data sets to shards of codes: complete, in order, equal bytes however often it was killed."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from urllib.parse import unquote_to_bytes

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from app.cli import main as cli
from app.codecs.context_coder import decode_grids
from app.runtime.prior import Prior
from bundle import open_bundle

ROOT = Path(__file__).parents[4]


@pytest.fixture
def tokenize(tiny_bundle, monkeypatch, capsys):
    """Runs `tessera tokenize … --json` with the tiny model: arguments → exit code, summary."""
    monkeypatch.setenv("TESSERA_MODELS_DIR", str(tiny_bundle.parent))

    def run(*arguments: object):
        with pytest.raises(SystemExit) as ended:
            cli.main(["tokenize", "--json", *(str(argument) for argument in arguments)])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        summary = json.loads(captured.out) if captured.out else captured.err
        return ended.value.code or 0, summary

    return run


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A folder of 60 pictures of several sizes, in folders of its own, and two broken ones."""
    folder = tmp_path_factory.mktemp("many")
    random = np.random.default_rng(0)
    for i in range(60):
        side = (24, 33, 40)[i % 3]
        coarse = random.integers(0, 256, (4, 5, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((side, 32), Image.Resampling.BICUBIC)
        path = folder / f"{i % 4}" / f"{i:03}.png"
        path.parent.mkdir(exist_ok=True)
        picture.save(path)
    broken = (folder / "1" / "001.png").read_bytes()[:60]
    (folder / "2" / "broken.png").write_bytes(broken)
    (folder / "3" / "text.jpg").write_text("no picture")
    (folder / "notes.txt").write_text("not looked at")
    return folder


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def _images(folder: Path) -> list[dict]:
    return [
        entry
        for shard in sorted(folder.glob("[0-9]*.json"))
        for entry in json.loads(shard.read_bytes())["images"]
    ]


def test_each_image_is_there_once_with_the_codes_of_encode(tokenize, many, tmp_path, tiny_bundle):
    """Names, sizes and codes, in the order of names; what is broken is in the report."""
    out = tmp_path / "out"
    code, summary = tokenize(many, out, "--shard-size", 25)
    assert code == 0
    assert (summary["images"], summary["broken"], summary["shards"]) == (60, 2, 3)
    images = _images(out)
    names = [image["name"] for image in images]
    assert names == sorted(names)
    assert len(set(names)) == 60
    broken = [json.loads(line) for line in (out / "broken.jsonl").read_text().splitlines()]
    assert [(entry["name"], entry["code"]) for entry in broken] == [
        ("2/broken.png", "image_corrupt"),
        ("3/text.jpg", "unsupported_media_type"),
    ]
    # One of them, against the command that encodes single files.
    entry = images[1]
    codes = np.load(out / "00000.npy", mmap_mode="r")
    assert codes.dtype == np.uint16
    length = entry["rows"] * entry["columns"]
    flat = codes[entry["offset"] : entry["offset"] + length]
    with pytest.raises(SystemExit):
        cli.main(["encode", str(many / entry["name"]), "-o", str(tmp_path / "one.npy")])
    assert np.array_equal(flat, np.load(tmp_path / "one.npy").ravel())


def test_codes_of_a_resized_jpeg_are_those_over_http(tokenize, client, tmp_path):
    """One reader for both: a JPEG that is decoded at a half comes out the same."""
    source = tmp_path / "source"
    source.mkdir()
    coarse = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize((320, 240), Image.Resampling.BICUBIC)
    picture.save(source / "a.jpg", quality=90)
    assert tokenize(source, tmp_path / "out", "--size", "96x64")[0] == 0
    answer = client.post(
        "/v1/encode?size=96x64",
        content=(source / "a.jpg").read_bytes(),
        headers={"Accept": "application/x-npy"},
    )
    served = np.load(io.BytesIO(answer.content))
    assert np.array_equal(served[0], np.load(tmp_path / "out" / "00000.npy")[0])


def test_one_size_makes_one_array(tokenize, many, tmp_path):
    """With --size each shard is `[n, rows, columns]`."""
    assert tokenize(many, tmp_path / "out", "--size", "40x24", "--shard-size", 100)[0] == 0
    assert np.load(tmp_path / "out" / "00000.npy").shape == (60, 3, 5)


def test_parquet_holds_what_npy_holds(tokenize, many, tmp_path):
    """Names, sizes, places and codes, row by row; what they are of in each file's metadata."""
    assert tokenize(many, tmp_path / "npy", "--shard-size", 25)[0] == 0
    assert tokenize(many, tmp_path / "out", "--shard-size", 25, "--format", "parquet")[0] == 0
    shard = pq.read_table(tmp_path / "out" / "00001.parquet")
    assert shard.schema.field("codes").type == pa.list_(pa.uint16())
    rows = shard.to_pylist()
    entries = json.loads((tmp_path / "npy" / "00001.json").read_text())
    flat = np.load(tmp_path / "npy" / "00001.npy")
    assert len(rows) == len(entries["images"])
    for row, entry in zip(rows, entries["images"], strict=True):
        codes, offset = row.pop("codes"), entry.pop("offset")
        assert row == entry
        assert codes == flat[offset : offset + len(codes)].tolist()
    job = json.loads(shard.schema.metadata[b"tessera"])
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert job == manifest["job"]
    assert (job["model"], job["precision"], len(job["code_space"])) == ("tiny", "fp32", 64)
    reports = [(tmp_path / out / "broken.jsonl").read_bytes() for out in ("npy", "out")]
    assert reports[0] == reports[1]


def test_parquet_of_broken_images_alone_has_no_rows(tokenize, tmp_path):
    """An empty shard is a file too: its place is taken."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.png").write_bytes(b"no picture")
    assert tokenize(source, tmp_path / "out", "--format", "parquet")[0] == 1
    assert pq.read_table(tmp_path / "out" / "00000.parquet").num_rows == 0


@pytest.mark.parametrize(("form", "last"), [("npy", "json"), ("parquet", "parquet")])
def test_killed_again_and_again_it_ends_with_the_same_bytes(tokenize, many, tmp_path, form, last):
    """SIGKILL in the middle leaves neither a gap nor a duplicate nor a stray file."""
    options = ["--shard-size", "4", "--format", form]
    assert tokenize(many, tmp_path / "whole", *options)[0] == 0
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "app", "tokenize", str(many), str(out), *options]
    kills = 0
    for shards in (2, 7, 12):
        process = subprocess.Popen(command, cwd=ROOT, env=os.environ, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while len(list(out.glob(f"[0-9]*.{last}"))) < shards and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
    assert kills >= 1
    code, summary = tokenize(many, out, *options)
    assert code == 0
    assert summary["images"] == 60
    assert _files(out) == _files(tmp_path / "whole")


def test_a_complete_run_does_nothing_more(tokenize, many, tmp_path):
    """The same command again finds all of it done."""
    tokenize(many, tmp_path / "out")
    before = _files(tmp_path / "out")
    code, summary = tokenize(many, tmp_path / "out")
    assert (code, summary["new_images"], summary["images"]) == (0, 0, 60)
    assert _files(tmp_path / "out") == before


def test_half_written_files_are_cleared_away(tokenize, many, tmp_path):
    """What a kill left under its temporary name doesn't stay."""
    tokenize(many, tmp_path / "out")
    whole = _files(tmp_path / "out")
    (tmp_path / "out" / ".00001.npy.abcdef").write_bytes(b"half")
    tokenize(many, tmp_path / "out")
    assert _files(tmp_path / "out") == whole


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--size", "16x16"], "--size none then, 16x16 now, --fit none then, cover now"),
        (["--shard-size", "7"], "--shard-size 50 then, 7 now"),
        (["--shard-size", "50", "--format", "parquet"], "--format npy then, parquet now"),
    ],
)
def test_it_does_not_go_on_with_another_job(tokenize, many, tmp_path, arguments, says):
    """Codes of other settings would otherwise be mixed in one folder."""
    tokenize(many, tmp_path / "out", "--shard-size", 50)
    code, err = tokenize(many, tmp_path / "out", *arguments)
    assert code == 1
    assert says in err


def test_it_does_not_go_on_with_another_source(tokenize, many, photos, tmp_path):
    """Shards of other images would be replaced; those of the same, moved elsewhere, are not."""
    source = shutil.copytree(many, tmp_path / "source")
    assert tokenize(source, tmp_path / "out")[0] == 0
    code, err = tokenize(photos, tmp_path / "out")
    assert code == 1
    assert f"was begun with another source, {source};" in err
    source.rename(tmp_path / "moved")
    code, summary = tokenize(tmp_path / "moved", tmp_path / "out")
    assert (code, summary["new_images"]) == (0, 0)


def _touch_later(path):
    """Give a file a time of change that it didn't have, however coarse the file system's clock."""
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000_000))


@pytest.mark.parametrize("form", ["npy", "parquet"])
def test_what_has_changed_is_made_anew_and_nothing_else(tokenize, many, tmp_path, form):
    """A file replaced by another of the same size, one added, some taken away: as if from new."""
    source = shutil.copytree(many, tmp_path / "source")
    options = ["--shard-size", "8", "--format", form]
    assert tokenize(source, tmp_path / "out", *options)[0] == 0
    path = source / "1" / "005.png"
    other = path.read_bytes()[:-20] + bytes(20)
    assert len(other) == path.stat().st_size
    path.write_bytes(other)
    _touch_later(path)
    code, summary = tokenize(source, tmp_path / "out", *options)
    assert (code, summary["broken"], summary["new_images"]) == (0, 3, 7)
    assert tokenize(source, tmp_path / "anew", *options)[0] == 0
    assert _files(tmp_path / "out") == _files(tmp_path / "anew")
    shutil.copy(path.with_name("009.png"), source / "3" / "999.png")
    code, summary = tokenize(source, tmp_path / "out", *options)
    assert (code, summary["images"], summary["new_images"]) == (0, 60, 6)
    for path in [*(source / "2").iterdir(), *(source / "3").iterdir()]:
        path.unlink()
    code, summary = tokenize(source, tmp_path / "out", *options)
    assert (code, summary["images"], summary["shards"]) == (0, 29, 4)
    assert tokenize(source, tmp_path / "fresh", *options)[0] == 0
    assert _files(tmp_path / "out") == _files(tmp_path / "fresh")


def test_a_folder_of_an_earlier_version_is_not_gone_on_with(tokenize, many, tmp_path):
    """It noted its source in the job; one line says what to do."""
    assert tokenize(many, tmp_path / "out")[0] == 0
    manifest = tmp_path / "out" / "manifest.json"
    values = json.loads(manifest.read_text())
    values["job"]["source"] = values.pop("source")["fingerprint"]
    manifest.write_text(json.dumps(values))
    code, err = tokenize(many, tmp_path / "out")
    assert code == 1
    assert "by an earlier version of Tessera" in err


def test_it_leaves_other_folders_alone(tokenize, many, tmp_path):
    """A folder that holds something else is refused, untouched."""
    (tmp_path / "thesis.txt").write_text("years of work")
    code, err = tokenize(many, tmp_path)
    assert code == 1
    assert "is not empty" in err
    assert sorted(path.name for path in tmp_path.iterdir() if path.name[0] != ".") == ["thesis.txt"]


def test_webdataset_tars(tokenize, many, tmp_path):
    """Members of tar files are images; what else belongs to a sample is counted."""
    source = tmp_path / "tars"
    source.mkdir()
    files = sorted(many.rglob("*.png"))[:20]
    for shard in range(2):
        with tarfile.open(source / f"train-{shard:04}.tar", "w") as tar:
            for path in files[shard * 10 : shard * 10 + 10]:
                tar.add(path, path.name)
                label = tarfile.TarInfo(path.with_suffix(".cls").name)
                label.size = 1
                tar.addfile(label, io.BytesIO(b"7"))
    code, summary = tokenize(source, tmp_path / "out", "--shard-size", 6)
    assert code == 0
    assert (summary["images"], summary["skipped"]) == (20, {"beside an image": 20})
    assert not (tmp_path / "out" / "skipped.jsonl").exists()
    names = [image["name"] for image in _images(tmp_path / "out")]
    assert names[0] == f"train-0000.tar/{files[0].name}"
    assert names[-1] == f"train-0001.tar/{files[19].name}"
    # The same images have the same codes, wherever they come from.
    tokenize(many, tmp_path / "folder", "--shard-size", 100)
    there = np.load(tmp_path / "folder" / "00000.npy")[: 4 * 3]
    assert np.array_equal(np.load(tmp_path / "out" / "00000.npy")[: 4 * 3], there)


def test_nothing_readable_is_a_failure(tokenize, tmp_path):
    """A folder of broken images alone ends with 1, and a report."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.png").write_bytes(b"no picture")
    code, summary = tokenize(source, tmp_path / "out")
    assert code == 1
    assert summary["broken"] == 1


@pytest.mark.parametrize(
    ("options", "missing", "says"),
    [
        (["--engine", "ray"], "ray", "-m pip install 'ray[client,data]'"),
        (["--format", "parquet"], "pyarrow", "-m pip install pyarrow"),
        (["--engine", "spark"], None, "--engine: must be local or ray"),
        (["--model", "absent"], None, "--model is 'absent', but loaded are: tiny"),
        (["--format", "csv"], None, "--format: must be npy or webdataset or parquet"),
    ],
)
def test_what_is_not_there_is_named(tokenize, many, tmp_path, monkeypatch, options, missing, says):
    """One line says what to install, or what there is."""
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == missing else found(name)
    )
    code, err = tokenize(many, tmp_path / "out", *options)
    assert code == (3 if "--model" in options else 2)
    assert says in err
    assert len(err.splitlines()) == 1


def test_names_that_are_not_utf8_can_be_told_apart_and_had_again(tokenize, many, tmp_path):
    """In both forms: what stands for a name is that name and no other's."""
    source = tmp_path / "source"
    source.mkdir()
    picture = min(many.rglob("*.png")).read_bytes()
    names = [b"bytes:a.png", b"caf\xe8.png", b"caf\xe9.png", "ä.png".encode()]
    for name in names:
        (source / os.fsdecode(name)).write_bytes(picture)
    assert tokenize(source, tmp_path / "npy")[0] == 0
    assert tokenize(source, tmp_path / "rows", "--format", "parquet")[0] == 0
    stored = [image["name"] for image in _images(tmp_path / "npy")]
    assert stored[:3] == ["bytes:bytes%3Aa.png", "bytes:caf%E8.png", "bytes:caf%E9.png"]
    assert stored[3] == "ä.png"
    assert pq.read_table(tmp_path / "rows" / "00000.parquet")["name"].to_pylist() == stored
    plain = [
        unquote_to_bytes(name.removeprefix("bytes:"))
        if name.startswith("bytes:")
        else name.encode()
        for name in stored
    ]
    assert plain == names


def test_codes_by_their_context_are_those_of_encode(tokenize, many, tmp_path, tiny_bundle):
    """Each payload decodes to the codes of the plain shard, and a second run has equal bytes."""
    plain, coded, again = tmp_path / "plain", tmp_path / "coded", tmp_path / "again"
    options = ("--format", "parquet", "--shard-size", 40)
    assert tokenize(many, plain, *options)[0] == 0
    code, summary = tokenize(many, coded, *options, "--coding", "context")
    assert (code, summary["images"], summary["broken"]) == (0, 60, 2)
    assert tokenize(many, again, *options, "--coding", "context")[0] == 0
    bundle = open_bundle(tiny_bundle)
    prior = Prior(bundle, bundle.manifest.prior)
    for path in sorted(coded.glob("*.parquet")):
        assert path.read_bytes() == (again / path.name).read_bytes()
        table, wanted = pq.read_table(path), pq.read_table(plain / path.name)
        job = json.loads(table.schema.metadata[b"tessera"])
        assert (job["coding"], job["prior"]) == ("context", prior.digest)
        rows = table.to_pylist()
        payloads = [(row["payload"][12:], (row["rows"], row["columns"])) for row in rows]
        made = decode_grids(prior, payloads)
        assert [grid[0].ravel().tolist() for grid in made] == wanted["codes"].to_pylist()


def test_a_finished_folder_of_another_coding_is_refused(tokenize, many, tmp_path):
    """Shards of both kinds never mix."""
    assert tokenize(many, tmp_path / "out", "--format", "parquet")[0] == 0
    code, says = tokenize(many, tmp_path / "out", "--format", "parquet", "--coding", "context")
    assert code != 0
    assert "coding" in says


def test_codes_by_their_context_need_parquet(tokenize, many, tmp_path):
    """NumPy's form has no place for bytes of any length."""
    code, says = tokenize(many, tmp_path / "out", "--coding", "context")
    assert (code, "--format parquet" in says) == (2, True)
    assert tokenize(many, tmp_path / "out", "--coding", "magic")[0] == 2
