"""Facts about export: the graphs, the parity proof and the bundle."""

import copy
import dataclasses
import shutil

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from app.runtime.device import Device
from app.runtime.sessions import GraphRefused, choose_precision
from bundle import open_bundle
from training.data.dataset import find_images, reduced
from training.export import export, main, sample, steps_seen
from training.onnx_export.graphs import (
    EncoderGraph,
    export_graph,
    graph_signatures,
    run,
    session_of,
)
from training.onnx_export.parity import BUDGETS, Parity, ParityError, check
from training.onnx_export.proof import Proof, odd_sizes
from training.onnx_export.shared_weights import rounded_to_half
from training.tokenizer.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from training.tokenizer.config import NoQuantizerConfig
from training.tokenizer.distributed import DistributedContext
from training.tokenizer.model import Tokenizer, code_space_of
from training.train import train


@pytest.fixture(scope="module")
def trained(tiny, photos, tmp_path_factory):
    """A checkpoint of a few steps: its pictures are poor, but its graphs are real."""
    out = tmp_path_factory.mktemp("run")
    return load_checkpoint(train(tiny, [photos], out, DistributedContext(torch.device("cpu"))))


@pytest.fixture(scope="module")
def graphs_made():
    """What torch exported so far, by module and data type: each takes seconds."""
    return {}


def kind_of(module):
    """What tells graphs of one model apart."""
    return type(module).__name__, getattr(module, "dtype", None)


@pytest.fixture(scope="module")
def exported(trained, images, graphs_made, tmp_path_factory):
    """The bundle of that checkpoint."""
    out = tmp_path_factory.mktemp("models") / "mine"
    data = ({"name": "eight photographs", "licence": "CC0-1.0"},)

    def remember(module, signature, stride):
        graphs_made[kind_of(module)] = export_graph(module, signature, stride)
        return graphs_made[kind_of(module)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.onnx_export.exporter.export_graph", remember)
        return export(trained, images, out, data=data, metrics={"kodak": {"psnr": 20.5}})


def loaded(bundle, name, precision="fp32"):
    """A session of a graph of a bundle."""
    return session_of(bundle.read_graph(name, precision), weights=bundle.read_weights(name))


@pytest.fixture(scope="module")
def network(trained):
    """The network with the averaged weights, rounded as they are stored."""
    model = Tokenizer(trained.config)
    model.load_state_dict(trained.averaged)
    return rounded_to_half(model.eval())


def test_files(exported):
    """A bundle has the four graphs, encoder and decoder in three precisions, and is small."""
    assert exported.precisions("encoder") == ("fp32", "fp16", "int8")
    assert exported.precisions("decoder") == ("fp32", "fp16", "int8")
    assert exported.precisions("quantizer") == exported.precisions("embedder") == ("fp32",)
    assert set(exported.manifest.files) >= {"codebook.npy", "MODEL_CARD.md"}


@pytest.mark.parametrize(("n", "rows", "columns"), [(1, 1, 1), (1, 5, 2), (3, 4, 7)])
def test_axes_are_dynamic(exported, network, n, rows, columns):
    """Any batch and any grid goes through all graphs, and fp32 codes are those of the network."""
    pixels = np.random.default_rng(0).integers(0, 256, (n, 8 * rows, 8 * columns, 3), np.uint8)
    sessions = {name: loaded(exported, name) for name in exported.manifest.graphs}
    latents = run(sessions["encoder"], pixels)
    codes = run(sessions["quantizer"], latents)
    assert latents.dtype == np.float32
    assert codes.dtype == np.int64
    wanted = network.encode(torch.from_numpy(pixels)).numpy()
    assert (codes == wanted).mean() >= BUDGETS["fp32"].code_agreement
    decoded = run(sessions["decoder"], codes)
    assert decoded.dtype == np.uint8
    assert decoded.shape == pixels.shape
    embedding = run(sessions["embedder"], codes)
    assert embedding.shape == (n, exported.manifest.embedding_size)
    assert np.allclose(np.linalg.norm(embedding, axis=1), 1, atol=1e-5)


def test_graphs_refer_to_no_file_but_their_weights(exported):
    """And none holds a trace of the code that made it."""
    for name, graph in exported.manifest.graphs.items():
        for precision in exported.precisions(name):
            content = exported.read_graph(name, precision)
            tensors = onnx.load_from_string(content).graph.initializer
            places = {e.value for t in tensors for e in t.external_data if e.key == "location"}
            assert places == ({graph.weights} if graph.weights else set())
            assert b"site-packages" not in content
            assert b'File "' not in content


def test_weights_are_stored_once(exported):
    """In half precision, for all three precisions: no ONNX file holds a large weight."""
    assert exported.manifest.format_version == 2
    for name in ("encoder", "decoder"):
        assert exported.manifest.graphs[name].weights == f"{name}.weights"
        for precision in exported.precisions(name):
            model = onnx.load_from_string(exported.read_graph(name, precision))
            kernels = [t for t in model.graph.initializer if len(t.dims) == 4]
            large = [t for t in kernels if np.prod(t.dims) >= 1024]
            assert large
            assert {t.data_type for t in large} == {onnx.TensorProto.FLOAT16}
            assert all(t.external_data for t in large)
    assert exported.manifest.training["weights"]["stored"] == "float16"


def test_weights_stay_in_float32_where_rounding_costs_too_much(
    trained, images, graphs_made, exported_before, tmp_path, monkeypatch
):
    """Then every graph holds its own, and the bundle can be read as version 1."""
    monkeypatch.setattr("training.onnx_export.exporter._MOST_ROUNDING", -99)
    # Graphs of rounded weights are still within the budgets of those that aren't.
    monkeypatch.setitem(
        BUDGETS, "fp32", dataclasses.replace(BUDGETS["fp32"], latent_error=1, code_agreement=0)
    )
    bundle = export(trained, images, tmp_path / "mine", precisions=("fp32",))
    assert bundle.manifest.format_version == 1
    assert bundle.manifest.training["weights"]["stored"] == "float32"
    assert bundle.read_graph("encoder", "fp32") == graphs_made["EncoderGraph", torch.float32]


def test_int8_runs_in_int8(exported, tmp_path):
    """ONNX Runtime quantizes the weights once, at load, and fuses convolutions of 8 bits."""
    for name in ("encoder", "decoder"):
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / f"{name}.onnx")
        options.log_severity_level = 4
        for file, content in exported.read_weights(name).items():
            options.add_external_initializers_from_files_in_memory(
                [file], [content], [len(content)]
            )
        graph = exported.read_graph(name, "int8")
        onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        nodes = {node.op_type for node in onnx.load(tmp_path / f"{name}.onnx").graph.node}
        assert nodes & {"QLinearConv", "ConvInteger"}


