"""The command: the files it writes, and what it refuses in one clear line."""

import dataclasses
import json

import pytest
import torch

from training.evaluate import main
from training.tokenizer.checkpoint import Checkpoint, save_checkpoint
from training.tokenizer.config import NoQuantizerConfig
from training.tokenizer.model import Tokenizer


@pytest.fixture(scope="module")
def checkpoint(tiny, tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "last.pt"
    weights = Tokenizer(tiny).state_dict()
    save_checkpoint(path, Checkpoint(tiny, 12, weights, weights, {}, {}))
    return path


def test_a_checkpoint_gives_all_four_files(checkpoint, few, tmp_path, capsys):
    """The verb writes JSON, Markdown, the page and the contact sheet, and prints the tables."""
    out = tmp_path / "out"
    arguments = [str(checkpoint), "--data", str(few), "--out", str(out), "--baselines", "0"]
    assert main(arguments) == 0
    assert sorted(p.name for p in out.iterdir()) == [
        "contact-sheet.webp",
        "metrics.json",
        "metrics.md",
        "report.html",
    ]
    names = {r["path"] for r in json.loads((out / "metrics.json").read_text())["results"]}
    assert names == {"street.webp", "below/lake.webp"}
    assert "| PSNR |" in capsys.readouterr().out


def refused(arguments, capsys):
    """Exit code 2 and one line on standard error."""
    assert main([str(a) for a in arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert "\n" not in error
    return error


def test_an_empty_folder_is_one_clear_line(checkpoint, tmp_path, capsys):
    """Nothing to measure."""
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no readable image" in refused([checkpoint, "--data", empty], capsys)


def test_a_folder_that_is_not_there_is_one_clear_line(checkpoint, tmp_path, capsys):
    """Its name is in the message."""
    assert "nowhere" in refused([checkpoint, "--data", tmp_path / "nowhere"], capsys)


def test_images_that_are_all_broken_are_one_clear_line(checkpoint, cut_jpeg, tmp_path, capsys):
    """Their headers are fine and their bodies are not."""
    folder = tmp_path / "cut"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(cut_jpeg)
    assert "not one image" in refused([checkpoint, "--data", folder], capsys)


def test_a_file_that_is_no_checkpoint_is_one_clear_line(few, tmp_path, capsys):
    """Whatever is in it, nothing of it is executed."""
    path = tmp_path / "last.pt"
    path.write_bytes(b"not a checkpoint")
    assert "not a readable checkpoint" in refused([path, "--data", few], capsys)


def test_a_checkpoint_of_another_version_is_one_clear_line(checkpoint, few, tmp_path, capsys):
    """It is refused by its number and not by some later surprise."""
    values = torch.load(checkpoint, weights_only=True)
    path = tmp_path / "old.pt"
    torch.save({**values, "format": 99}, path)
    assert "not a checkpoint of format" in refused([path, "--data", few], capsys)


def test_a_checkpoint_with_other_weights_is_one_clear_line(checkpoint, few, tmp_path, capsys):
    """Weights that don't fit the configuration beside them."""
    values = torch.load(checkpoint, weights_only=True)
    values["averaged"].pop("quantizer.codebook")
    path = tmp_path / "odd.pt"
    torch.save(values, path)
    assert "don't fit" in refused([path, "--data", few], capsys)


@pytest.fixture
def autoencoder(tiny, tmp_path):
    """A checkpoint of a model without a quantizer."""
    config = dataclasses.replace(tiny, quantizer=NoQuantizerConfig(width=tiny.quantizer.width))
    weights = Tokenizer(config).state_dict()
    path = tmp_path / "plain.pt"
    save_checkpoint(path, Checkpoint(config, 12, weights, weights, {}, {}))
    return path


def test_a_plain_autoencoder_is_measured_without_codes(autoencoder, few, tmp_path, capsys):
    """Quality alone: figures of a codebook that isn't used would mean nothing."""
    out = tmp_path / "out"
    arguments = [str(autoencoder), "--data", str(few), "--out", str(out), "--without", "lpips"]
    assert main([*arguments, "--without", "ssimulacra2"]) == 0
    facts = json.loads((out / "metrics.json").read_text())
    assert facts["images"] == 2
    assert 5 < facts["quality"]["psnr"] < 40
    printed = capsys.readouterr().out
    assert printed == (out / "metrics.md").read_text()
    assert "| PSNR, dB |" in printed
    assert "perplexity" not in printed


def test_a_plain_autoencoder_recognises_nothing(autoencoder, few, capsys):
    """It has no codes to recognise by."""
    arguments = [autoencoder, "--data", few, "--labelled", "."]
    assert "plain autoencoder" in refused(arguments, capsys)


def test_an_output_that_cannot_be_written_is_one_clear_line(checkpoint, few, tmp_path, capsys):
    """A file stands where the folder should be."""
    (tmp_path / "taken").write_text("a file")
    arguments = [checkpoint, "--data", few, "--baselines", "0", "--out", tmp_path / "taken"]
    assert "taken" in refused(arguments, capsys)


@pytest.mark.filterwarnings("ignore:`torch.jit.load`:DeprecationWarning")
def test_an_lpips_network_that_is_not_there_is_one_clear_line(checkpoint, few, capsys):
    """Its file is named."""
    error = refused([checkpoint, "--data", few, "--lpips", "absent.pt"], capsys)
    assert "absent.pt is not a readable TorchScript file" in error


def test_a_folder_that_is_no_bundle_is_one_clear_line(few, tmp_path, capsys):
    """A folder is taken for a bundle."""
    assert "manifest.json" in refused([tmp_path, "--data", few], capsys)


def test_a_precision_that_a_bundle_lacks_is_one_clear_line(checkpoint, few, capsys):
    """A checkpoint has fp32 only; other precisions come from export."""
    error = refused([checkpoint, "--data", few, "--precision", "int8"], capsys)
    assert "int8" in error
