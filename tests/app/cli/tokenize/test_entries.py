"""What becomes of every kind of entry: the table in docs/tokenize.md, each row done."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import re
import shutil
import socket
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from app.cli import main as cli
from app.cli.tokenize import sources, storage
from imaging import heif_picture

ROOT = Path(__file__).parents[4]


def _picture(form: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.effect_noise((24, 16), 60).convert("RGB").save(file, form)
    return file.getvalue()


def _tar(*members: tuple[str, bytes] | tarfile.TarInfo) -> bytes:
    """A tar file of files and of other members, as Python writes it."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            name, content = member
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


def _link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    link = tarfile.TarInfo(name)
    link.type, link.linkname = kind, target
    return link


PNG = _picture()
HEIC = (ROOT / "tests" / "data" / "heic" / "colour.heic").read_bytes()
FIVE = [(f"{i}.png", PNG) for i in range(5)]
BLOCK = 512
# Header and data of one picture in a tar file.
MEMBER = BLOCK + -(-len(PNG) // BLOCK) * BLOCK


def _damaged(data: bytes, member: int) -> bytes:
    """A tar file with the checksum of a member's header overwritten."""
    start = member * MEMBER + 148
    return data[:start] + b"xxxxxxxx" + data[start + 8 :]


def _rows(*images: object) -> bytes:
    """A Parquet file of these rows, each in a row group of its own."""
    file = io.BytesIO()
    pq.write_table(pa.table({"image": list(images)}), file, row_group_size=1, compression="none")
    return file.getvalue()


def _damaged_rows(*images: bytes) -> bytes:
    """The same with the second row group overwritten."""
    data = _rows(*images)
    column = pq.ParquetFile(io.BytesIO(data)).metadata.row_group(1).column(0)
    start = column.dictionary_page_offset or column.data_page_offset
    return data[:start] + b"\xff" * 20 + data[start + 20 :]


def _file(name: str, content: bytes):
    return lambda folder: (folder / name).write_bytes(content)


def _symlink(name: str, target: str):
    return lambda folder: (folder / name).symlink_to(target)


def _folder_link(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "b.png").write_bytes(PNG)
    (folder / "z").symlink_to("sub")


def _hidden_folder(folder: Path) -> None:
    (folder / ".git").mkdir()
    (folder / ".git" / "b.png").write_bytes(PNG)


def _sidecar(folder: Path) -> None:
    (folder / "a.txt").write_text("a caption")


def _socket(folder: Path) -> None:
    here = Path.cwd()
    os.chdir(folder)  # the path of a socket may not be long
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("s")
    finally:
        os.chdir(here)


def _unlistable(folder: Path) -> None:
    (folder / "lost+found").mkdir()


# For each row of the table: how the entry is made beside `a.png` (of tar files beside `good.tar`
# and of Parquet files beside `good.parquet`, each with one image), how many images there are then,
# how many broken, and what is counted.
FILES = {
    "image": (_file("b.png", PNG), 2, 0, {}),
    "image, ending in capitals": (_file("B.PNG", PNG), 2, 0, {}),
    "image of another format than its ending": (_file("b.jpg", PNG), 2, 0, {}),
    "image of unknown ending": (_file("b.jfif", _picture("JPEG")), 2, 0, {}),
    "AVIF": (_file("b.avif", _picture("AVIF")), 2, 0, {}),
    "image without an ending": (_file("b", PNG), 2, 0, {}),
    "link to an image": (_symlink("b.png", "a.png"), 2, 0, {}),
    "image cut short": (_file("b.png", PNG[:90]), 1, 1, {}),
    "text with an image's ending": (_file("b.png", b"no picture"), 1, 1, {}),
    "empty file with an image's ending": (_file("b.png", b""), 1, 1, {}),
    "caption beside an image": (_sidecar, 1, 0, {"beside an image": 1}),
    "text": (_file("notes.txt", b"text"), 1, 0, {".txt": 1}),
    "HEIC, with the extra `heic`": (_file("b.heic", HEIC), 2, 0, {}),
    "HEIC, without it": (_file("b.heic", HEIC), 1, 0, {"HEIC": 1}),
    "JPEG XL": (_file("b.jxl", b"\xff\x0a" + bytes(40)), 1, 0, {"JPEG XL": 1}),
    "PPM": (_file("b.ppm", b"P6 1 1 255 abc"), 1, 0, {".ppm": 1}),
    "file without an ending": (_file("README", b"text"), 1, 0, {"without an ending": 1}),
    "hidden file": (_file(".b.png", PNG), 1, 0, {"hidden": 1}),
    "macOS's ._ file": (_file("._a.png", b"\0\5\x16\7"), 1, 0, {"hidden": 1}),
    "hidden folder": (_hidden_folder, 1, 0, {"hidden": 1}),
    "link to a folder": (_folder_link, 2, 0, {"link to a folder": 1}),
    "dangling link": (_symlink("b.png", "gone.png"), 1, 0, {"dangling link": 1}),
    "link through a file": (_symlink("b.png", "a.png/c.png"), 1, 0, {"dangling link": 1}),
    "link to itself": (_symlink("b.png", "b.png"), 1, 0, {"link to itself": 1}),
    "named pipe or socket": (_socket, 1, 0, {"special file": 1}),
    "folder that can't be listed": (_unlistable, 1, 0, {"unreadable": 1}),
}
TARS = {
    "tar of images": (_file("t.tar", _tar(*FIVE)), 6, 0, {}),
    "tar, ending in capitals": (_file("T.TAR", _tar(*FIVE)), 6, 0, {}),
    "compressed tar": (_file("t.tar.gz", gzip.compress(_tar(*FIVE))), 6, 0, {}),
    "tar compressed otherwise than its ending": (
        _file("t.tar", bz2.compress(_tar(*FIVE))),
        *(6, 0, {}),
    ),
    "hard link in a tar": (
        _file("t.tar", _tar(*FIVE, _link("h.png", "0.png", tarfile.LNKTYPE))),
        *(7, 0, {}),
    ),
    "symbolic link in a tar": (
        _file("t.tar.xz", lzma.compress(_tar(_link("a/s.png", "../0.png"), *FIVE))),
        *(7, 0, {}),
    ),
    "dangling link in a tar": (
        _file("t.tar", _tar(*FIVE, _link("s.png", "gone.png"))),
        *(6, 0, {"dangling link": 1}),
    ),
    "link to itself in a tar": (
        _file("t.tar", _tar(*FIVE, _link("s.png", "s.png"))),
        *(6, 0, {"link to itself": 1}),
    ),
    "captions and labels in a tar": (
        _file("t.tar", _tar(("0.cls", b"7"), *FIVE[:1], ("0.txt", b"a"), ("9.txt", b"b"))),
        *(2, 0, {"beside an image": 2, ".txt": 1}),
    ),
    "macOS's ._ file in a tar": (
        _file("t.tar", _tar(("x/._0.png", b"\0\5\x16\7"), *FIVE)),
        *(6, 0, {"hidden": 1}),
    ),
    "damaged header in a tar": (
        _file("t.tar", _damaged(_tar(*FIVE), 2)),
        *(5, 0, {"damaged tar": 1}),
    ),
    "tar cut between two members": (
        _file("t.tar", _tar(*FIVE)[: 3 * MEMBER]),
        *(4, 0, {"tar without end mark": 1}),
    ),
    "tar cut in a member": (
        _file("t.tar", _tar(*FIVE)[: 3 * MEMBER - BLOCK]),
        *(3, 1, {"cut tar": 1}),
    ),
    "tar cut in a header": (
        _file("t.tar", _tar(*FIVE)[: 3 * MEMBER + 100]),
        *(4, 0, {"cut tar": 1}),
    ),
    "compressed tar cut short": (
        _file("t.tar.gz", gzip.compress(_tar(*FIVE), 0)[: 3 * MEMBER + 100]),
        *(4, 0, {"cut tar": 1}),
    ),
    "two tars joined": (
        _file("t.tar", _tar(*FIVE[:2]) + _tar(*FIVE[2:])),
        *(6, 0, {"data behind an end mark": 1}),
    ),
    "empty tar": (_file("t.tar", b""), 1, 0, {"empty tar": 1}),
    "text with a tar's ending": (_file("t.tar", b"no tar" * 500), 1, 0, {"damaged tar": 1}),
}
PARQUETS = {
    "Parquet file of images": (_file("t.parquet", _rows(PNG, PNG)), 3, 0, {}),
    "Parquet file, ending in capitals": (_file("T.PARQUET", _rows(PNG, PNG)), 3, 0, {}),
    "row of bytes with a path": (_file("t.parquet", _rows({"bytes": PNG, "path": "p"})), 2, 0, {}),
    "row without an image": (_file("t.parquet", _rows(PNG, None)), 2, 1, {}),
    "row with a path and no bytes": (
        _file("t.parquet", _rows({"bytes": PNG, "path": "p"}, {"bytes": None, "path": "q"})),
        *(2, 1, {}),
    ),
    "row of other bytes": (_file("t.parquet", _rows(PNG, b"no picture")), 2, 1, {}),
    "damaged row group": (_file("t.parquet", _damaged_rows(PNG, PNG, PNG)), 3, 1, {}),
    "Parquet file cut short": (
        _file("t.parquet", _rows(PNG, PNG)[:-9]),
        *(1, 0, {"unreadable": 1}),
    ),
    "empty Parquet file": (_file("t.parquet", b""), 1, 0, {"unreadable": 1}),
}
DAMAGE = {
    *("dangling link", "link to itself", "unreadable", "damaged tar", "tar without end mark"),
    *("cut tar", "data behind an end mark", "empty tar"),
}


@pytest.fixture
def tokenize(tiny_bundle, tmp_path, monkeypatch, capsys):
    """Tokenizes a folder: its path and options → exit code, summary or message, report."""
    monkeypatch.setenv("TESSERA_MODELS_DIR", str(tiny_bundle.parent))
    scandir = os.scandir

    def refusing(path):
        # Root, which tests may be, is refused nothing.
        if str(path).endswith(("lost+found", "lost+found/")):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(storage.os, "scandir", refusing)

    def run(source: Path, *options: str):
        with pytest.raises(SystemExit) as ended:
            cli.main(["tokenize", "--json", str(source), str(tmp_path / "out"), *options])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        report = tmp_path / "out" / "skipped.jsonl"
        lines = report.read_text().splitlines() if report.exists() else []
        summary = json.loads(captured.out) if captured.out else captured.err
        return ended.value.code or 0, summary, [json.loads(line) for line in lines]

    return run


@pytest.mark.parametrize("row", [*FILES, *TARS, *PARQUETS])
def test_each_row_of_the_table(tokenize, tmp_path, monkeypatch, row):
    """What becomes of an entry, what it is counted as, and what `--strict` makes of it."""
    if row == "HEIC, without it":
        monkeypatch.setattr(heif_picture, "HEIC_IS_READ", False)
        endings = tuple(e for e in sources.IMAGE_ENDINGS if not e.startswith(".hei"))
        monkeypatch.setattr(sources, "IMAGE_ENDINGS", endings)
    source = tmp_path / "source"
    source.mkdir()
    if row in FILES:
        (source / "a.png").write_bytes(PNG)
        make, images, broken, skipped = FILES[row]
    elif row in TARS:
        (source / "good.tar").write_bytes(_tar(FIVE[0]))
        make, images, broken, skipped = TARS[row]
    else:
        (source / "good.parquet").write_bytes(_rows(PNG))
        make, images, broken, skipped = PARQUETS[row]
    make(source)
    code, summary, report = tokenize(source)
    assert code == 0
    assert (summary["images"], summary["broken"], summary["skipped"]) == (images, broken, skipped)
    named = {kind: number for kind, number in skipped.items() if kind != "beside an image"}
    assert {entry["kind"] for entry in report} == named.keys()
    assert all(entry["name"] for entry in report)
    again, summary, _ = tokenize(source)
    assert (again, summary["new_images"]) == (0, 0)
    shutil.rmtree(tmp_path / "out")
    code, said, report = tokenize(source, "--strict")
    assert code == int(bool(broken or DAMAGE & skipped.keys()))
    if DAMAGE & skipped.keys():
        assert said.startswith("tessera: --strict: the source is damaged: ")
        assert report


def test_the_table_in_the_documentation_is_this_one():
    """The same rows, with what each is counted as."""
    text = (ROOT / "docs" / "tokenize.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|([^|]*)\|$", text, re.MULTILINE)
    told = {entry: counted for entry, _, counted in rows}
    for row, (_, _, broken, skipped) in {**FILES, **TARS, **PARQUETS}.items():
        kinds = {kind.strip(" `") for kind in told[row].split(",") if kind.strip()}
        assert kinds == {*skipped, *(["broken.jsonl"] if broken else [])}, row
    assert len({**FILES, **TARS, **PARQUETS}) >= 50


def test_members_behind_a_damaged_header_are_those_of_an_undamaged_one(tokenize, tmp_path):
    """Five of the ten images were lost without a word; now one is, with its name's place."""
    path = tmp_path / "t.tar"
    path.write_bytes(_damaged(_tar(*((f"{i}.png", PNG) for i in range(10))), 5))
    code, summary, report = tokenize(path)
    assert (code, summary["images"]) == (0, 9)
    assert report == [
        {
            "name": "t.tar",
            "kind": "damaged tar",
            "detail": f"the header at byte {5 * MEMBER:,} is damaged, and its member lost",
        }
    ]
    names = json.loads((tmp_path / "out" / "00000.json").read_text())["images"]
    assert [image["name"] for image in names] == [f"t.tar/{i}.png" for i in range(10) if i != 5]


def test_a_folder_and_its_tar_have_the_same_images(tokenize, tmp_path):
    """With links and all: what the folder has untarred, the tar has too."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.png").write_bytes(PNG)
    (source / "b.png").hardlink_to(source / "a.png")
    (source / "c.png").symlink_to("a.png")
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        tar.add(source, ".")
    assert tokenize(source)[1]["images"] == 3
    shutil.rmtree(tmp_path / "out")
    assert tokenize(tmp_path / "t.tar")[1]["images"] == 3
