"""Stages of codes and named decoders on the command line, with a model of two of each."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tessera_client import Codes


@pytest.fixture
def tessera(command, staged_bundle):
    """The command with that model: arguments → exit code, output, errors."""
    return command(staged_bundle.parent)


@pytest.fixture
def encoded(tessera, photos, tmp_path):
    """Makes a file of codes of a photograph: stages, ending → its path."""

    def make(stages: int | None, ending: str = "tess"):
        path = tmp_path / f"{stages}.{ending}"
        asked = () if stages is None else ("--stages", stages)
        run = tessera("encode", photos / "lake.webp", "--size", "48x40", *asked, "-o", path)
        assert run[0] == 0, run
        return path

    return make


def test_codes_of_one_stage_and_of_both(encoded):
    """As many as are asked for; without, what the model says; in every form."""
    both, first = Codes.load(encoded(None)), Codes.load(encoded(1))
    assert (both.stages, first.stages) == (2, 1)
    assert np.array_equal(both[0].codes[0], first[0].codes)
    assert np.load(encoded(2, "npy")).shape == (1, 2, 5, 6)
    assert np.load(encoded(1, "npy")).shape == (1, 5, 6)
    for stages, shape in ((1, (5, 6)), (2, (2, 5, 6))):
        (item,) = json.loads(encoded(stages, "json").read_text())["data"]
        assert (item["stages"], item["grid"]) == (stages, [5, 6])
        assert np.array(item["codes"]).shape == shape


@pytest.mark.parametrize("ending", ["tess", "npy", "json"])
def test_every_form_decodes_by_every_decoder(tessera, encoded, tmp_path, ending):
    """Both decoders give another picture, of one stage and of two."""
    pictures = set()
    for stages in (1, 2):
        for decoder in ("default", "texture"):
            out = tmp_path / f"{stages}-{decoder}.png"
            run = tessera("decode", encoded(stages, ending), "--decoder", decoder, "-o", out)
            assert run[0] == 0, run
            pictures.add(out.read_bytes())
    assert len(pictures) == 4


def test_an_unknown_decoder_is_refused_with_the_names(tessera, encoded, tmp_path):
    """And nothing is written."""
    out = tmp_path / "a.png"
    code, _, said = tessera("decode", encoded(2), "--decoder", "sharp", "-o", out)
    assert (code, "default, texture" in said, out.exists()) == (1, True, False)


def test_a_wrong_number_of_stages_is_refused(tessera, photos, tmp_path):
    """More than the model has, as the service refuses them; none at all, as a misuse."""
    lake, out = photos / "lake.webp", tmp_path / "a.tess"
    code, _, said = tessera("encode", lake, "--stages", 3, "-o", out)
    assert (code, "1 to 2" in said, out.exists()) == (1, True, False)
    assert tessera("encode", lake, "--stages", 0, "-o", out)[0] == 2


def test_thin_drops_stages_without_a_model(tessera, encoded, tmp_path, monkeypatch):
    """To the very bytes of encoding with fewer, of one file or of several."""
    both, first = encoded(2), encoded(1)
    monkeypatch.setenv("TESSERA_MODELS_DIR", str(tmp_path / "nowhere"))
    code, _, said = tessera("thin", both, "--stages", 1, "-o", tmp_path / "thin.tess")
    assert (code, " bytes to " in said) == (0, True)
    assert (tmp_path / "thin.tess").read_bytes() == first.read_bytes()
    assert tessera("thin", both, first, "-o", f"{tmp_path}/small/")[0] == 0
    for path in (both, first):
        assert (tmp_path / "small" / path.name).read_bytes() == first.read_bytes()
    assert tessera("thin", both, "--stages", 2, "-o", tmp_path / "same.tess")[0] == 0
    assert (tmp_path / "same.tess").read_bytes() == both.read_bytes()


def test_what_can_t_be_thinned_says_why(tessera, encoded, photos, tmp_path):
    """Fewer stages than asked for, no codes, several files into one."""
    first, out = encoded(1), tmp_path / "out.tess"
    code, _, said = tessera("thin", first, "--stages", 2, "-o", out)
    assert (code, "have 1 stages" in said) == (1, True)
    code, _, said = tessera("thin", photos / "lake.webp", "-o", out)
    assert (code, "not a .tess file" in said) == (1, True)
    assert tessera("thin", first, first, "-o", out)[0] == 2
    assert not out.exists()


def test_recode_drops_stages_too(tessera, encoded, tmp_path):
    """By the service, which also reads what is coded by its context."""
    both, first, out = encoded(2), encoded(1), tmp_path / "out.tess"
    assert tessera("recode", both, "--coding", "fixed", "--stages", 1, "-o", out)[0] == 0
    assert out.read_bytes() == first.read_bytes()


def test_info_says_which_stages_there_are(tessera, encoded):
    """Sizes and bits of each, and how many codes are used."""
    code, out, _ = tessera("info", encoded(2))
    assert code == 0
    assert "codes       of 256 + 16, 8 + 4 bits each, one of each for 8 × 8 pixels" in out
    facts = json.loads(tessera("info", encoded(2), "--json")[1])
    assert facts["residual_sizes"] == [16]
    assert facts["images"][0]["grid"] == [5, 6]
    assert len(facts["images"][0]["codes_used"]) == 2
    assert "residual_sizes" not in json.loads(tessera("info", encoded(1), "--json")[1])


def test_models_are_listed_with_all_their_stages(tessera):
    """Sizes of the codebooks, and the rate of as many stages as there are by default."""
    _, out, _ = tessera("models")
    assert "256 + 16" in out
    assert f"{12 / 64:.3f}" in out


def test_embed_takes_codes_of_any_stages(tessera, encoded, tmp_path):
    """And gives one vector for them."""
    for stages in (1, 2):
        assert tessera("embed", encoded(stages), "-o", tmp_path / f"{stages}.vectors.npy")[0] == 0
    vectors = [np.load(tmp_path / f"{stages}.vectors.npy") for stages in (1, 2)]
    assert np.array_equal(*vectors)


def test_the_doctor_finds_nothing_wrong(tessera):
    """Each check that runs the model runs it with its stages."""
    code, out, said = tessera("doctor")
    assert code == 0, out + said
