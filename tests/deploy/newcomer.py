"""The ways of a newcomer with pictures of their own, walked and timed: `make newcomer`.

    python tests/deploy/newcomer.py [folder] [notebook] [wheel] [depth]

- folder: small pictures of their own, 32×32, to a model that is served and asked.
- notebook: the lines of examples/digits.ipynb.
- wheel: what is installed, in a fresh environment and another folder: command line and library.
- depth: grey pictures of 16 bits to codes and back to 16 bits, with PSNR.

Each command is what the documents say; one that fails ends the walk with what it said.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import venv
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[2]
_ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("TESSERA_")},
    "PYTHONPATH": str(ROOT),
}
# How often a service that starts is asked.
_ASKED_EVERY_S = 0.2
_LONGEST_START_S = 120


def _run(*command: object, cwd: Path, environment: dict[str, str] = _ENVIRONMENT) -> str:
    began = time.monotonic()
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    shown = " ".join(str(part) for part in command if not isinstance(part, _Code))
    print(f"{time.monotonic() - began:7.1f} s  {shown.replace(sys.executable, 'python')[:110]}")
    if done.returncode:
        raise SystemExit(f"it ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


class _Code(str):
    """Python that is run, and not shown."""

    __slots__ = ()


def _small_pictures(folder: Path) -> Path:
    """120 pictures of 32×32, cut from the photographs of the tests."""
    folder.mkdir()
    random = np.random.default_rng(0)
    photos = [
        Image.open(path).convert("RGB") for path in (ROOT / "tests/data/photos").glob("*.webp")
    ]
    for index in range(120):
        photo = photos[index % len(photos)]
        left, top = (int(random.integers(0, side - 128)) for side in photo.size)
        part = photo.crop((left, top, left + 128, top + 128))
        part.resize((32, 32), Image.Resampling.LANCZOS).save(folder / f"{index:03}.png")
    return folder


@contextmanager
def _served(models: Path):
    """`tessera serve` on a free port, until it is ready; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "app", "serve", "--host", "127.0.0.1", "--port", str(port)]
    began = time.monotonic()
    service = subprocess.Popen(
        [*command, "--models-dir", str(models), "--log-level", "error"],
        cwd=models,
        env=_ENVIRONMENT,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        while True:
            try:
                urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
                    f"{address}/readyz"
                ).close()
                break
            except OSError:
                if service.poll() is not None or time.monotonic() - began > _LONGEST_START_S:
                    raise SystemExit("the service didn't start") from None
                time.sleep(_ASKED_EVERY_S)
        print(f"{time.monotonic() - began:7.1f} s  tessera serve is ready")
        yield address
    finally:
        service.terminate()
        service.wait()


def folder(place: Path) -> None:
    """Own pictures of 32×32, trained, measured, exported, served, asked."""
    pictures = _small_pictures(place / "pictures")
    python = sys.executable
    settings = ["--set", "name=mine", "--set", "optimizer.steps=60", "--set", "optimizer.batch=16"]
    data = ["--data", pictures]
    _run(python, "-m", "training.train", "small-f4", *settings, *data, cwd=place)
    last = "runs/mine/last.pt"
    measure = ["--baselines", "0", "--without", "lpips", "--without", "ssimulacra2"]
    _run(python, "-m", "training.evaluate", last, *data, *measure, "--out", "figures", cwd=place)
    figures = json.loads((place / "figures/metrics.json").read_text())
    _run(python, "-m", "training.export", last, *data, "--out", "models/mine", cwd=place)
    with _served(place / "models") as address:
        asked = ["--url", address]
        codes = ["encode", pictures / "000.png", "-o", "000.tess", *asked]
        _run(python, "-m", "app", *codes, cwd=place)
        _run(python, "-m", "app", "decode", "000.tess", "-o", "000.png", *asked, cwd=place)
    assert Image.open(place / "000.png").size == (32, 32)
    print(f"           {figures['quality']['psnr']:.2f} dB after 60 steps")


