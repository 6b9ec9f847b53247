"""The command line on real files, with a real bundle in this process, and against a service."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tessera_client import Codes, Grid

ROOT = Path(__file__).parents[3]
TINY_SPACE = "fec4b342b8304ba9cd0ebb27329f71e66b789d9cf07905aeb3d2a4b98cd9ea04"


@pytest.fixture
def tessera(command, tiny_bundle):
    """The command with that model: arguments → exit code, output, errors."""
    return command(tiny_bundle.parent)


def _size(picture: bytes) -> tuple[int, int]:
    return Image.open(io.BytesIO(picture)).size


def test_codes_go_to_a_file_and_back(tessera, photos, tmp_path):
    """A photograph becomes .tess, .npy and .json, and each becomes a picture of its size."""
    for kind in ("tess", "npy", "json"):
        codes = tmp_path / f"lake.{kind}"
        assert tessera("encode", photos / "lake.webp", "-o", codes) == (0, "", "")
        assert tessera("decode", codes, "-o", tmp_path / f"{kind}.png")[0] == 0
    sizes = [_size((tmp_path / f"{kind}.png").read_bytes()) for kind in ("tess", "json", "npy")]
    # npy doesn't hold the size: it is that of the whole grid.
    assert sizes == [(341, 256), (341, 256), (344, 256)]


def test_the_same_codes_as_over_http(tessera, photos, tmp_path, client):
    """In this process or against a running service: the same bytes."""
    here, there = tmp_path / "here.tess", tmp_path / "there.tess"
    assert tessera("encode", photos / "otter.webp", "-o", here)[0] == 0
    url = str(client.base_url)
    assert tessera("encode", photos / "otter.webp", "-o", there, "--url", url)[0] == 0
    assert here.read_bytes() == there.read_bytes()


def test_pipes(tessera, photos, monkeypatch, pipe):
    """`-` is standard input, and without -o the codes go to standard output."""
    out = pipe()
    monkeypatch.setattr(sys, "stdout", out)
    assert tessera("encode", "-", stdin=(photos / "lake.webp").read_bytes())[0] == 0
    codes = out.buffer.getvalue()
    assert codes.startswith(b"\x89TESS")
    out.buffer = io.BytesIO()
    assert tessera("decode", "-", "--format", "webp", stdin=codes)[0] == 0
    assert _size(out.buffer.getvalue()) == (341, 256)


def _folder(photos, tmp_path):
    """Two photographs, one of them in a folder of its own, a broken one and what is no picture."""
    folder = tmp_path / "album"
    (folder / "sub").mkdir(parents=True)
    shutil.copy(photos / "lake.webp", folder / "lake.webp")
    shutil.copy(photos / "otter.webp", folder / "sub" / "otter.webp")
    (folder / "notes.txt").write_text("no picture, and not said to be one")
    return folder


def test_a_folder_of_pictures_becomes_a_folder_of_codes(tessera, photos, tmp_path):
    """A slash at the end names a folder, which is made: a file for each picture, as in its own."""
    folder, out = _folder(photos, tmp_path), tmp_path / "made" / "codes"
    assert tessera("encode", folder, "-o", f"{out}/") == (0, "", "")
    made = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.*"))
    assert made == ["lake.tess", "sub/otter.tess"]
    assert tessera("encode", photos / "lake.webp", "-o", tmp_path / "one.tess")[0] == 0
    assert (out / "lake.tess").read_bytes() == (tmp_path / "one.tess").read_bytes()


def test_one_bad_file_among_several_costs_the_others_nothing(tessera, photos, tmp_path):
    """In every form: the others are written, each bad one has its line, and the code is 1."""
    folder = _folder(photos, tmp_path)
    (folder / "broken.webp").write_bytes((photos / "lake.webp").read_bytes()[:900])
    (folder / "empty.png").touch()
    for output, good in (("all.tess", "all.tess"), ("all.json", "all.json"), ("d/", "d/lake.tess")):
        code, _, err = tessera("encode", folder, "-o", f"{tmp_path}/{output}")
        assert code == 1
        assert "broken.webp: Image corrupt: " in err
        assert "empty.png: is empty" in err
        assert err.splitlines()[-1] == "tessera: 2 of 4 could not be read"
        assert (tmp_path / good).exists()
    code, out, _ = tessera("info", tmp_path / "all.tess", "--json")
    assert [image["name"] for image in json.loads(out)["images"]] == ["lake.webp", "otter.webp"]
    code, out, _ = tessera("embed", folder, "--json")
    assert (code, sum("error" in item for item in json.loads(out)["data"])) == (1, 1)


def test_a_picture_that_may_look_wrong_is_said(tessera, tmp_path):
    """Twelve bits in sixteen are nearly black: a line says so, and what to add."""
    dark = np.random.default_rng(0).integers(0, 4096, (16, 16), dtype=np.uint16)
    Image.fromarray(dark).save(tmp_path / "dark.png")
    for command in (["encode", "-o", str(tmp_path / "a.tess")], ["embed", "--json"]):
        code, _, err = tessera(*command, tmp_path / "dark.png")
        assert code == 0
        assert f"{tmp_path}/dark.png: warning: its 16-bit samples use 12 bits at most" in err
        code, _, err = tessera(*command, tmp_path / "dark.png", "--sample-bits", 12)
        assert (code, err) == (0, "")
    code, out, _ = tessera("tokenize", tmp_path, tmp_path / "codes")
    assert code == 0
    assert f"1 may look wrong: {tmp_path}/codes/warnings.jsonl" in out
    (entry,) = (tmp_path / "codes" / "warnings.jsonl").read_text().splitlines()
    assert json.loads(entry)["code"] == "dark_samples"


def test_files_of_codes_are_embedded_together(tessera, photos, tmp_path):
    """In the order of the command line, as their pictures are."""
    names = ("otter", "lake")
    for name in names:
        tessera("encode", photos / f"{name}.webp", "-o", tmp_path / f"{name}.tess")
    assert (
        tessera("embed", *(tmp_path / f"{n}.tess" for n in names), "-o", tmp_path / "c.npy")[0] == 0
    )
    assert (
        tessera("embed", *(photos / f"{n}.webp" for n in names), "-o", tmp_path / "p.npy")[0] == 0
    )
    assert np.array_equal(np.load(tmp_path / "c.npy"), np.load(tmp_path / "p.npy"))


def test_several_pictures_in_one_file(tessera, photos, tmp_path):
    """They are decoded into a folder, under their own names."""
    both = tmp_path / "both.tess"
    assert tessera("encode", photos / "lake.webp", photos / "otter.webp", "-o", both)[0] == 0
    for _ in range(2):  # the second time beside the first, over nothing
        assert tessera("decode", both, "-o", tmp_path, "--format", "jpg")[0] == 0
    made = sorted(path.name for path in tmp_path.glob("*.jpg"))
    assert made == ["lake-00000.jpg", "lake.jpg", "otter-00001.jpg", "otter.jpg"]


def test_a_name_in_a_file_leads_nowhere_else(tessera, photos, tmp_path):
    """Names in .tess files are somebody's: decoding stays in the folder that was named."""
    from app.codecs.tess import pack_codes, unpack_codes

    one = tmp_path / "one.tess"
    tessera("encode", photos / "lake.webp", photos / "otter.webp", "-o", one)
    file = unpack_codes(one.read_bytes(), max_images=9, max_pixels=10**6)
    for grid in file.grids:
        object.__setattr__(grid, "name", "../../escaped.png")
    one.write_bytes(pack_codes(file))
    target = tmp_path / "a" / "b"
    target.mkdir(parents=True)
    assert tessera("decode", one, "-o", target)[0] == 0
    assert sorted(path.name for path in tmp_path.rglob("*.png")) == [
        "escaped-00001.png",
        "escaped.png",
    ]
    assert all(path.parent == target for path in tmp_path.rglob("*.png"))


