"""The recognizer: what it learns, what is written, and what is refused."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from bundle import open_bundle
from training.recognize import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes that a glance tells apart, bright stripes and dark noise, of two sizes."""
    root = tmp_path_factory.mktemp("labelled")
    random = np.random.default_rng(0)
    for part, count in (("train", 8), ("test", 4)):
        for name in ("noise", "stripes"):
            (root / part / name).mkdir(parents=True)
            for index in range(count):
                height = 40 if index % 2 else 48
                pixels = random.integers(0, 90, (height, 48, 3))
                if name == "stripes":
                    pixels[:, ::2] += 150
                Image.fromarray(pixels.astype(np.uint8)).save(root / part / name / f"{index}.png")
    return root


def command(bundle, folder, tmp_path, *more):
    options = ["--epochs", "2", "--views", "3", "--no-bf16", "--cache", str(tmp_path / "cache")]
    report = ["--report", str(tmp_path / "report")]
    return main([str(bundle), "--data", str(folder), *options, *report, *more])


def test_the_command_writes_a_recognizer_and_nothing_else(tiny_bundle, folder, tmp_path):
    """Two new things: the graph and its entry. The code space and all other files stay."""
    out = tmp_path / "out"
    assert command(tiny_bundle, folder, tmp_path, "--out", str(out), "--name", "kinds",
                   "--licence", "CC0-1.0") == 0  # fmt: skip
    before, after = open_bundle(tiny_bundle), open_bundle(out)
    entry = after.manifest.recognizers["kinds"]
    assert entry.classes == ("noise", "stripes")
    assert entry.licence == "CC0-1.0"
    assert entry.metrics["n_test"] == 8
    assert after.manifest.code_space == before.manifest.code_space
    assert set(after.manifest.files) - set(before.manifest.files) == {"recognizer-kinds.onnx"}
    for name in set(before.manifest.files) - {"MODEL_CARD.md"}:
        assert after.read(name) == before.read(name)
    assert "**kinds**" in (out / "MODEL_CARD.md").read_text()
    assert after.manifest.parity["recognizer-kinds"]["fp32"]["score_error"] <= 1e-4


def test_the_report_tells_what_the_manifest_tells(tiny_bundle, folder, tmp_path):
    """JSON, Markdown and a page that loads nothing, with a picture for each answer shown."""
    out = tmp_path / "out"
    assert command(tiny_bundle, folder, tmp_path, "--out", str(out), "--name", "kinds") == 0
    metrics = json.loads((tmp_path / "report" / "metrics.json").read_text())
    entry = open_bundle(out).manifest.recognizers["kinds"]
    assert metrics["metrics"] == entry.metrics
    assert np.array(metrics["figures"]["confusion"]).sum() == 8
    page = (tmp_path / "report" / "report.html").read_text()
    assert page.count("with its map") == 8
    assert "http" not in page
    assert "| stripes | 4 |" in (tmp_path / "report" / "metrics.md").read_text()


def test_a_name_that_exists_is_refused_unless_replaced(tiny_bundle, folder, tmp_path, capsys):
    """A second one of the name changes nothing; another name, or --replace, is written."""
    out = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    assert command(out, folder, tmp_path, "--name", "kinds") == 0
    before = (out / "manifest.json").read_bytes()
    assert command(out, folder, tmp_path, "--name", "kinds") == 2
    assert "--replace" in capsys.readouterr().err
    assert (out / "manifest.json").read_bytes() == before
    assert command(out, folder, tmp_path, "--name", "others") == 0
    assert command(out, folder, tmp_path, "--name", "kinds", "--replace", "--seed", "1") == 0
    assert set(open_bundle(out).manifest.recognizers) == {"kinds", "others"}


def test_pixels_and_reconstructions_are_compared(tiny_bundle, folder, tmp_path):
    """With --compare each of them, the features, and files of several sizes are in the table."""
    out = tmp_path / "out"
    assert command(tiny_bundle, folder, tmp_path, "--out", str(out), "--name", "k", "--compare",
                   "--epochs", "1") == 0  # fmt: skip
    baselines = json.loads((tmp_path / "report" / "metrics.json").read_text())["baselines"]
    names = [baseline["name"] for baseline in baselines]
    assert names[:3] == [
        "codes, k",
        "pixels, the same network",
        "reconstructions, the same network",
    ]
    assert "embedding, linear" in names
    sizes = [baseline["bytes"] for baseline in baselines if baseline["name"].startswith("JPEG")]
    assert sizes == sorted(sizes)
    assert all(0 <= baseline["top1"] <= 1 for baseline in baselines)


@pytest.mark.parametrize(
    ("option", "value"),
    [("--epochs", "0"), ("--views", "0"), ("--side", "-5"), ("--seed", "-1"), ("--held-out", "1")],
)
def test_an_impossible_option_is_one_line(option, value, tiny_bundle, folder, tmp_path, capsys):
    """It is named with its value."""
    out = ["--out", str(tmp_path / "out"), "--name", "x"]
    assert command(tiny_bundle, folder, tmp_path, *out, option, value) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {option} must be ")
    assert error.endswith(f"not {float(value) if option == '--held-out' else value}\n")


@pytest.mark.parametrize(
    "fault", ["no test", "one class", "no bundle", "name", "device", "other space"]
)
def test_what_cannot_be_learnt_from_is_one_line(fault, tiny_bundle, folder, tmp_path, capsys):
    """Exit code 2, one line that names the fault, nothing written."""
    data = shutil.copytree(folder, tmp_path / "data")
    out = shutil.copytree(tiny_bundle, tmp_path / "out")
    more = ["--out", str(out), "--name", "x"]
    bundle = tiny_bundle
    if fault == "no test":
        shutil.rmtree(data / "test")
    elif fault == "one class":
        shutil.rmtree(data / "train" / "noise")
        shutil.rmtree(data / "test" / "noise")
    elif fault == "no bundle":
        bundle = tmp_path / "absent"
    elif fault == "name":
        more = ["--out", str(out), "--name", "Not A Name"]
    elif fault == "device":
        more = ["--out", str(out), "--name", "x", "--device", "gpu"]
    else:
        text = (out / "manifest.json").read_text()
        space = open_bundle(out).manifest.code_space
        (out / "manifest.json").write_text(text.replace(space, "0" * 64))
    before = (out / "manifest.json").read_bytes()
    assert command(bundle, data, tmp_path, *more) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert (out / "manifest.json").read_bytes() == before