def notebook(place: Path) -> None:
    """The cells of examples/digits.ipynb, one after the other."""
    book = json.loads((ROOT / "examples/digits.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(c["source"]) for c in book["cells"] if c["cell_type"] == "code"]
    said = _run(sys.executable, "-c", _Code("\n".join(cells)), cwd=place)
    for line in said.splitlines():
        if "dB" in line or "recognised" in line:
            print(f"           {line}")


def wheel(place: Path) -> None:
    """Built, installed in a fresh environment, and used where there is no checkout."""
    # Of the last commit; building in the checkout would leave folders there.
    source = place / "source"
    _run("git", "clone", "--quiet", f"file://{ROOT}", source, cwd=place)
    _run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", place, source, cwd=place)
    venv.create(place / "fresh", with_pip=True)
    programs = place / "fresh/bin"
    (file,) = place.glob("tessera-*.whl")
    bare = {name: value for name, value in _ENVIRONMENT.items() if name != "PYTHONPATH"}
    install = [programs / "python", "-m", "pip", "install", "-q", f"{file}[cpu]"]
    _run(*install, cwd=place, environment=bare)
    photo = ROOT / "tests/data/photos/lake.webp"
    _run(programs / "tessera", "encode", photo, "-o", "lake.tess", cwd=place, environment=bare)
    _run(programs / "tessera", "decode", "lake.tess", "-o", "lake.png", cwd=place, environment=bare)
    code = (
        "import sys, tessera; tokenizer = tessera.load();"
        "print(f'{tokenizer.reconstruct(sys.argv[1])[0].psnr:.2f} dB, by the library')"
    )
    said = _run(programs / "python", "-c", _Code(code), photo, cwd=place, environment=bare)
    print(f"           {said.strip()}")


def depth(place: Path) -> None:
    """Grey of 16 bits: trained, exported, to codes and back to a PNG of 16 bits."""
    from imaging.encode import encode_image

    pictures = place / "pictures"
    pictures.mkdir()
    y, x = np.mgrid[0:64, 0:64] / 64
    for index in range(48):
        waves = np.sin(3 * x + index) + np.cos(4 * y + 0.3 * index)
        samples = ((waves + 2) / 4 * 65535).round().astype(np.uint16)
        (pictures / f"{index:02}.png").write_bytes(encode_image(samples[..., None], "image/png"))
    settings = ["data.channels=1", "data.sample_maximum=65535", "data.crop=32", "name=deep"]
    sets = [part for one in [*settings, "optimizer.steps=150"] for part in ("--set", one)]
    train = ["-m", "training.train", "tiny", *sets, "--data", pictures]
    _run(sys.executable, *train, cwd=place)
    export = ["runs/deep/last.pt", "--data", pictures, "--out", "models/deep"]
    _run(sys.executable, "-m", "training.export", *export, cwd=place)
    here = ["--models-dir", "models"]
    codes = ["encode", "pictures/00.png", "-o", "00.tess", *here]
    _run(sys.executable, "-m", "app", *codes, cwd=place)
    _run(sys.executable, "-m", "app", "decode", "00.tess", "-o", "00.png", *here, cwd=place)
    with Image.open(place / "00.png") as image, Image.open(pictures / "00.png") as original:
        assert image.mode == "I;16"
        made, wanted = (np.asarray(one).astype(np.float64) for one in (image, original))
    psnr = 10 * np.log10(65535**2 / np.mean(np.square(made - wanted)))
    levels = len(np.unique(made))
    print(f"           {psnr:.2f} dB, {levels} different samples in the decoded picture")
    assert levels > 256


def main() -> None:
    """Walk the ways that are named, or all."""
    ways = {way.__name__: way for way in (folder, notebook, wheel, depth)}
    for name in sys.argv[1:] or ways:
        print(f"{name}: {ways[name].__doc__}")
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="tessera-newcomer-") as place:
            ways[name](Path(place))
        print(f"{time.monotonic() - began:7.1f} s  {name}, together\n")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