def test_a_picture_and_its_codes_have_one_vector(tessera, photos, tmp_path):
    """Embedding either gives the same, of length 1."""
    codes, vector = tmp_path / "a.tess", tmp_path / "a.npy"
    tessera("encode", photos / "lake.webp", "-o", codes)
    assert tessera("embed", photos / "lake.webp", "-o", vector)[0] == 0
    of_picture = np.load(vector)
    assert tessera("embed", codes, "-o", vector)[0] == 0
    assert np.array_equal(np.load(vector), of_picture)
    assert np.linalg.norm(of_picture) == pytest.approx(1, abs=1e-5)
    code, out, _ = tessera("embed", photos / "lake.webp", "--json")
    assert code == 0
    assert len(json.loads(out)["data"][0]["embedding"]) == of_picture.shape[1]


def test_what_kubernetes_sets_for_a_service_of_our_name_stops_no_command(
    tessera, photos, monkeypatch
):
    """A command doesn't listen: the ports in its environment are no matter."""
    monkeypatch.setenv("TESSERA_PORT", "tcp://10.0.0.11:8000")
    monkeypatch.setenv("TESSERA_SERVICE_HOST", "10.0.0.11")
    monkeypatch.setenv("TESSERA_PORT_8000_TCP_ADDR", "10.0.0.11")
    code, out, _ = tessera("embed", photos / "lake.webp", "--json")
    assert code == 0
    assert json.loads(out)["data"]


