"""What the pages and examples for people tell them to type, typed."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]


def _blocks(page: str, language: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, tiny_bundle):
    """A folder with the repository's tests in it, `tessera` on the PATH, and the tiny model."""
    folder = tmp_path_factory.mktemp("workplace")
    (folder / "tests").symlink_to(ROOT / "tests")
    programs = folder / "bin"
    programs.mkdir()
    (programs / "tessera").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m app "$@"\n')
    (programs / "tessera").chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "TESSERA_MODELS_DIR": str(tiny_bundle.parent),
        "NO_PROXY": "*",
        "no_proxy": "*",
    }
    return folder, environment


def _run(command: list[str], workplace, seconds: float = 100) -> str:
    folder, environment = workplace
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, timeout=seconds, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode("utf-8", "replace")


@pytest.fixture(scope="module")
def service(run_app, recognizing_bundle):
    """The service with the tiny model and recognizers."""
    with run_app(models_dir=recognizing_bundle.parent) as client:
        yield client


@pytest.mark.parametrize(
    ("page", "least"), [("start.md", 5), ("http-api.md", 8), ("tokenize.md", 2)]
)
def test_commands_of_a_page_work_one_after_the_other(page, least, workplace, service):
    """`bash` blocks are typed as they are; `sh` blocks are of installing and are not."""
    blocks = _blocks(page, "bash")
    assert len(blocks) >= least
    address = str(service.base_url).rstrip("/")
    for block in blocks:
        here = block.replace("http://localhost:8000", address)
        for shipped, small in (("photo-f8", "tiny"), ("imagenette-10", "colours")):
            here = here.replace(shipped, small)
        _run(["bash", "-euo", "pipefail", "-c", here], workplace)


def test_the_page_of_stages_works_with_a_model_that_has_them(workplace, run_app, staged_bundle):
    """Its `bash` blocks as they are, and then its Python."""
    folder, environment = workplace
    there = folder, environment | {"TESSERA_MODELS_DIR": str(staged_bundle.parent)}
    with run_app(models_dir=staged_bundle.parent) as client:
        address = str(client.base_url).rstrip("/")
        for block in _blocks("stages.md", "bash"):
            here = block.replace("http://localhost:8000", address)
            _run(["bash", "-euo", "pipefail", "-c", here], there)
    (python,) = _blocks("stages.md", "python")
    assert _run([sys.executable, "-c", python], there) == "2 (2, 32, 43) 1 (32, 43)\n"


@pytest.mark.parametrize(
    ("index", "out", "options", "says"),
    [
        (0, "codes", [], "00000.npy (8, 16, 16) uint16 colosseum.webp"),
        (1, "rows", ["--format", "parquet"], "colosseum.webp (8, 16, 16) uint16"),
        (2, "web", ["--format", "webdataset"], "colosseum torch.Size([16, 16]) torch.uint16"),
    ],
)
def test_the_shards_are_read_as_the_page_says(workplace, index, out, options, says):
    """The Python blocks of tokenize.md, on what its commands before them wrote."""
    folder, _ = workplace
    if not (folder / out).exists():
        source = ["tests/data/photos", out, "--size", "128x128"]
        _run(["tessera", "tokenize", *source, *options], workplace)
    assert says in _run([sys.executable, "-c", _blocks("tokenize.md", "python")[index]], workplace)


def _in_little(code: str) -> str:
    """The same with a small model, few steps, and one precision of what is exported."""
    for full, little in (
        ("photo-f8", "tiny"),
        ('"optimizer.steps": 300', '"optimizer.steps": 8'),
        ("data=[{", 'precisions=["fp32"], data=[{'),
    ):
        code = code.replace(full, little)
    return code


@pytest.mark.timeout(660)  # two models are trained and exported: half a minute on a quiet machine
def test_the_python_of_the_page_works_one_after_the_other(workplace):
    """python.md: a model in one's program, and one that is trained, exported and loaded there."""
    code = "\n".join(_in_little(block) for block in _blocks("python.md", "python"))
    said = _run([sys.executable, "-c", code], workplace, seconds=600)
    assert "<Codes of 1 image, of 256 codes" in said
    assert "'psnr':" in said
    assert "(32, 32, 3)" in said


