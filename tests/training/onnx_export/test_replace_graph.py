"""One graph of a bundle added or replaced: nothing else changes, or nothing at all."""

import dataclasses
import shutil

import pytest

from bundle import BundleError, Graph, Recognizer, Tensor, open_bundle
from training.onnx_export.replace_graph import replace_graph

SCORES = Graph(
    (Tensor("codes", "int64", ("n", "h/8", "w/8")),),
    (Tensor("logits", "float32", ("n", 2)),),
    {},
)


@pytest.fixture
def path(tmp_path, tiny_bundle):
    return shutil.copytree(tiny_bundle, tmp_path / "tiny")


def contents(path):
    return {file.name: file.read_bytes() for file in path.iterdir()}


def test_other_files_stay_byte_for_byte(path):
    """A replaced embedder changes embedder.onnx, the manifest and the card, and no other file."""
    before, graph = contents(path), open_bundle(path).manifest.graphs["embedder"]
    bundle = replace_graph(path, "embedder", graph, {"fp32": b"new"}, {"fp32": {"images": 3}},
                          lambda manifest: dataclasses.replace(manifest, version="7"))  # fmt: skip
    after = contents(path)
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    assert changed == {"embedder.onnx", "manifest.json", "MODEL_CARD.md"}
    assert bundle.read_graph("embedder", "fp32") == b"new"


def test_the_manifest_tells_what_changed(path):
    """The new graph's proof and the caller's changes are in it; the rest is as before."""
    old = open_bundle(path).manifest
    new = replace_graph(
        path, "embedder", old.graphs["embedder"], {"fp32": b"new"}, {"fp32": {"images": 3}},
        lambda manifest: dataclasses.replace(manifest, version="7"),
    ).manifest  # fmt: skip
    assert new.version == "7"
    assert new.parity == {**old.parity, "embedder": {"fp32": {"images": 3}}}
    assert new.code_space == old.code_space
    assert dataclasses.replace(
        new, version=old.version, parity=old.parity, files=old.files
    ) == old  # fmt: skip


def test_the_card_is_of_the_new_manifest(path):
    """It names the new version."""
    graph = open_bundle(path).manifest.graphs["embedder"]
    replace_graph(path, "embedder", graph, {"fp32": b"new"}, {"fp32": {}},
                 lambda manifest: dataclasses.replace(manifest, version="7"))  # fmt: skip
    assert "version 7" in (path / "MODEL_CARD.md").read_text().splitlines()[0]


def test_a_graph_can_be_added(path):
    """A recognizer comes with its entry; all the graphs that were there stay."""
    before = contents(path)
    things = Recognizer("things", ("cat", "dog"), "CC0-1.0")
    replace_graph(path, "things", SCORES, {"fp32": b"a", "int8": b"b"}, {"fp32": {}, "int8": {}},
                 lambda m: dataclasses.replace(m, recognizers={"things": things}))  # fmt: skip
    bundle = open_bundle(path)
    assert bundle.manifest.recognizers == {"things": things}
    assert bundle.read("things.onnx") == b"a"
    assert bundle.read("things.int8.onnx") == b"b"
    assert {"manifest.json", "MODEL_CARD.md"} == {
        name for name, content in before.items() if contents(path)[name] != content
    }


def test_files_of_precisions_that_are_gone_are_removed(path):
    """A graph in fp32 alone leaves none of its earlier int8 file behind."""
    replace_graph(path, "things", SCORES, {"fp32": b"a", "int8": b"b"}, {"fp32": {}, "int8": {}})
    bundle = replace_graph(path, "things", SCORES, {"fp32": b"c"}, {"fp32": {}})
    assert bundle.precisions("things") == ("fp32",)
    assert "things.int8.onnx" not in contents(path)


def test_what_would_be_no_bundle_is_not_written(path):
    """A recognizer without its graph: refused, and every byte is as before."""
    before = contents(path)
    missing = Recognizer("absent", ("cat",), "CC0-1.0")
    with pytest.raises(BundleError):
        replace_graph(path, "things", SCORES, {"fp32": b"a"}, {"fp32": {}},
                     lambda m: dataclasses.replace(m, recognizers={"x": missing}))  # fmt: skip
    assert contents(path) == before


def test_an_unproven_precision_is_refused(path):
    """Each file has figures of its own."""
    before = contents(path)
    with pytest.raises(ValueError, match="proven in fp32"):
        replace_graph(path, "things", SCORES, {"fp32": b"a", "int8": b"b"}, {"fp32": {}})
    assert contents(path) == before