def test_info_needs_no_model(tessera, photos, tmp_path, monkeypatch):
    """A .tess file tells what it is."""
    codes = tmp_path / "a.tess"
    tessera("encode", photos / "lake.webp", "-o", codes)
    monkeypatch.setenv("TESSERA_MODELS_DIR", "nowhere")
    code, out, _ = tessera("info", codes, "--json")
    facts = json.loads(out)
    assert code == 0
    assert (facts["codebook_size"], facts["stride"], facts["precision"]) == (256, 8, "fp32")
    assert facts["images"][0] | {"codes_used": 0} == {
        "name": "lake.webp",
        "width": 341,
        "height": 256,
        "grid": [32, 43],
        "codes_used": 0,
    }
    code, out, _ = tessera("info", codes)
    assert code == 0
    assert "lake.webp" in out


def test_models(tessera, client):
    """What there is, in this process and there."""
    code, out, _ = tessera("models")
    assert code == 0
    assert "tiny *" in out
    code, out, _ = tessera("models", "--json", "--url", str(client.base_url))
    assert code == 0
    assert json.loads(out)["default"] == "tiny"


def test_doctor_finds_nothing_bad(tessera):
    """Device, bundle, parity and speed, each as a finding."""
    code, out, _ = tessera("doctor", "--device", "cpu", "--json")
    found = json.loads(out)
    assert code == 0
    assert {finding["state"] for finding in found} == {"ok"}
    subjects = {finding["subject"] for finding in found}
    assert {"device", "bundle", "tiny fp32", "tiny int8", "tiny batches", "tiny speed"} <= subjects


def test_doctor_knows_pixels_of_any_channels(command, channels_bundles, monkeypatch):
    """Models of grey with 16 bits and of seven channels are tried like others."""
    monkeypatch.setenv("TESSERA_DEFAULT_MODEL", "grey16")
    code, out, _ = command(channels_bundles)("doctor", "--device", "cpu", "--json")
    assert code == 0
    subjects = {finding["subject"] for finding in json.loads(out)}
    assert {"grey16 fp32", "grey16 speed", "seven fp32", "seven batches"} <= subjects


