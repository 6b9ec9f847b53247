"""Facts about runs that begin from a bundle: its graphs and the networks compute the same."""

import dataclasses
import io
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from bundle import open_bundle, write_bundle
from training.data.dataset import read_image
from training.tokenizer.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from training.tokenizer.config import ConfigError
from training.tokenizer.config_file import load_config
from training.tokenizer.distributed import DistributedContext
from training.tokenizer.initial_weights import (
    fine_tuning_config,
    put_into,
    read_initial_weights,
    weights_of,
)
from training.tokenizer.model import Tokenizer
from training.tokenizer.run import train
from training.train import main

CPU = DistributedContext(torch.device("cpu"))
DEFAULT = Path(__file__).parents[3] / "models" / "photo-f8"


@pytest.fixture(scope="module")
def start():
    """What the default bundle gives."""
    return read_initial_weights(DEFAULT)


@pytest.fixture(scope="module")
def model(start):
    """A tokenizer of the default bundle's own shape, with its weights."""
    model = Tokenizer(fine_tuning_config(start, "mine")).eval()
    assert put_into(model, start) == []
    return model


def graph(name):
    """One of the default bundle's fp32 graphs, ready to run."""
    return onnxruntime.InferenceSession(open_bundle(DEFAULT).read_graph(name, "fp32"))


@pytest.fixture(scope="module")
def pixels(photos):
    """A real photograph's corner, uint8 `[1, 96, 128, 3]`."""
    return np.ascontiguousarray(read_image(photos / "lake.webp")[None, :96, :128])


def test_codes_are_those_of_the_bundles_graphs(model, pixels):
    """At least 99.9 % of the codes of a photograph, near ties apart."""
    latents = graph("encoder").run(None, {"pixels": pixels})[0]
    wanted = graph("quantizer").run(None, {"latents": latents})[0]
    made = model.encode(torch.from_numpy(pixels)).numpy()
    assert (made == wanted).mean() >= 0.999


def test_pixels_are_those_of_the_bundles_graphs(model, pixels):
    """No pixel that is decoded from the same codes differs by more than a rounding."""
    codes = model.encode(torch.from_numpy(pixels))
    wanted = graph("decoder").run(None, {"codes": codes.numpy()})[0]
    difference = np.abs(model.decode(codes).numpy().astype(int) - wanted)
    assert difference.max() <= 1


def test_a_larger_decoder_begins_with_the_same_function(start, model, pixels):
    """It gives the pixels of the smaller one; a line says so, and one says which stage is new."""
    config = load_config("photo-f8-v3")
    torch.manual_seed(0)
    larger = Tokenizer(config).eval()
    lines = put_into(larger, start)
    assert lines == [
        "stage 2 of the quantizer begins anew",
        "the decoder is larger and begins with the function of photo-f8's",
    ]
    assert torch.equal(larger.quantizer.normalized_codebook(), start.codebooks[0])
    assert torch.equal(larger.encoder.to_latents.weight, start.encoder["to_latents.weight"])
    codes = model.encode(torch.from_numpy(pixels))
    difference = larger.decode(codes[:, None]).int() - model.decode(codes).int()
    assert difference.abs().max() <= 1


def test_a_decoder_that_is_nowhere_larger_begins_anew(start):
    """Fewer blocks than the other's can't take over its function."""
    config = fine_tuning_config(start, "mine")
    network = dataclasses.replace(config.network, decoder_depths=(3, 4))
    model = Tokenizer(dataclasses.replace(config, network=network))
    before = {name: value.clone() for name, value in model.decoder.state_dict().items()}
    assert put_into(model, start) == ["the decoder begins anew: that of photo-f8 has another shape"]
    assert all(
        torch.equal(value, before[name]) for name, value in model.decoder.state_dict().items()
    )


@pytest.mark.parametrize(
    ("section", "change", "words"),
    [
        ("network", {"encoder_depths": (2, 5)}, "encoder of photo-f8 has another shape"),
        ("quantizer", {"size": 512}, r"\[4096, 8\] numbers can\'t start one of \[512, 8\]"),
    ],
)
def test_what_must_fit_and_does_not_is_refused(start, section, change, words):
    """An encoder or a first codebook of another shape."""
    config = fine_tuning_config(start, "mine")
    other = dataclasses.replace(getattr(config, section), **change)
    with pytest.raises(ConfigError, match=words):
        put_into(Tokenizer(dataclasses.replace(config, **{section: other})), start)


def test_frozen_codes_stay_valid(start, photos, tmp_path, capfd):
    """After fine-tuning with encoder and codebook frozen, images have the codes that they had.

    The first figures are those of the model that the run begins from.
    """
    settings = ["--set", "optimizer.steps=3", "--set", "optimizer.batch=2", "--set", "data.crop=64"]
    arguments = ["--from", str(DEFAULT), "--freeze", "encoder,codebook", "--data", str(photos)]
    assert main([*arguments, *settings, "--out", str(tmp_path)]) == 0
    figures = [line for line in capfd.readouterr().out.splitlines() if " psnr " in line]
    assert [line.split()[1] for line in figures] == ["0", "3"]
    assert abs(float(figures[0].split()[3]) - float(figures[1].split()[3])) < 1
    state = load_checkpoint(tmp_path / "last.pt")
    assert state.facts["started_from"] == {"name": "photo-f8", "code_space": start.code_space}
    assert state.config.name == "photo-f8-tuned"
    tuned = Tokenizer(state.config)
    tuned.load_state_dict(state.averaged)
    assert torch.equal(tuned.quantizer.normalized_codebook(), start.codebooks[0])
    for name, value in start.encoder.items():
        assert torch.equal(tuned.encoder.state_dict()[name], value), name
    first = next(iter(start.decoder))
    assert not torch.equal(tuned.decoder.state_dict()[first], start.decoder[first])


