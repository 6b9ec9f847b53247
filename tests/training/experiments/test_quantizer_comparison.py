"""Facts about the comparison of quantizers: what is trained, what is measured, what is written."""

import dataclasses
import typing

import numpy as np
import pytest

from training.compare_quantizers import main
from training.experiments.quantizer_comparison import Figures, table
from training.experiments.quantizer_runs import first_runs, further_runs
from training.tokenizer.config import QuantizerConfig

# Networks and steps of seconds; what differs between the runs stays as it is.
SMALL = [
    "data.crop=32",
    "network.widths=[8, 16]",
    "network.encoder_depths=[0, 0]",
    "network.decoder_depths=[0, 0]",
    "optimizer.steps=2",
    "optimizer.batch=4",
    "run.bf16=false",
]
FIGURES = Figures(8, 4096, 25.0, 0.9, 0.2, 0.5, 800.0, 9.5, 100.0, 10.0, 20.0, None)


def test_all_runs_differ_in_the_quantizer_alone():
    """Networks, data, loss, steps and seed are the same, but for the row of other networks."""
    runs = [run for run in first_runs() if "networks" not in run.member]
    assert len({run.name for run in first_runs()}) == len(first_runs())
    first = runs[0].config
    for run in runs:
        same = dataclasses.replace(run.config, name=first.name, quantizer=first.quantizer)
        assert same == first


def test_every_kind_of_quantizer_takes_part():
    """A new member that isn't compared would stay unnoticed."""
    known = {run.config.quantizer.kind for run in first_runs()}
    wanted = set()
    for cls in typing.get_args(QuantizerConfig):
        wanted |= set(typing.get_args(typing.get_type_hints(cls)["kind"]))
    assert known == wanted


def test_sizes_are_comparable():
    """About 2¹² codes and about 2¹⁶: within a tenth of a bit."""
    for run in first_runs():
        sizes = run.config.quantizer.stages
        if sizes:
            bits = np.log2(np.prod(sizes))
            assert bits == pytest.approx(12 if "2¹² " in run.group else 16, abs=0.1), run.name


def test_the_best_go_on():
    """Two of them with other strides, three with another seed; neither the plain autoencoder."""
    names = [run.name for run in first_runs()]
    psnr = {name: float(len(name)) for name in names} | {"fsq-12": 99.0, "bsq-12": 98.0}
    psnr |= {"lfq-12": 97.0, "no-quantizer": 100.0}
    runs = further_runs(psnr)
    strides = [(run.member, run.config.network.stride) for run in runs[:4]]
    assert strides == [("FSQ", 4), ("FSQ", 16), ("BSQ", 4), ("BSQ", 16)]
    assert [run.member for run in runs[4:]] == [f"{m}; another seed" for m in ("FSQ", "BSQ", "LFQ")]
    assert [run.config.run.seed for run in runs] == [0, 0, 0, 0, 1, 1, 1]
    assert not {run.name for run in runs} & set(names)


def test_the_best_row_comes_first():
    """A table for each group; cells of what there is no figure for stay empty."""
    runs = first_runs()
    worse = dataclasses.replace(FIGURES, psnr=20.0, codes=0)
    lines = list(table([(runs[0], worse), (runs[1], FIGURES)]))
    assert lines[0] == "### 2¹² codes"
    assert lines[4].startswith(
        f"| {runs[1].member} | 4,096 | 25.00 | 0.9000 | 0.200 | 50.0% | 800 |"
    )
    assert lines[5].startswith(f"| {runs[0].member} |  | 20.00 |")
    assert {line.count("|") for line in lines if line.startswith("|")} == {14}


def test_the_command_writes_the_page_and_does_nothing_twice(photos, tmp_path, capfd):
    """Between its marks, and what is around them stays."""
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- comparison: begin -->\nold\n<!-- comparison: end -->\nafter\n")
    arguments = ["--data", str(photos), "--test", str(photos), "--out", str(tmp_path / "runs")]
    arguments += ["--page", str(page), "--without", "lpips", "--threads", "1", "--device", "cpu"]
    arguments += ["--only", "no-quantizer", "--only", "fsq-12"]
    arguments += [part for setting in SMALL for part in ("--set", setting)]
    assert main(arguments) == 0
    text = page.read_text()
    assert text.startswith("before\n<!-- comparison: begin -->\n\n### 2¹² codes\n")
    assert text.endswith("<!-- comparison: end -->\nafter\n")
    assert "| FSQ | 4,375 |" in text
    assert "| no quantizer |  |" in text
    assert "old" not in text
    capfd.readouterr()
    assert main(arguments) == 0
    assert page.read_text() == text
    assert " mse " not in capfd.readouterr().out


def test_a_page_without_a_place_is_one_clear_line(photos, tmp_path, capsys):
    """Before anything is trained."""
    arguments = ["--data", str(photos), "--test", str(photos), "--page", str(tmp_path / "no.md")]
    assert main(arguments) == 2
    assert "has no place for the table" in capsys.readouterr().err