def test_doctor_says_what_to_do(tessera, tiny_bundle, tmp_path, monkeypatch):
    """A bundle with a broken file is found, with advice and exit code 1."""
    shutil.copytree(tiny_bundle, tmp_path / "tiny")
    with (tmp_path / "tiny" / "decoder.onnx").open("ab") as file:
        file.write(b"\0")
    monkeypatch.setenv("TESSERA_MODELS_DIR", str(tmp_path))
    code, out, err = tessera("doctor", "--device", "cpu")
    assert code == 1
    assert "decoder.onnx is not" in out
    assert "→ copy it anew" in out
    assert "are bad" in err


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["encode", "absent.png"], 1, "absent.png: No such file"),
        (["encode", "{tmp}/broken.webp"], 1, "broken.webp: Image corrupt"),
        (["encode", "{tmp}/broken.webp", "absent.png"], 1, "broken.webp: Image corrupt"),
        (["encode", "{tmp}/broken.webp", "absent.png"], 1, "2 of 2 could not be read"),
        (["encode", "{photos}/lake.webp", "-o", "{tmp}/a.gif"], 2, ".gif is none of"),
        (["encode", "{photos}/lake.webp", "-o", "{tmp}/no/a.tess"], 1, "No such file"),
        (["encode", "{photos}/lake.webp", "--size", "9"], 2, "--size: must be WxH"),
        (["encode", "{photos}/lake.webp", "--model", "other"], 1, "no such model"),
        (["encode", "{photos}/lake.webp", "--models-dir", "{tmp}/no"], 3, "there is no folder"),
        (["encode", "{photos}/lake.webp", "--device", "tpu"], 2, "must be auto, cpu"),
        (["encode", "{photos}/lake.webp", "--url", "http://127.0.0.1:9"], 3, "can't be reached"),
        (["encode", "{photos}/lake.webp", "--url", "ftp://x"], 1, "is not an address"),
        (["encode", "{photos}/lake.webp", "--url", "http://x", "--device", "cpu"], 2, "--device"),
        (["encode", "-", "-"], 2, "can be read once"),
        (
            ["encode", "{photos}/lake.webp", "--json", "-o", "{tmp}/a.tess"],
            2,
            "--json and the file",
        ),
        (["encode", "{photos}/lake.webp", "--json", "--format", "npy"], 2, "contradict each other"),
        (["encode", "{tmp}/sub"], 1, "sub: holds no picture"),
        (["encode", "{photos}", "-o", "{tmp}/a.npy"], 1, "pictures of one size: add --size"),
        (["embed", "{photos}/lake.webp", "-o", "{tmp}/"], 2, "vectors are one file"),
        (["embed", "{photos}/lake.webp", "{tmp}/two.tess"], 2, "one kind at a time"),
        (["decode", "{tmp}/two.tess", "-o", "{tmp}/a.png"], 2, "name a folder for them"),
        (["embed", "{tmp}/two.tess", "--model", "other"], 1, "Model not found"),
        (["decode", "{tmp}/stranger.tess"], 1, "Code space mismatch"),
        (["decode", "{photos}/lake.webp"], 1, "is none of .tess"),
        (["decode", "{tmp}/empty.tess"], 1, "is empty"),
        (["info", "{photos}/lake.webp"], 1, "not a packed code file"),
        (["encode"], 2, "Missing argument"),
        (["serve", "--port", "eighty"], 2, "TESSERA_PORT"),
        (["tokenize", "{tmp}/empty.tess", "{tmp}/out"], 1, "neither a folder nor"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(tessera, photos, tmp_path, arguments, code, says):
    """No stack, an exit code that tells the kind, and the name of the file."""
    (tmp_path / "broken.webp").write_bytes((photos / "lake.webp").read_bytes()[:900])
    (tmp_path / "empty.tess").touch()
    (tmp_path / "sub").mkdir()
    grid = np.zeros((2, 2), np.int64)
    for name, space, grids in (("two", TINY_SPACE, 2), ("stranger", "ab" * 32, 1)):
        codes = Codes(space, 256, 8, "fp32", (Grid(grid, 16, 16),) * grids)
        codes.save(tmp_path / f"{name}.tess")
    given = [argument.format(tmp=tmp_path, photos=photos) for argument in arguments]
    ended, _, err = tessera(*given)
    assert (ended, says in err) == (code, True), err


def test_one_broken_among_several_is_named(tessera, photos, tmp_path):
    """JSON says which failed, the others are there; the exit code tells of it."""
    (tmp_path / "broken.webp").write_bytes((photos / "lake.webp").read_bytes()[:900])
    code, out, err = tessera("encode", tmp_path / "broken.webp", photos / "lake.webp", "--json")
    assert code == 1
    assert ["error" in item for item in json.loads(out)["data"]] == [True, False]
    assert "broken.webp: " in err
    assert "1 of 2" in err


def test_a_service_with_keys(tessera, tiny_bundle, run_app, monkeypatch):
    """The key comes from the environment; without one the refusal is said."""
    with run_app(models_dir=tiny_bundle.parent, api_keys="sesame") as client:
        url = str(client.base_url)
        code, _, err = tessera("models", "--url", url)
        assert code == 3
        assert "key is required" in err
        monkeypatch.setenv("TESSERA_API_KEY", "sesame")
        assert tessera("models", "--url", url)[0] == 0


def test_keys_of_a_service_do_not_bind_a_command(tessera, monkeypatch):
    """What is configured for `serve` doesn't lock its owner out."""
    monkeypatch.setenv("TESSERA_API_KEYS", "sesame")
    assert tessera("models")[0] == 0


def test_serve_has_a_flag_for_each_setting(tessera):
    """But not for keys, which other users of the machine would see."""
    from app.settings import Settings

    code, out, _ = tessera("serve", "--help")
    assert code == 0
    for name in Settings.model_fields:
        assert (f"--{name.replace('_', '-')} " in out) == (name != "api_keys")


def test_the_version_is_printed(tessera):
    """That of the package."""
    from app import __version__

    assert tessera("--version") == (0, f"tessera {__version__}\n", "")


def test_flags_are_shown_as_flags(tessera):
    """Not as options that take a value."""
    for arguments in (["--help"], ["encode", "--help"], ["tokenize", "--help"]):
        code, out, _ = tessera(*arguments)
        assert code == 0
        assert "--help" in out
        assert "bool" not in out.lower()


def test_a_missing_runtime_is_a_line(photos):
    """It names the extras that bring one, and what to type in this environment."""
    code = (
        "import sys; sys.modules['onnxruntime'] = None; from app.cli.main import main;"
        f"main(['encode', {str(photos / 'lake.webp')!r}])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1
    assert "one of the extras cpu and gpu" in done.stderr
    assert f"{sys.executable} -m pip install onnxruntime" in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(tessera, shell, monkeypatch):
    """The completion script of a shell is printed."""
    monkeypatch.setenv("_TESSERA_COMPLETE", f"source_{shell}")
    code, out, _ = tessera()
    assert code == 0
    assert "tessera" in out
