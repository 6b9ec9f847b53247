"""Bad bundles: refused at the start, by name, in one line."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, numpy_helper

from app.runtime.device import Device
from app.runtime.registry import ModelsRefused, load_models
from bundle import open_bundle, write_bundle

TINY = Path(__file__).parents[2] / "data" / "bundles" / "tiny"
FILES = sorted(open_bundle(TINY).manifest.files)


def refusal(folder):
    """Why a models folder is refused."""
    with pytest.raises(ModelsRefused) as caught:
        load_models(folder, None, Device("cpu", 0, 1), "fp32")
    return str(caught.value)


@pytest.fixture
def copy(tmp_path):
    """A copy of the tiny bundle, in a models folder of its own."""
    return Path(shutil.copytree(TINY, tmp_path / "tiny"))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_a_changed_byte_is_seen_in_every_file(copy, name, where):
    """Whether the file is used or not, and wherever in it the byte is."""
    content = bytearray((copy / name).read_bytes())
    content[{"first": 0, "middle": len(content) // 2, "last": -1}[where]] ^= 1
    (copy / name).write_bytes(content)
    assert refusal(copy.parent) == (
        f"bundle tiny: {name} does not have the SHA-256 of the manifest"
    )


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_a_missing_file_is_named(copy, name):
    """Instead of being found out at the first request."""
    (copy / name).unlink()
    assert name in refusal(copy.parent)


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_a_link_out_of_the_folder_is_not_followed(copy, name, tmp_path_factory):
    """Not even to the same bytes."""
    outside = tmp_path_factory.mktemp("outside")
    (copy / name).rename(outside / name)
    (copy / name).symlink_to(outside / name)
    assert refusal(copy.parent) == f"bundle tiny: {name} is a link that leads out of the folder"


def rewrite(copy, manifest=None, **files):
    """Replace files, sizes and hashes with them: a bundle that someone made wrong."""
    bundle = open_bundle(copy)
    content = {name: bundle.read(name) for name in bundle.manifest.files}
    changed = {name.replace("_", "."): value for name, value in files.items()}
    write_bundle(copy, manifest or bundle.manifest, content | changed)


def edit(copy, **values):
    """Change the manifest's text."""
    file = copy / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def truncated_on_disk(copy):
    file = copy / "decoder.onnx"
    file.write_bytes(file.read_bytes()[:-100])


def truncated_before_it_was_hashed(copy):
    rewrite(copy, decoder_onnx=(copy / "decoder.onnx").read_bytes()[:-100])


def of_a_newer_version(copy):
    edit(copy, format_version=4)


def half_a_manifest(copy):
    file = copy / "manifest.json"
    file.write_bytes(file.read_bytes()[:2000])


def shapes_not_those_of_the_manifest(copy):
    manifest = open_bundle(copy).manifest
    decoder = manifest.graphs["decoder"]
    pixels = dataclasses.replace(decoder.outputs[0], axes=("n", 3, "h", "w"))
    graphs = {**manifest.graphs, "decoder": dataclasses.replace(decoder, outputs=(pixels,))}
    rewrite(copy, dataclasses.replace(manifest, graphs=graphs))


def half_the_rows(copy):
    """Latents of half the height: every shape is dynamic, so only running the graph shows it."""
    model = onnx.load(copy / "encoder.onnx")
    (last,) = [node for node in model.graph.node if "latents" in node.output]
    last.output[0] = "whole"
    nodes = onnx.parser.parse_graph(
        "g (float[n, d, r, c] whole) => (float[n, d, s, c] latents)"
        "<int64[1] s0 = {0}, int64[1] s1 = {9999999}, int64[1] s2 = {2}>"
        "{ latents = Slice (whole, s0, s1, s2, s2) }"
    )
    model.graph.node.extend(nodes.node)
    model.graph.initializer.extend(nodes.initializer)
    rewrite(copy, encoder_onnx=model.SerializeToString())


def not_a_number_in_the_weights(copy):
    model = onnx.load(copy / "encoder.onnx")
    weights = next(one for one in model.graph.initializer if len(one.dims) == 4)
    values = numpy_helper.to_array(weights).copy()
    values[0] = np.nan
    weights.CopyFrom(numpy_helper.from_array(values, weights.name))
    rewrite(copy, encoder_onnx=model.SerializeToString())


def weights_in_a_file_outside(copy, place="../../weights.bin"):
    """External data; the file is there, and of the right size."""
    model = onnx.load(copy / "encoder.onnx")
    weights = next(one for one in model.graph.initializer if len(one.dims) == 4)
    (copy.parent / "weights.bin").write_bytes(weights.raw_data)
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    entry = weights.external_data.add()
    entry.key, entry.value = "location", place.format(copy.parent)
    rewrite(copy, encoder_onnx=model.SerializeToString())


def weights_in_a_file_named_in_full(copy):
    weights_in_a_file_outside(copy, "{}/weights.bin")


def a_file_name_that_leads_out(copy):
    files = json.loads((copy / "manifest.json").read_text())["files"]
    edit(copy, files=files | {"../weights.bin": files["codebook.npy"]})


def a_codebook_of_another_size(copy):
    file = io.BytesIO()
    np.save(file, np.zeros((255, 4), np.float32))
    rewrite(copy, codebook_npy=file.getvalue())


def a_codebook_that_is_a_pickle(copy):
    file = io.BytesIO()
    np.save(file, np.array([{"a": 1}], object), allow_pickle=True)
    rewrite(copy, codebook_npy=file.getvalue())


def a_folder_for_a_file(copy):
    (copy / "quantizer.onnx").unlink()
    (copy / "quantizer.onnx").mkdir()


SPOILT = {
    truncated_on_disk: "decoder.onnx is not 138030 bytes long",
    truncated_before_it_was_hashed: "graph 'decoder' (fp32) can't be loaded",
    of_a_newer_version: "version 4",
    half_a_manifest: "manifest",
    shapes_not_those_of_the_manifest: "graph 'decoder' (fp32) has pixels",
    half_the_rows: "codes of (1, 64, 64, 3) are (1, 4, 8), not (1, 8, 8)",
    not_a_number_in_the_weights: "latents that are not finite",
    weights_in_a_file_outside: "graph 'encoder' (fp32) can't be loaded",
    weights_in_a_file_named_in_full: "graph 'encoder' (fp32) can't be loaded",
    a_file_name_that_leads_out: "../weights.bin",
    a_codebook_of_another_size: "codebook.npy isn't of the size",
    a_codebook_that_is_a_pickle: "codebook.npy can't be read",
    a_folder_for_a_file: "quantizer.onnx is missing",
}


@pytest.fixture(scope="module")
def starts(serve, tmp_path_factory):
    """A process for each bad bundle, all started at once: each takes half a second to say so."""
    with ExitStack() as stack:
        servers = {}
        for spoil in SPOILT:
            folder = tmp_path_factory.mktemp("spoilt")
            spoil(Path(shutil.copytree(TINY, folder / "tiny")))
            servers[spoil] = stack.enter_context(serve(models_dir=folder, ready=False))
        yield servers


@pytest.mark.parametrize("spoil", SPOILT, ids=lambda spoil: spoil.__name__)
def test_a_bad_bundle_is_a_failed_start(starts, spoil):
    """Exit code 1, and one line with the bundle's name and what is wrong with it."""
    server = starts[spoil]
    assert server.ended(60) == 1
    (line,) = [line for line in server.log.splitlines() if not line.startswith("{")]
    assert line.startswith("tessera: bundle tiny: ")
    assert SPOILT[spoil] in line
    assert "Traceback" not in server.log
