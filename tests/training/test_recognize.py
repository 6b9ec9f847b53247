"""The recognizer: what it learns, what is written, and what is refused."""

import contextlib
import io
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


@pytest.fixture(scope="module")
def written(tiny_bundle, folder, tmp_path_factory):
    """A copy of the tiny bundle with a recognizer, its report, and what the command printed."""
    root, printed = tmp_path_factory.mktemp("written"), io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert command(tiny_bundle, folder, root, "--out", str(root / "mine"), "--name", "kinds",
                       "--licence", "CC0-1.0") == 0  # fmt: skip
    return root / "mine", root / "report", printed.getvalue()


def test_the_command_writes_a_recognizer_and_nothing_else(tiny_bundle, written):
    """Two new things: the graph and its entry. The code space and all other files stay."""
    before, after = open_bundle(tiny_bundle), open_bundle(written[0])
    entry = after.manifest.recognizers["kinds"]
    assert entry.classes == ("noise", "stripes")
    assert entry.licence == "CC0-1.0"
    assert entry.metrics["n_test"] == 8
    assert after.manifest.code_space == before.manifest.code_space
    assert set(after.manifest.files) - set(before.manifest.files) == {"recognizer-kinds.onnx"}
    for name in set(before.manifest.files) - {"MODEL_CARD.md"}:
        assert after.read(name) == before.read(name)
    assert "**kinds**" in (written[0] / "MODEL_CARD.md").read_text()
    assert after.manifest.parity["recognizer-kinds"]["fp32"]["score_error"] <= 1e-4


def test_a_copy_is_named_after_its_folder(written):
    """A service refuses two models of one name and version; and the command says the new name."""
    assert open_bundle(written[0]).manifest.name == "mine"
    assert f"{written[0]}: a copy of tiny, named mine\n" in written[2]


def test_the_command_says_that_a_running_service_must_reload(written):
    """Otherwise the service answers 404 for what lies in the folder."""
    assert "SIGHUP, or POST /v1/models:reload" in written[2].splitlines()[-1]


def test_the_report_tells_what_the_manifest_tells(written):
    """JSON, Markdown and a page that loads nothing, with a picture for each answer shown."""
    out, report, _ = written
    metrics = json.loads((report / "metrics.json").read_text())
    entry = open_bundle(out).manifest.recognizers["kinds"]
    assert metrics["metrics"] == entry.metrics
    assert np.array(metrics["figures"]["confusion"]).sum() == 8
    page = (report / "report.html").read_text()
    assert page.count("with its map") == 8
    assert "http" not in page
    assert "| stripes | 4 |" in (report / "metrics.md").read_text()


def test_a_name_that_exists_is_refused_unless_replaced(
    recognizing_bundle, folder, tmp_path, capsys
):
    """Without --replace nothing changes; with it, that one alone does, and the output names it.

    The images are in plain folders of classes here: how they are split is said as well.
    """
    out, plain = shutil.copytree(recognizing_bundle, tmp_path / "bundle"), folder / "train"
    before = (out / "manifest.json").read_bytes()
    assert command(out, plain, tmp_path, "--name", "colours") == 2
    assert "--replace" in capsys.readouterr().err
    assert (out / "manifest.json").read_bytes() == before
    assert command(out, plain, tmp_path, "--name", "colours", "--replace") == 0
    recognizers = open_bundle(out).manifest.recognizers
    assert set(recognizers) == {"colours", "tones"}
    assert recognizers["colours"].classes == ("noise", "stripes")
    printed = capsys.readouterr().out
    assert "replaced the recognizer colours" in printed
    tested = recognizers["colours"].metrics["n_test"]
    assert f"has no train/ and test/: {tested} of 16 images" in printed


def test_codes_of_several_stages_are_recognized_by_their_first(staged_bundle, folder, tmp_path):
    """The recognizer takes grids without an axis of stages; stages and decoders stay."""
    out = tmp_path / "out"
    assert command(staged_bundle, folder, tmp_path, "--out", str(out), "--name", "kinds",
                   "--epochs", "1", "--views", "2") == 0  # fmt: skip
    manifest = open_bundle(out).manifest
    assert manifest.graphs["recognizer-kinds"].inputs[0].axes == ("n", "h/8", "w/8")
    assert (manifest.stages, set(manifest.decoders)) == (2, {"texture"})


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
    [
        ("--epochs", "0"),
        ("--views", "0"),
        ("--side", "-5"),
        ("--seed", "-1"),
        ("--held-out", "1.0"),
        ("--test-share", "0.0"),
    ],
)
def test_an_impossible_option_is_one_line(option, value, tiny_bundle, folder, tmp_path, capsys):
    """It is named with its value."""
    out = ["--out", str(tmp_path / "out"), "--name", "x"]
    assert command(tiny_bundle, folder, tmp_path, *out, option, value) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {option} must be ")
    assert error.endswith(f"not {value}\n")


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
