"""Graphs run as the manifest says, batched as alone, and never other than they were asked to."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnxruntime
import pytest

from app.errors import Internal
from app.runtime.device import Device
from app.runtime.engine import Graphs
from app.runtime.sessions import GraphRefused, choose_precision
from app.runtime.warm_up import warm_up
from bundle import open_bundle, write_bundle

CPU = Device("cpu", 0, 2)
PRECISIONS = ("fp32", "fp16", "int8")


@pytest.fixture(scope="module")
def bundle(tiny_bundle):
    return open_bundle(tiny_bundle)


@pytest.fixture(scope="module", params=PRECISIONS)
def graphs(request, bundle):
    return Graphs(bundle, CPU, request.param)


def noise(n, height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(8, 8), (8, 64), (24, 40), (64, 64), (72, 104), (128, 128)])
@pytest.mark.parametrize("n", [2, 3, 8])
def test_a_batch_gives_what_its_items_give_alone(graphs, n, size):
    """Bit for bit, in every precision: codes, pictures and vectors don't depend on neighbours."""
    pixels = noise(n, *size)
    codes = graphs.encode(pixels)
    decoded, vectors = graphs.decode(codes), graphs.embed(codes)
    for i in range(n):
        alone = graphs.encode(pixels[i : i + 1])
        assert np.array_equal(alone[0], codes[i])
        assert np.array_equal(graphs.decode(alone)[0], decoded[i])
        assert np.array_equal(graphs.embed(alone)[0], vectors[i])


def test_threads_don_t_change_codes(bundle):
    """One thread or two, the sums are the same."""
    pixels = noise(2, 96, 64)
    codes = [Graphs(bundle, Device("cpu", 0, n), "fp32").encode(pixels) for n in (1, 2)]
    assert np.array_equal(*codes)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("size", [(512, 768), (1104, 520), (264, 1600)])
def test_tiles_give_what_the_whole_image_gives(bundle, precision, size):
    """Codes and pictures are the same to the last bit, however small the tiles."""
    pixels = noise(1, *size)
    whole = Graphs(bundle, CPU, precision)
    tiled = Graphs(bundle, CPU, precision, tile_pixels=2**16)
    codes = whole.encode(pixels)
    assert np.array_equal(tiled.encode(pixels), codes)
    assert np.array_equal(tiled.decode(codes), whole.decode(codes))


def test_a_graph_of_unknown_reach_is_never_run_in_tiles(bundle, tmp_path):
    """Attention over the whole image, say, would give other codes."""
    unknown = changed(bundle, tmp_path / "b", "encoder", reach=None)
    graphs = Graphs(unknown, CPU, "fp32", tile_pixels=2**14)
    seen = graphs._sessions["encoder"] = _Spy(graphs._sessions["encoder"])
    graphs.encode(noise(1, 256, 256))
    assert seen.shapes == [(1, 256, 256, 3)]


def test_large_images_run_in_tiles_of_bounded_size(bundle):
    """No run sees more pixels than it may, halos included."""
    graphs = Graphs(bundle, CPU, "fp32", tile_pixels=2**16)
    seen = graphs._sessions["encoder"] = _Spy(graphs._sessions["encoder"])
    graphs.encode(noise(1, 600, 808))
    assert len(seen.shapes) > 1
    assert max(h * w for _, h, w, _ in seen.shapes) <= 2**16


@pytest.mark.parametrize("grid", [(3, 4, 8), (40, 8, 8), (1, 64, 64), (2, 40, 24), (1, 3, 600)])
def test_many_latents_get_the_codes_they_get_in_one_run(bundle, grid):
    """The quantizer sees them in parts."""
    n, rows, columns = grid
    width = bundle.manifest.codebook_width
    latents = np.random.default_rng(0).normal(size=(n, width, rows, columns)).astype(np.float32)
    run = onnxruntime.InferenceSession(
        bundle.read_graph("quantizer", "fp32"), providers=["CPUExecutionProvider"]
    )
    (codes,) = run.run(None, {"latents": latents})
    assert np.array_equal(Graphs(bundle, CPU, "fp32").quantize(latents), codes)


def test_the_graphs_chained_give_what_plain_runs_give(bundle):
    """Encoder and quantizer chained on the device equal the two graphs run by hand."""
    pixels = noise(1, 64, 64)
    value = pixels
    for name in ("encoder", "quantizer"):
        run = onnxruntime.InferenceSession(
            bundle.read_graph(name, "fp32"), providers=["CPUExecutionProvider"]
        )
        (value,) = run.run(None, {run.get_inputs()[0].name: value})
    assert np.array_equal(Graphs(bundle, CPU, "fp32").encode(pixels), value)


