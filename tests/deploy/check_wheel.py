"""The wheels, built and tried in fresh environments, in a folder that isn't the checkout.

Run by `make wheel-check`; packages come from wherever pip gets them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _environment(folder: Path, *packages: str) -> Path:
    """A fresh environment with these packages; its folder of programs."""
    venv.create(folder, with_pip=True)
    programs = folder / "bin"
    subprocess.run([programs / "python", "-m", "pip", "install", "-q", *packages], check=True)
    return programs


def _run(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command as somebody who knows nothing of the checkout."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TESSERA_", "PYTHON"))
    }
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """The wheels of the service and of the client alone, built from copies of the checkout."""
    folder = tmp_path_factory.mktemp("wheels")
    source = tmp_path_factory.mktemp("source") / "tessera"
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        if not name.startswith("tests/"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    for project in (source, source / "client"):
        command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, project]
        subprocess.run(command, check=True)
    return {path.name.partition("-")[0]: path for path in folder.glob("*.whl")}


@pytest.fixture(scope="module")
def installed(wheels, tmp_path_factory):
    """The service's wheel in an environment of its own, with the extra for CPUs."""
    return _environment(tmp_path_factory.mktemp("cpu"), f"{wheels['tessera']}[cpu]")


def test_it_works_at_once_in_any_folder(installed, tmp_path):
    """A photograph to codes and back, by the model that is in the wheel."""
    photo = tmp_path / "lake.webp"
    shutil.copy(ROOT / "tests/data/photos/lake.webp", photo)
    for command in (
        ("--version",),
        ("models",),
        ("encode", photo, "-o", "lake.tess"),
        ("decode", "lake.tess", "-o", "lake.png"),
        ("tokenize", ".", "codes"),
    ):
        done = _run(installed / "tessera", *command, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, ""), command
    assert (tmp_path / "lake.png").stat().st_size > 10_000


def test_the_client_is_in_it(installed, tmp_path):
    """The command line uses it, and so may others."""
    done = _run(installed / "python", "-c", "import tessera_client", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_missing_runtime_is_a_line(wheels, tmp_path):
    """Without an extra, the message names both and what to type."""
    programs = _environment(tmp_path / "bare", str(wheels["tessera"]))
    done = _run(programs / "tessera", "models", cwd=tmp_path)
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1
    assert "extras cpu and gpu" in done.stderr
    assert f"{programs}/python -m pip install onnxruntime" in done.stderr


def test_the_client_stands_alone(wheels, tmp_path):
    """Its own wheel needs nothing of the service's."""
    programs = _environment(tmp_path / "client", str(wheels["tessera_client"]))
    code = "import tessera_client, sys; sys.exit('app' in sys.modules)"
    done = _run(programs / "python", "-c", code, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
