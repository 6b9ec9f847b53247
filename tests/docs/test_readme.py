"""The README's examples, executed against the running service with the default model."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.settings import Settings

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def settings_table() -> str:
    """The settings as the README shows them."""
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = field.default
        shown = "" if default in (None, ()) else f"`{default}`"
        lines.append(f"| `TESSERA_{name.upper()}` | {shown} | {field.description} |")
    return "\n".join(lines)


def blocks(language: str) -> list[str]:
    """The README's code blocks in a language."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def service(run_app):
    """The service with the default model, as `make serve` starts it."""
    with run_app(models_dir=ROOT / "models") as client:
        yield client


@pytest.fixture
def workplace(tmp_path):
    """A folder that looks like the repository to the examples, and may be written to."""
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    return tmp_path


def execute(command: list[str], folder: Path) -> str:
    """Output of a command that must succeed."""
    environment = {**os.environ, "NO_PROXY": "*", "no_proxy": "*"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def here(text: str, service) -> str:
    """An example with the address of the service under test."""
    return text.replace("http://localhost:8000", str(service.base_url).rstrip("/"))


def test_settings_table():
    """The README's table of settings is the one the code has."""
    shown = README.partition("<!-- settings -->\n")[2].partition("\n<!-- /settings -->")[0]
    assert shown == settings_table()


def test_curl_examples(service, workplace):
    """The curl examples work when pasted: codes, a picture of the right size, a vector, labels."""
    encode, round_trip, embed, classify = blocks("bash")
    answer = json.loads(execute(["bash", "-ec", here(encode, service)], workplace))
    assert answer["model"] == "photo-f8"
    execute(["bash", "-ec", here(round_trip, service)], workplace)
    with Image.open(workplace / "colosseum.png") as picture:
        assert picture.size == (answer["data"][0]["width"], answer["data"][0]["height"])
    vector = json.loads(execute(["bash", "-ec", here(embed, service)], workplace))
    assert len(vector["data"][0]["embedding"]) == vector["dimension"]
    labels = json.loads(execute(["bash", "-ec", here(classify, service)], workplace))
    assert len(labels["data"][0]["labels"]) == 3
    assert np.shape(labels["data"][0]["map"]) == tuple(answer["data"][0]["grid"])


def test_python_example(service, workplace):
    """The Python example runs and prints a similarity matrix with ones on its diagonal."""
    (example,) = blocks("python")
    shown = execute([sys.executable, "-c", here(example, service)], workplace)
    assert shown.count("1.") >= 8


def test_links():
    """Every file that the README links to is there."""
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