def test_a_checkpoint_is_a_start_too(tiny, photos, tmp_path):
    """Its averaged weights, and a resumed run doesn't begin again."""
    first = train(dataclasses.replace(tiny, name="first"), [photos], tmp_path / "first", CPU)
    start = read_initial_weights(first)
    averaged = load_checkpoint(first).averaged
    assert all(torch.equal(averaged[f"encoder.{k}"], v) for k, v in start.encoder.items())
    second = train(tiny, [photos], tmp_path / "second", CPU, start)
    assert load_checkpoint(second).facts["started_from"]["name"] == "first"
    before = second.read_bytes()
    assert train(tiny, [photos], tmp_path / "second", CPU, start).read_bytes() == before


def test_frozen_networks_of_the_start_are_passed_on(tiny, photos, tmp_path):
    """What taught a model taught whatever begins from it too, so that it never judges either."""
    state = Tokenizer(tiny).state_dict()
    known = {"name": "lite0"}
    save_checkpoint(tmp_path / "a.pt", Checkpoint(tiny, 1, state, state, {}, {"networks": [known]}))
    start = read_initial_weights(tmp_path / "a.pt")
    last = train(tiny, [photos], tmp_path / "second", CPU, start)
    assert load_checkpoint(last).facts["networks"] == [known]


@pytest.mark.parametrize("kind", ["no such folder", "no bundle", "no checkpoint"])
def test_what_is_no_model_is_refused_in_one_line(kind, photos, tmp_path, capsys):
    """Exit code 2 and what is wrong with it."""
    path = {"no bundle": photos, "no checkpoint": tmp_path / "a.pt"}.get(kind, tmp_path / "none")
    if kind == "no checkpoint":
        torch.save({"format": 0}, path)
    assert main(["tiny", "--from", str(path), "--data", str(photos), "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: --from {path}: ")
    assert error.count("\n") == 1


def test_neither_a_configuration_nor_a_start(photos, capsys):
    """The command needs one of them."""
    assert main(["--data", str(photos)]) == 2
    assert "name a preset or a TOML file, or a model to begin from" in capsys.readouterr().err


def test_a_model_of_unknown_configuration(start):
    """It can be begun from with a preset, and not without."""
    bare = dataclasses.replace(start, configuration={})
    with pytest.raises(ConfigError, match="name a preset or a file"):
        fine_tuning_config(bare, "mine")


def test_weights_in_half_precision(start):
    """A graph that stores its weights in float16 gives them as float32."""
    weights = weights_of(open_bundle(DEFAULT), "encoder", "fp16")
    assert weights.keys() == start.encoder.keys()
    assert all(value.dtype == torch.float32 for value in weights.values())
    assert torch.allclose(weights["stages.0.bias"], start.encoder["stages.0.bias"], atol=1e-3)


def in_a_file_of_their_own(graph, location):
    """An ONNX file whose weights lie outside, as bundles of format version 2 have them."""
    model, outside = onnx.load_from_string(graph), b""
    for tensor in model.graph.initializer:
        if tensor.name.startswith(("encoder.", "decoder.")):
            content = numpy_helper.to_array(tensor).tobytes()
            for key, value in (("location", location), ("offset", len(outside))):
                tensor.external_data.add(key=key, value=str(value))
            tensor.external_data.add(key="length", value=str(len(content)))
            tensor.data_location = onnx.TensorProto.EXTERNAL
            tensor.ClearField("raw_data")
            outside += content
    return model.SerializeToString(), outside


def test_a_bundle_of_format_version_2(tmp_path):
    """Weights in a file of their own and a codebook for each stage: all are found."""
    tiny = open_bundle(Path(__file__).parents[2] / "data" / "bundles" / "tiny")
    manifest, files = tiny.manifest, {name: tiny.read(name) for name in tiny.manifest.files}
    graphs = dict(manifest.graphs)
    for name in ("encoder", "decoder"):
        file = f"{name}.weights"
        graph, outside = in_a_file_of_their_own(tiny.read_graph(name, "fp32"), file)
        graphs[name] = dataclasses.replace(
            graphs[name], files={"fp32": f"{name}.onnx"}, weights=file
        )
        files |= {f"{name}.onnx": graph, file: outside}
    second = io.BytesIO()
    np.save(second, np.ones((8, manifest.codebook_width), np.float32))
    files["codebook-2.npy"] = second.getvalue()
    changed = dataclasses.replace(manifest, graphs=graphs, residual_sizes=(8,), prior=None)
    bundle = write_bundle(tmp_path / "two", changed, files)
    assert bundle.manifest.format_version == 2
    made, wanted = read_initial_weights(tmp_path / "two"), read_initial_weights(tiny.path)
    assert [list(book.shape) for book in made.codebooks] == [
        [manifest.codebook_size, manifest.codebook_width],
        [8, manifest.codebook_width],
    ]
    for part in ("encoder", "decoder"):
        one, other = getattr(made, part), getattr(wanted, part)
        assert one.keys() == other.keys()
        assert one
        assert all(torch.equal(one[name], other[name]) for name in one)