def test_manifest_axes_match_the_graphs(exported):
    """What the manifest says of inputs and outputs is what ONNX Runtime finds."""
    for name, graph in exported.manifest.graphs.items():
        for precision in graph.files:
            session = loaded(exported, name, precision)
            for port, real in (
                (graph.inputs[0], session.get_inputs()[0]),
                (graph.outputs[0], session.get_outputs()[0]),
            ):
                assert (port.name, list(port.axes)) == (real.name, real.shape)


def test_parity_is_recorded(exported):
    """The proof's figures stand in the manifest, for each graph and precision."""
    for name, graph in exported.manifest.graphs.items():
        assert set(exported.manifest.parity[name]) == set(graph.files)
    assert exported.manifest.parity["encoder"]["int8"]["code_agreement"] > 0.7


def test_code_space(exported, trained):
    """The code space follows from codebook and decoder weights as trained; any change is another.

    How weights are stored is not part of it.
    """
    network = Tokenizer(trained.config)
    network.load_state_dict(trained.averaged)
    assert code_space_of(network) == exported.manifest.code_space
    other = copy.deepcopy(network)
    with torch.no_grad():
        other.encoder.to_latents.bias += 1
    assert code_space_of(other) == exported.manifest.code_space
    with torch.no_grad():
        other.decoder.to_pixels[0].bias += 1e-3
    assert code_space_of(other) != exported.manifest.code_space


def test_codebook_file(exported, network):
    """codebook.npy holds the vectors that the decoder sees."""
    codebook = np.load(exported.path / "codebook.npy", allow_pickle=False)
    assert codebook.dtype == np.dtype("<f4")
    assert np.array_equal(codebook, network.quantizer.normalized_codebook().numpy())


def test_model_card(exported):
    """The card names data, licence, code space, metrics and what each precision costs."""
    card = (exported.path / "MODEL_CARD.md").read_text(encoding="utf-8")
    for fact in ("CC0-1.0", exported.manifest.code_space, "20.5", "| encoder | int8 |"):
        assert fact in card


def test_reopened_from_disk(exported):
    """The written folder passes all checks of the reader."""
    assert open_bundle(exported.path).manifest == exported.manifest