@pytest.mark.timeout(660)
def test_the_notebook_of_digits_runs(workplace):
    """examples/digits.ipynb holds no outputs, and its cells run one after the other."""
    book = json.loads((ROOT / "examples" / "digits.ipynb").read_text(encoding="utf-8"))
    cells = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells)
    code = "\n".join(_in_little("".join(cell["source"])) for cell in cells)
    folder, environment = workplace
    here = folder / "notebook"
    here.mkdir()
    assert "dB" in _run([sys.executable, "-c", code], (here, environment), seconds=600)


def test_links_of_the_pages_lead_somewhere():
    for page in (ROOT / "docs").glob("*.md"):
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_near_duplicates_are_found(workplace, photos, client):
    """A lightened, recompressed copy is nearer to its picture than any other."""
    folder = workplace[0] / "duplicates"
    shutil.copytree(photos, folder)
    with Image.open(photos / "lake.webp") as image:
        image.convert("RGB").resize((300, 225)).save(folder / "copy.jpg", quality=60)
    example = str(ROOT / "examples" / "near_duplicates.py")
    out = _run(
        [
            sys.executable,
            example,
            "duplicates",
            "--threshold",
            "0.9",
            "--url",
            str(client.base_url),
        ],
        workplace,
    )
    assert "duplicates/copy.jpg  duplicates/lake.webp" in out.splitlines()[0]


def test_the_odd_one_out_is_found(workplace, photos, client):
    """A blank page among photographs comes first."""
    folder = workplace[0] / "mixed"
    shutil.copytree(photos, folder)
    Image.new("RGB", (256, 256), "white").save(folder / "blank.png")
    example = str(ROOT / "examples" / "odd_ones_out.py")
    out = _run([sys.executable, example, "mixed", "--url", str(client.base_url)], workplace)
    assert out.splitlines()[0].endswith("mixed/blank.png")


def test_a_classifier_learns_from_codes(workplace):
    """Two kinds of pictures that differ in texture are told apart."""
    folder = workplace[0] / "kinds"
    random = np.random.default_rng(0)
    for kind, cells in (("coarse", 3), ("fine", 24)):
        (folder / kind).mkdir(parents=True)
        for i in range(20):
            noise = random.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
            image = Image.fromarray(noise).resize((64, 64), Image.Resampling.BICUBIC)
            image.save(folder / kind / f"{i}.png")
    _run(["tessera", "tokenize", "kinds", "kinds-codes", "--size", "64x64"], workplace)
    example = str(ROOT / "examples" / "classify_codes.py")
    out = _run([sys.executable, example, "kinds-codes"], workplace)
    assert float(re.search(r"right: ([\d.]+)%", out)[1]) >= 90


def test_examples_take_the_first_of_several_stages(workplace, run_app, staged_bundle):
    """A mosaic and a classifier's features, by a model of two stages."""
    folder, environment = workplace
    there = folder, environment | {"TESSERA_MODELS_DIR": str(staged_bundle.parent)}
    with run_app(models_dir=staged_bundle.parent) as client:
        example = str(ROOT / "examples" / "mosaic.py")
        photo = "tests/data/photos/lake.webp"
        _run([sys.executable, example, photo, "staged.png", str(client.base_url)], there)
    with Image.open(folder / "staged.png") as sheet:
        assert sheet.size == (3 * 341 + 16, 256)
    _run(["tessera", "tokenize", "tests/data/photos", "staged", "--size", "64x64"], there)
    load = runpy.run_path(str(ROOT / "examples" / "classify_codes.py"))["load"]
    features, _ = load(folder / "staged")
    assert features.shape == (8, 5 * 256)


def test_an_album_of_codes_is_browsed(workplace, client):
    """Stored, shown, and fetched as a browser would."""
    example = [sys.executable, str(ROOT / "examples" / "browse_codes.py")]
    example += ["--url", str(client.base_url)]
    out = _run([*example, "store", "tests/data/photos", "album.tess"], workplace)
    assert "8 pictures" in out
    folder, environment = workplace
    show = subprocess.Popen(
        [*example, "show", "album.tess", "--port", "0"],
        cwd=folder,
        env={**environment, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    stop = threading.Timer(60, show.kill)
    stop.start()
    try:
        address = re.search(r"http://\S+", show.stdout.readline())[0]
        assert httpx.get(address).text.count("<img") == 8
        assert httpx.get(f"{address}0").headers["content-type"] == "image/webp"
    finally:
        stop.cancel()
        show.kill()
        show.wait()
        show.stdout.close()
