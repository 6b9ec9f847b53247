"""`tessera classify` on real files, with recognizers that are known by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def tessera(command, recognizing_bundle):
    """The command with that model: arguments → exit code, output, errors."""
    return command(recognizing_bundle.parent)


def _pixels(path):
    with Image.open(path) as file:
        return np.asarray(file.convert("RGB")).astype(int)


def test_labels_for_people(tessera, photos):
    """One picture: a line for each label with its percentage, most probable first."""
    code, out, err = tessera("classify", photos / "lake.webp", "-k", 3)
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert [line[0] for line in lines] == ["grey", "blue", "green"]
    shares = [float(line[1]) for line in lines]
    assert shares == sorted(shares, reverse=True)
    assert 90 < sum(shares) <= 100


def test_several_pictures_are_told_apart(tessera, photos):
    """By their files' names."""
    code, out, _ = tessera("classify", photos / "lake.webp", photos / "otter.webp", "-k", 1)
    assert code == 0
    assert [line.split()[:2] for line in out.splitlines()] == [
        ["lake.webp", "grey"],
        ["otter.webp", "brown"],
    ]


def test_json_is_the_apis_answer(tessera, photos):
    """For programs; the recognizer that was named."""
    code, out, _ = tessera("classify", photos / "lake.webp", "--json", "--recognizer", "tones")
    answer = json.loads(out)
    assert code == 0
    assert (answer["recognizer"], answer["data"][0]["name"]) == ("tones", "lake.webp")
    assert len(answer["data"][0]["labels"]) == 2


def test_a_picture_and_its_codes_have_the_same_labels(tessera, photos, tmp_path):
    """.tess, .npy and .json, and through a pipe."""
    of_picture = json.loads(tessera("classify", photos / "lake.webp", "--json")[1])["data"][0]
    for kind in ("tess", "npy", "json"):
        codes = tmp_path / f"lake.{kind}"
        assert tessera("encode", photos / "lake.webp", "-o", codes)[0] == 0
        found = json.loads(tessera("classify", codes, "--json")[1])["data"][0]
        assert found["labels"] == of_picture["labels"]
    piped = tessera("classify", "-", "--json", stdin=(tmp_path / "lake.tess").read_bytes())
    assert json.loads(piped[1])["data"][0]["labels"] == of_picture["labels"]


def test_the_same_as_over_http(tessera, photos, run_app, recognizing_bundle, tmp_path):
    """In this process or against a running service: the same answer and the same map."""
    here = tessera("classify", photos / "lake.webp", "--json", "--map", tmp_path / "here.png")
    with run_app(models_dir=recognizing_bundle.parent) as client:
        there = tessera(
            *("classify", photos / "lake.webp", "--json", "--map", tmp_path / "there.png"),
            *("--url", client.base_url),
        )
    assert here == there
    assert (tmp_path / "here.png").read_bytes() == (tmp_path / "there.png").read_bytes()


def test_the_map_is_laid_over_the_picture(tessera, photos, tmp_path):
    """Tinted where the label is seen, untouched where it isn't, with a box around the region."""
    where = tmp_path / "where.png"
    code, out, _ = tessera("classify", photos / "lake.webp", "--map", where, "--json")
    assert code == 0
    item = json.loads(out)["data"][0]
    before, after = _pixels(photos / "lake.webp"), _pixels(where)
    assert after.shape == before.shape
    activation = np.kron(item["map"], np.ones((8, 8)))[: before.shape[0], : before.shape[1]]
    redder = (after - before)[..., 0] - (after - before)[..., 2]
    assert redder[activation > 0.7].mean() > 40 > 5 > redder[activation == 0].mean()
    left, top, right, bottom = item["box"]
    assert after[top, left:right].tolist() == [[255, 255, 255]] * (right - left)
    assert after[bottom - 1, left:right].tolist() == [[255, 255, 255]] * (right - left)


def test_the_map_of_codes_lies_over_what_they_decode_to(tessera, photos, tmp_path):
    """No picture is needed; it has the size of the one that was encoded, or was resized to."""
    codes = tmp_path / "lake.tess"
    tessera("encode", photos / "lake.webp", "-o", codes)
    assert tessera("classify", codes, "--map", tmp_path / "codes.webp")[0] == 0
    assert _pixels(tmp_path / "codes.webp").shape == (256, 341, 3)
    size = ("--size", "64x48")
    assert tessera("classify", photos / "lake.webp", *size, "--map", tmp_path / "s.jpg")[0] == 0
    assert _pixels(tmp_path / "s.jpg").shape == (48, 64, 3)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["absent.png"], 1, "absent.png: No such file"),
        (["{tmp}/broken.webp"], 1, "broken.webp: Image corrupt"),
        (["{photos}/lake.webp", "--recognizer", "absent"], 1, "it has: colours, tones"),
        (["{photos}/lake.webp", "--map", "{tmp}/a.gif"], 2, "a.gif: is none of .png"),
        (["{photos}/lake.webp", "--map", "-"], 2, "is none of .png"),
        (["{photos}/lake.webp", "{photos}/otter.webp", "--map", "a.png"], 2, "for one picture"),
        (["{tmp}/two.tess", "--map", "{tmp}/a.png"], 2, "there are 2"),
        (
            ["{photos}/lake.webp", "--recognizer", "tones", "--map", "{tmp}/a.png"],
            1,
            "no activation",
        ),
        (["{photos}/lake.webp", "--map", "{tmp}/no/a.png"], 1, "No such file"),
        (["{photos}/lake.webp", "-k", "0"], 2, "-k"),
        (["{photos}/lake.webp", "--url", "http://127.0.0.1:9"], 3, "can't be reached"),
        ([], 2, "Missing argument"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(tessera, photos, tmp_path, arguments, code, says):
    """No stack, an exit code that tells the kind, and no map left behind."""
    (tmp_path / "broken.webp").write_bytes((photos / "lake.webp").read_bytes()[:900])
    both = (photos / "lake.webp", photos / "otter.webp")
    assert tessera("encode", *both, "-o", tmp_path / "two.tess")[0] == 0
    given = [argument.format(tmp=tmp_path, photos=photos) for argument in arguments]
    ended, _, err = tessera("classify", *given)
    assert ended == code
    assert says in err
    assert not (tmp_path / "a.png").exists()


def test_one_broken_among_several_is_named(tessera, photos, tmp_path):
    """The others have their labels; the exit code tells of it."""
    (tmp_path / "broken.webp").write_bytes((photos / "lake.webp").read_bytes()[:900])
    code, out, err = tessera("classify", tmp_path / "broken.webp", photos / "lake.webp")
    assert code == 1
    assert "lake.webp" in out
    assert "broken.webp: " in err
    assert "1 of 2" in err


def test_a_model_without_a_recognizer_says_how_to_get_one(tessera, photos, tiny_bundle):
    """With the command to type."""
    code, _, err = tessera("classify", photos / "lake.webp", "--models-dir", tiny_bundle.parent)
    assert code == 1
    assert "python -m training.recognize" in err