def test_vectors_have_length_one(graphs):
    """As the contract promises."""
    vectors = graphs.embed(graphs.encode(noise(3, 64, 48)))
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-3)


def test_auto_is_fp16_on_cuda_and_fp32_on_a_cpu(bundle):
    """int8 is faster on some CPUs, but codes would then depend on the machine."""
    assert choose_precision("auto", CPU, bundle) == "fp32"
    assert choose_precision("auto", Device("cuda", 0, 1), bundle) == "fp16"
    assert choose_precision("int8", CPU, bundle) == "int8"


def changed(bundle, path, graph, **fields):
    """A copy of a bundle whose manifest says something else of a graph."""
    graphs = dict(bundle.manifest.graphs)
    graphs[graph] = dataclasses.replace(graphs[graph], **fields)
    manifest = dataclasses.replace(bundle.manifest, graphs=graphs)
    return write_bundle(path, manifest, {name: bundle.read(name) for name in manifest.files})


def test_a_precision_the_bundle_lacks_is_refused(bundle, tmp_path):
    """Asked for by name, it is not silently another."""
    files = {"fp32": bundle.manifest.graphs["encoder"].files["fp32"]}
    lacking = changed(bundle, tmp_path / "b", "encoder", files=files)
    with pytest.raises(GraphRefused, match="fp32, not in int8"):
        choose_precision("int8", CPU, lacking)
    assert choose_precision("auto", Device("cuda", 0, 1), lacking) == "fp32"


@pytest.mark.parametrize(
    "field",
    [
        {"name": "picture"},
        {"dtype": "float32"},
        {"axes": ("n", "h", "w", 4)},
        {"axes": ("n", "h", "w")},
    ],
)
def test_a_graph_that_is_not_what_the_manifest_says_is_refused(bundle, tmp_path, field):
    """Names, types, number of axes and fixed lengths."""
    port = dataclasses.replace(bundle.manifest.graphs["encoder"].inputs[0], **field)
    lying = changed(bundle, tmp_path / "b", "encoder", inputs=(port,))
    with pytest.raises(GraphRefused, match=r"graph 'encoder' .*but the manifest says"):
        Graphs(lying, CPU, "fp32")


def test_a_file_that_is_no_graph_is_refused(bundle, tmp_path):
    """Its bytes are as the manifest says, but ONNX Runtime can't read them."""
    files = {name: bundle.read(name) for name in bundle.manifest.files}
    files[bundle.manifest.graphs["decoder"].files["fp32"]] = b"not a graph"
    broken = write_bundle(tmp_path / "b", bundle.manifest, files)
    with pytest.raises(GraphRefused, match=r"graph 'decoder' .*can't be loaded"):
        Graphs(broken, CPU, "fp32")


def test_warming_up_holds_outputs_to_the_manifest(bundle, tmp_path):
    """A codebook said to be smaller than the codes that come out is found out."""
    manifest = dataclasses.replace(bundle.manifest, codebook_size=2)
    files = {name: bundle.read(name) for name in manifest.files}
    lying = write_bundle(tmp_path / "b", manifest, files)
    warm_up(Graphs(bundle, CPU, "fp32"))
    with pytest.raises(GraphRefused, match="codes are not within"):
        warm_up(Graphs(lying, CPU, "fp32"))


def test_values_that_are_not_finite_are_never_passed_on(bundle):
    """NaN latents would be quantized to some code as if nothing had happened."""
    graphs = Graphs(bundle, CPU, "fp32")
    graphs._sessions["embedder"] = _Fixed([np.full((1, 8), np.nan, np.float32)])
    with pytest.raises(Internal, match="not finite"):
        graphs.embed(np.zeros((1, 4, 4), np.int64))


class _Fixed:
    """A session whose outputs are given."""

    def __init__(self, outputs):
        self.outputs = outputs

    def get_inputs(self):
        return [type("Port", (), {"name": "codes"})]

    def run(self, *_arguments):
        return self.outputs


class _Spy:
    """A session that notes the shapes of what it is given."""

    def __init__(self, session):
        self._session = session
        self.shapes = []

    def get_inputs(self):
        return self._session.get_inputs()

    def run(self, names, feed, options=None):
        self.shapes += [value.shape for value in feed.values()]
        return self._session.run(names, feed, options)