def test_proof_catches_a_wrong_graph(network, images, exported):
    """A decoder of other weights fails the proof by its PSNR, an encoder also by its codes."""
    proof = Proof(network, torch.nn.Identity(), odd_sizes(images))
    torch.manual_seed(1)
    wrong = Tokenizer(network.config).eval()
    shapes = graph_signatures(wrong, exported.manifest.embedding_size)
    graph = session_of(export_graph(EncoderGraph(wrong), shapes["encoder"], 8))
    measured = proof.encoder(graph)
    with pytest.raises(ParityError, match="encoder fp32"):
        check({"encoder": {"fp32": measured}})


@pytest.fixture
def exported_before(exported, graphs_made, images, monkeypatch):
    """Graphs that torch exported already aren't exported again."""

    def remembered(module, _signature, _stride):
        return graphs_made[kind_of(module)]

    monkeypatch.setattr("training.onnx_export.exporter.export_graph", remembered)
    # In the order in which that bundle's embedder was fitted to them.
    monkeypatch.setattr("training.export.sample", lambda _: images)


@pytest.mark.parametrize(
    ("graph", "left_out"),
    [("encoder", {"encoder", "decoder"}), ("decoder", {"decoder"})],
)
def test_a_precision_that_fails_its_proof_is_left_out(
    graph, left_out, trained, images, exported_before, tmp_path, monkeypatch
):
    """The others are written, and the manifest and the card say what failed and why.

    A service chooses by the encoder, so without it the decoder's file would never be used.
    """
    strict = dataclasses.replace(
        BUDGETS["int8"], **{"code_agreement": 1.01} if graph == "encoder" else {"psnr_loss": -99}
    )
    if graph == "decoder":
        monkeypatch.setattr(Proof, "encoder", lambda *_: Parity(1, code_agreement=1.0))
    monkeypatch.setitem(BUDGETS, "int8", strict)
    bundle = export(trained, images, tmp_path / "mine")
    for name in ("encoder", "decoder"):
        wanted = ("fp32", "fp16") if name in left_out else ("fp32", "fp16", "int8")
        assert bundle.precisions(name) == wanted
        assert bool(bundle.manifest.reason_left_out(name, "int8")) == (name in left_out)
    assert "| left out: " in (tmp_path / "mine" / "MODEL_CARD.md").read_text()


def test_a_service_says_why_a_precision_is_not_there(
    trained, images, exported_before, tmp_path, monkeypatch
):
    """The loader's message is what export measured, with what to set instead."""
    strict = dataclasses.replace(BUDGETS["int8"], code_agreement=1.01)
    monkeypatch.setitem(BUDGETS, "int8", strict)
    bundle = export(trained, images, tmp_path / "mine")
    with pytest.raises(GraphRefused, match=r"fp32, fp16, not in int8 \(left out at export: only"):
        choose_precision("int8", Device("cpu", 0, 1), bundle)


def test_failed_fp32_writes_nothing(trained, images, exported_before, tmp_path, monkeypatch):
    """When an fp32 graph misses its budget, no folder appears."""
    strict = dataclasses.replace(BUDGETS["fp32"], code_agreement=1.01)
    monkeypatch.setitem(BUDGETS, "fp32", strict)
    with pytest.raises(ParityError, match="encoder fp32"):
        export(trained, images, tmp_path / "mine")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def checkpoint(trained, tmp_path):
    """The checkpoint as a file."""
    save_checkpoint(tmp_path / "last.pt", trained)
    return tmp_path / "last.pt"


def test_precisions_are_chosen(checkpoint, photos, exported_before, tmp_path, capsys):
    """`--precisions` writes those alone; what it doesn't know, or no fp32, is one line."""
    command = [str(checkpoint), "--data", str(photos), "--out", str(tmp_path / "mine")]
    for wrong in ("fp32,fp64", "int8", ""):
        assert main([*command, "--precisions", wrong]) == 2
        assert capsys.readouterr().err.startswith("error: --precisions takes fp32 and any of")
    assert main([*command, "--precisions", "fp16,fp32"]) == 0
    assert open_bundle(tmp_path / "mine").precisions("encoder") == ("fp32", "fp16")


def test_a_bundle_is_replaced_only_when_told(
    checkpoint, photos, recognizing_bundle, exported_before, tmp_path, capsys
):
    """The refusal and the replacement both name what is lost; the version rises."""
    out = shutil.copytree(recognizing_bundle, tmp_path / "tiny")
    before = (out / "manifest.json").read_bytes()
    command = [str(checkpoint), "--data", str(photos), "--out", str(out), "--precisions", "fp32"]
    assert main(command) == 2
    there = "tiny, version 2, with its prior and the recognizers colours, tones"
    error = capsys.readouterr().err
    assert f"holds {there}, which would be lost" in error
    assert "--replace" in error
    assert (out / "manifest.json").read_bytes() == before
    assert main([*command, "--replace"]) == 0
    assert f"replaced {there}\n" in capsys.readouterr().out
    manifest = open_bundle(out).manifest
    assert manifest.version == "3"
    assert not manifest.recognizers


