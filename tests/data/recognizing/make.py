"""Makes the bundle beside this file: the tiny model with two recognizers that are known by hand.

    python tests/data/recognizing/make.py

Both look each code up in a table and take the mean over the grid, so that a test can tell what
they must say: `colours` scores six colours by how near they are to what the code decodes to, and
gives the looked-up scores as its activation map; `tones` tells dark from light, without a map.
The bundle is version 2 of `tests/data/bundles/tiny`, in fp32 alone: of the same code space.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2]))

from bundle import Bundle, Graph, Recognizer, Tensor, open_bundle, write_bundle  # noqa: E402

COLOURS = {
    "black": (20, 20, 20),
    "blue": (90, 130, 190),
    "brown": (120, 85, 55),
    "green": (70, 110, 50),
    "grey": (128, 128, 128),
    "white": (235, 235, 235),
}
CARD = """\
# tiny, version 2

The test model `tiny` with two recognizers made by hand: for tests, and for nothing else.
"""
TONES = {"dark": (0, 0, 0), "light": (255, 255, 255)}


def colours_of_codes(bundle: Bundle) -> np.ndarray:
    """The mean colour that each code decodes to among its like: `[K, 3]`, 0…255."""
    decoder = onnxruntime.InferenceSession(
        bundle.read_graph("decoder", "fp32"), providers=["CPUExecutionProvider"]
    )
    stride, size = bundle.manifest.stride, bundle.manifest.codebook_size
    codes = np.broadcast_to(np.arange(size)[:, None, None], (size, 5, 5))
    pixels = decoder.run(None, {"codes": np.ascontiguousarray(codes)})[0]
    middle = slice(2 * stride, 3 * stride)
    return np.asarray(pixels[:, middle, middle].mean(axis=(1, 2)))


def scores(colours: np.ndarray, classes: dict[str, tuple[int, int, int]]) -> np.ndarray:
    """Float32 `[K, classes]`: 8 at the colour itself, 0 at a distance of 80, negative beyond."""
    distance = np.linalg.norm(colours[:, None] - np.array(list(classes.values())), axis=2)
    return np.asarray((8 - distance / 10).round(1), np.float32)


def lookup(table: np.ndarray, *, with_map: bool) -> bytes:
    """A graph: codes `[n, rows, columns]` → the mean of what the table holds for them."""
    nodes = [
        helper.make_node("Gather", ["table", "codes"], ["looked_up"], axis=0),
        helper.make_node("Transpose", ["looked_up"], ["map"], perm=[0, 3, 1, 2]),
        helper.make_node("ReduceMean", ["map", "grid"], ["logits"], keepdims=0),
    ]
    classes = table.shape[1]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", classes])]
    if with_map:
        sides = ["n", classes, "rows", "columns"]
        outputs.append(helper.make_tensor_value_info("map", TensorProto.FLOAT, sides))
    graph = helper.make_graph(
        nodes,
        "lookup",
        [helper.make_tensor_value_info("codes", TensorProto.INT64, ["n", "rows", "columns"])],
        outputs,
        [
            numpy_helper.from_array(table, "table"),
            numpy_helper.from_array(np.array([2, 3], np.int64), "grid"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def described(classes: int, file: str, *, with_map: bool) -> Graph:
    """What the manifest says of such a graph."""
    codes = Tensor("codes", "int64", ("n", "h/8", "w/8"))
    outputs = [Tensor("logits", "float32", ("n", classes))]
    if with_map:
        outputs.append(Tensor("map", "float32", ("n", classes, "h/8", "w/8")))
    return Graph((codes,), tuple(outputs), {"fp32": file})


def main() -> None:
    """Write the bundle."""
    tiny = open_bundle(HERE.parent / "bundles" / "tiny")
    colours = colours_of_codes(tiny)
    graphs = {
        name: dataclasses.replace(graph, files={"fp32": graph.files["fp32"]})
        for name, graph in tiny.manifest.graphs.items()
    }
    files = {graph.files["fp32"]: tiny.read_graph(name, "fp32") for name, graph in graphs.items()}
    files["codebook.npy"] = tiny.read("codebook.npy")
    files["MODEL_CARD.md"] = CARD.encode()
    recognizers = {}
    for name, classes, with_map in (("colours", COLOURS, True), ("tones", TONES, False)):
        file = f"{name}.onnx"
        files[file] = lookup(scores(colours, classes), with_map=with_map)
        graphs[name] = described(len(classes), file, with_map=with_map)
        recognizers[name] = Recognizer(name, tuple(classes), "CC0: made by hand, without data")
    manifest = dataclasses.replace(
        tiny.manifest, version="2", graphs=graphs, recognizers=recognizers, parity={}
    )
    write_bundle(HERE / "tiny", manifest, files)


if __name__ == "__main__":
    main()
