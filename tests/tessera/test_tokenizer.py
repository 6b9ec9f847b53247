"""The library: a model in this process, with the client's methods and the service's codes."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tessera
from tessera_client import Client

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tokenizer(recognizing_bundle):
    with tessera.load(recognizing_bundle) as tokenizer:
        yield tokenizer


@pytest.fixture(scope="module")
def lake(photos):
    return photos / "lake.webp"


def _codes(codes):
    return [grid.codes.tolist() for grid in codes]


def test_every_form_of_an_image_gives_the_same_codes(tokenizer, lake):
    """A path, bytes, an array and a PIL image are one picture."""
    with Image.open(lake) as image:
        picture = image.convert("RGB")
    wanted = _codes(tokenizer.encode(lake))
    assert len(wanted) == 1
    for form in (str(lake), lake.read_bytes(), np.asarray(picture), picture):
        assert _codes(tokenizer.encode(form)) == wanted
    assert _codes(tokenizer.encode([lake, np.asarray(picture)])) == wanted * 2


def test_grey_arrays_are_grey_pictures(tokenizer, lake):
    """`[h, w]`, `[h, w, 1]`, `[n, h, w]` and `[n, h, w, 1]` mean three equal channels."""
    with Image.open(lake) as image:
        grey = np.asarray(image.convert("L"))
    wanted = _codes(tokenizer.encode(np.repeat(grey[:, :, None], 3, axis=2)))
    assert _codes(tokenizer.encode(grey)) == wanted
    assert _codes(tokenizer.encode(grey[:, :, None])) == wanted
    assert _codes(tokenizer.encode(np.stack([grey, grey]))) == wanted * 2
    assert _codes(tokenizer.encode(grey[None, :, :, None])) == wanted


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros((8, 8, 3)), "(images * 255).round()"),
        (np.zeros((8, 8, 3), np.int64), "uint8, or uint16 for a model of 16 bits: int64"),
        (np.zeros((2, 3, 20, 20), np.uint8), "this one is [3, 20, 20]"),
        (np.zeros(8, np.uint8), "this one is [8]"),
    ],
)
def test_what_is_no_picture_is_refused_in_a_line(tokenizer, array, says):
    """Nothing is scaled or reordered by guessing."""
    with pytest.raises(TypeError) as refused:
        tokenizer.encode(array)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_codes_are_those_of_the_service(tokenizer, run_app, recognizing_bundle, photos):
    """Over HTTP and in this process: the same codes, pictures, vectors and labels."""
    pictures = sorted(photos.glob("*.webp"))[:4]
    with (
        run_app(models_dir=recognizing_bundle.parent) as served,
        Client(str(served.base_url)) as client,
    ):
        here, there = tokenizer.encode(pictures), client.encode(pictures)
        assert here.to_bytes() == there.to_bytes()
        pairs = zip(tokenizer.decode(here), client.decode(there), strict=True)
        assert all(np.array_equal(one, other) for one, other in pairs)
        assert np.array_equal(tokenizer.embed(here), client.embed(pictures))
        one, other = tokenizer.classify(here)[0], client.classify(pictures)[0]
        assert one.labels == other.labels
        assert tokenizer.reconstruct(pictures)[0].psnr == client.reconstruct(pictures)[0].psnr


def test_threads_and_batches_change_no_code(recognizing_bundle, photos):
    """They are about speed alone."""
    pictures = sorted(photos.glob("*.webp"))
    found = []
    for how in ({"threads": 1}, {"batch_images": 1}, {"batch_pixels": 10**6, "threads": 2}):
        with tessera.load(recognizing_bundle, **how) as tokenizer:
            found.append(_codes(tokenizer.encode(pictures, size=(64, 64))))
    assert found[0] == found[1] == found[2]


def test_a_model_is_found_by_name_and_version(recognizing_bundle, monkeypatch):
    """In a folder that is named, or that the environment names."""
    folder = recognizing_bundle.parent
    with tessera.load("tiny", models_dir=folder) as tokenizer:
        name = tokenizer.facts["name"]
    monkeypatch.setenv("TESSERA_MODELS_DIR", str(folder))
    version = tokenizer_version = None
    with tessera.load() as tokenizer:
        assert tokenizer.facts["name"] == name
        version = tokenizer.facts["version"]
    with tessera.load(f"{name}@{version}") as tokenizer:
        tokenizer_version = tokenizer.facts["version"]
    assert tokenizer_version == version


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("nothing", "there is no model nothing"),
        ("tiny@77", "there is no model tiny@77"),
        ("tests/data", "is not a bundle"),
    ],
)
def test_a_missing_model_is_a_line(model, says, recognizing_bundle):
    """It says what there is instead."""
    with pytest.raises(tessera.ModelUnavailable, match=says) as refused:
        tessera.load(model, models_dir=recognizing_bundle.parent)
    assert "\n" not in str(refused.value)


def test_an_argument_that_cannot_be_used_is_a_line(recognizing_bundle):
    """Named as the caller wrote it."""
    with pytest.raises(ValueError, match=r"^precision='int4': "):
        tessera.load(recognizing_bundle, precision="int4")
    with pytest.raises(tessera.ModelUnavailable, match="TESSERA_DEVICE=cpu"):
        tessera.load(recognizing_bundle, device="cuda")


def test_a_refused_image_says_which(tokenizer, lake):
    """By its index, or in `failed` beside the codes of the others."""
    with pytest.raises(tessera.ServerError) as refused:
        tokenizer.encode([lake, b"no picture"])
    assert refused.value.index == 1
    failed: dict[int, tessera.ServerError] = {}
    assert len(tokenizer.encode([lake, b"no picture"], failed=failed)) == 1
    assert list(failed) == [1]


def test_what_is_left_open_ends(recognizing_bundle):
    """A tokenizer that nobody holds any more ends its threads, without `close`."""
    before = {thread.name for thread in threading.enumerate()}
    tessera.load(recognizing_bundle)
    ending = next((t for t in threading.enumerate() if t.name == "tessera-close"), None)
    if ending is not None:
        ending.join(30)
    after = {t.name for t in threading.enumerate() if t.name.startswith("tessera-run")}
    assert after <= before


def test_a_program_ends_with_a_tokenizer_open(recognizing_bundle, lake):
    """At once and in silence; and torch is nowhere in it."""
    code = (
        "import sys, tessera; tokenizer = tessera.load(sys.argv[1]);"
        "print(len(tokenizer.encode(sys.argv[2])), 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(recognizing_bundle), str(lake)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 False\n", "")