def test_a_folder_that_is_no_bundle_is_never_replaced(checkpoint, photos, tmp_path, capsys):
    """Not even with --replace."""
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "letter.txt").write_text("dear")
    command = [str(checkpoint), "--data", str(photos), "--out", str(tmp_path / "precious")]
    assert main([*command, "--replace"]) == 2
    assert "is not a bundle" in capsys.readouterr().err
    assert (tmp_path / "precious" / "letter.txt").read_text() == "dear"


def test_a_code_space_is_kept_only_for_the_same_codes(
    checkpoint, exported, tiny_bundle, photos, exported_before, tmp_path, capsys
):
    """By the rule of FORMAT.md, measured; otherwise nothing is written."""
    earlier = shutil.copytree(exported.path, tmp_path / "earlier")
    text = (earlier / "manifest.json").read_text()
    (earlier / "manifest.json").write_text(text.replace(exported.manifest.code_space, "ab" * 32))
    command = [str(checkpoint), "--data", str(photos), "--precisions", "fp32"]
    command += ["--out", str(tmp_path / "mine"), "--code-space-of"]
    assert main([*command, str(tiny_bundle)]) == 2
    assert "the codebook of stage 1 is another" in capsys.readouterr().err
    assert not (tmp_path / "mine").exists()
    assert main([*command, str(earlier)]) == 0
    manifest = open_bundle(tmp_path / "mine").manifest
    assert manifest.code_space == "ab" * 32
    assert manifest.training["code_space"]["code_agreement"] > 0.995


def test_how_much_of_its_run_a_checkpoint_has_seen(trained):
    """A run that ended, and one that was stopped half-way."""
    assert steps_seen(trained) == "after all 12 steps of its run"
    half = dataclasses.replace(trained, step=6)
    assert steps_seen(half).startswith("after 6 of the 12 steps of its run (50%)")


def test_plain_autoencoder_has_no_codes(trained, images, tmp_path):
    """A model without a codebook can't become a bundle, and is told so."""
    quantizer = NoQuantizerConfig(width=trained.config.quantizer.width)
    config = dataclasses.replace(trained.config, quantizer=quantizer)
    with pytest.raises(CheckpointError, match="no codes"):
        export(dataclasses.replace(trained, config=config), images, tmp_path / "mine")


def test_command_line_errors(tmp_path, photos, capsys):
    """A missing checkpoint ends with exit code 2 and one line."""
    arguments = ["--data", str(photos), "--out", str(tmp_path / "mine")]
    assert main([str(tmp_path / "none.pt"), *arguments]) == 2
    error = capsys.readouterr().err
    assert "no checkpoint" in error
    assert error.count("\n") == 1


def test_a_version_that_no_manifest_may_hold_is_refused(checkpoint, tmp_path, photos, capsys):
    """Before the work, in one line."""
    arguments = ["--data", str(photos), "--out", str(tmp_path / "mine"), "--version", "V 2"]
    assert main([str(checkpoint), *arguments]) == 2
    assert capsys.readouterr().err.startswith("error: --version must match")


def test_unreadable_images_are_named_and_skipped(photos, cut_jpeg, tmp_path, capsys):
    """One with a broken header, one with broken pixels; the others are the sample."""
    shutil.copytree(photos, tmp_path / "data")
    (tmp_path / "data" / "header.png").write_bytes(b"not an image at all")
    (tmp_path / "data" / "pixels.jpg").write_bytes(cut_jpeg)
    found = find_images([tmp_path / "data"])
    assert len(found.paths) == 9  # the header of the second is fine
    assert len(sample(found)) == 8
    named = [line.split(" (")[0] for line in capsys.readouterr().err.splitlines()]
    folder = tmp_path / "data"
    assert named == [f"unreadable, skipped: {folder / n}" for n in ("header.png", "pixels.jpg")]


def test_no_more_images_are_kept_whole_than_are_needed_so(photos, monkeypatch):
    """The others are as small as an embedder is fitted to; order and choice stay the same."""
    found = find_images([photos])
    whole = sample(found)
    monkeypatch.setattr("training.export._WHOLE_IMAGES", 3)
    monkeypatch.setattr("training.export.FIT_SIDE", 32)
    few = sample(found)
    for a, b in zip(whole[:3], few[:3], strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(whole[3:], few[3:], strict=True):
        np.testing.assert_array_equal(reduced(a, 32), b)
