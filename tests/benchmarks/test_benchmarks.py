"""The benchmark's own parts: what it sends, how it measures, what it writes."""

import ast
import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import candidates
from benchmarks.bare import BATCHES, BareWorker, Graphs
from benchmarks.inputs import jpegs, pixels, tensor_request
from benchmarks.peers.onnx_torch import Graph
from bundle import open_bundle

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests/data/bundles/tiny"


def test_imports_neither_app_nor_training() -> None:
    """Tessera is measured from outside, like any other server."""
    for path in (ROOT / "benchmarks").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not {name.partition(".")[0] for name in names} & {"app", "training"}, path


def test_inputs_are_the_same_every_time() -> None:
    """Every candidate gets the same files, each of them different."""
    first, second = jpegs(64, 12), jpegs(64, 12)
    assert first == second
    assert len(set(first)) == 12
    assert pixels(first[0]).shape == (64, 64, 3)


def test_tensor_request_says_where_its_json_ends() -> None:
    """KServe's binary extension: JSON, then each BYTES element behind its length."""
    head, _, body = tensor_request("/infer", b"jpeg").partition(b"\r\n\r\n")
    fields = dict(line.split(": ") for line in head.decode().split("\r\n")[1:])
    length = int(fields["Inference-Header-Content-Length"])
    described = json.loads(body[:length])
    assert described["inputs"][0]["parameters"]["binary_data_size"] == len(body) - length
    assert body[length:] == struct.pack("<I", 4) + b"jpeg"
    assert int(fields["Content-Length"]) == len(body)


def test_pytorch_and_onnx_runtime_agree() -> None:
    """The network that PyTorch serves is the bundle's."""
    graphs = Graphs(open_bundle(TINY), "fp32", 1)
    images = np.stack([pixels(jpeg) for jpeg in jpegs(64, 4)])
    codes = graphs.encode(images)
    encoder, quantizer = Graph(TINY / "encoder.onnx"), Graph(TINY / "quantizer.onnx")
    with torch.inference_mode():
        found = quantizer(encoder(torch.from_numpy(images))).numpy()
        decoded = Graph(TINY / "decoder.onnx")(torch.from_numpy(codes)).numpy()
    assert np.mean(found == codes) > 0.99
    difference = np.abs(decoded.astype(int) - graphs.decode(codes).astype(int))
    assert difference.max() <= 1


def test_the_first_recognizer_is_measured_where_there_is_one() -> None:
    """A bundle without any is measured without it."""
    codes = np.zeros((2, 3, 4), np.int64)
    recognizing = Graphs(open_bundle(ROOT / "tests/data/recognizing/tiny"), "fp32", 1)
    assert recognizing.recognize(codes).shape == (2, 6)
    with pytest.raises(KeyError):
        Graphs(open_bundle(TINY), "fp32", 1).recognize(codes)


def test_larger_batches_are_tried_until_one_is_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    """A little slower may be chance; a tenth ends it for that layout, not for the other."""
    speeds = {"together": [10, 20, 19, 30, 26, 99], "apart": [40, 35, 99, 99, 99, 99]}
    asked = []

    def rate(_: object, what: str, side: int, layout: str, batch: int, seconds: float) -> float:
        asked.append((layout, batch))
        return speeds[layout][BATCHES.index(batch)]

    monkeypatch.setattr(BareWorker, "rate", rate)
    worker = BareWorker.__new__(BareWorker)
    worker._best = {}
    assert worker.best("encode", 64, 0.1) == ("apart", 1)
    assert [batch for layout, batch in asked if layout == "together"] == [1, 2, 4, 8, 16]
    assert [batch for layout, batch in asked if layout == "apart"] == [1, 2]


def test_tessera_serves_the_bundle_that_is_measured() -> None:
    """By name and version, also where others lie in the same folder."""
    settings = candidates.serving(TINY)
    manifest = open_bundle(TINY).manifest
    assert settings["TESSERA_MODELS_DIR"] == str(TINY.parent)
    assert settings["TESSERA_DEFAULT_MODEL"] == f"{manifest.name}@{manifest.version}"


def test_tokenizing_is_compared_with_the_bare_engine() -> None:
    """By the clock and by processor time, on JPEGs of a megapixel made of a folder's pictures."""
    command = [sys.executable, "-m", "benchmarks.tokenize", str(ROOT / "tests/data/photos")]
    command += ["--bundle", str(TINY), "--megapixel", "--images", "12", "--rounds", "1"]
    command += ["--size", "32x32", "--least", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "12 images, fp32, " in done.stdout
    assert "of the bare speed (median of 1)" in done.stdout
    assert "by processor time, " in done.stdout
