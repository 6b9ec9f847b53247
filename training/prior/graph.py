"""A prior's two ONNX graphs for a stage: groups from neighbours, and members from state and group.

Written node by node, in operators on integers alone, whose results the ONNX standard leaves no
choice about. `MatMulInteger` of uint8 by int8 is exact on processors without VNNI instructions too,
since weights have seven bits (`training.prior.network.MOST_WEIGHT`).
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from training.onnx_export.graphs import OPSET
from training.prior.integers import Integers, IntegerStage
from training.prior.network import MOST_ACTIVATION

# Added before a shift, so that what is divided is never negative: division rounds down then, on
# every machine; a multiple of every power of two that is shifted by, and taken off afterwards.
_OFFSET = 1 << 26


class _Graph:
    """Nodes and numbers of a graph while it is put together."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.numbers: dict[str, Integers] = {}

    def number(self, name: str, values: object, dtype: type = np.int32) -> str:
        self.numbers[name] = np.asarray(values, dtype=dtype)
        return name

    def add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def written(
        self, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto], name: str
    ) -> bytes:
        graph = helper.make_graph(
            self.nodes,
            name,
            inputs,
            outputs,
            [numpy_helper.from_array(values, key) for key, values in self.numbers.items()],
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10
        )
        onnx.checker.check_model(model, full_check=True)
        buffer = io.BytesIO()
        onnx.save_model(model, buffer)
        return buffer.getvalue()

    def activations(self, sums: str, shift: Integers, name: str) -> str:
        """`clip(sums >> shift, 0, 255)` as uint8."""
        self.add("Max", [sums, self.number("zero", 0)], f"{name}.positive")
        self.number(f"{name}.divisor", 1 << shift.astype(np.int64))
        self.add("Div", [f"{name}.positive", f"{name}.divisor"], f"{name}.shifted")
        self.number("most", MOST_ACTIVATION)
        self.add("Min", [f"{name}.shifted", "most"], f"{name}.cut")
        return self.add("Cast", [f"{name}.cut"], f"{name}.activations", to=TensorProto.UINT8)

    def frequencies(self, sums: str, shift: Integers, table: Integers, name: str) -> str:
        """Distance of each logit `sums >> shift` from the largest of its row, looked up."""
        self.add("Add", [sums, self.number("offset", _OFFSET)], f"{name}.positive")
        self.number(f"{name}.divisor", 1 << shift.astype(np.int64))
        self.add("Div", [f"{name}.positive", f"{name}.divisor"], f"{name}.shifted")
        self.number(f"{name}.added", _OFFSET >> shift.astype(np.int64))
        self.add("Sub", [f"{name}.shifted", f"{name}.added"], f"{name}.logits")
        self.number("last_axis", [1], np.int64)
        self.add("ReduceMax", [f"{name}.logits", "last_axis"], f"{name}.largest", keepdims=1)
        self.add("Sub", [f"{name}.largest", f"{name}.logits"], f"{name}.distances")
        self.number("furthest", len(table) - 1)
        self.add("Min", [f"{name}.distances", "furthest"], f"{name}.near")
        self.number("frequency_table", table)
        return self.add("Gather", ["frequency_table", f"{name}.near"], f"{name}.frequencies")

    def sums(self, value: str, weight: Integers, bias: Integers, name: str) -> str:
        """`value · weight + bias` in int32."""
        self.number(f"{name}.weight", weight, np.int8)
        self.add("MatMulInteger", [value, f"{name}.weight"], f"{name}.products")
        self.number(f"{name}.bias", bias)
        return self.add("Add", [f"{name}.products", f"{name}.bias"], f"{name}.sums")


def groups_graph(stage: IntegerStage) -> bytes:
    """Neighbours int32 `[m, C]` → `frequencies` int32 `[m, G]`, `state` uint8 `[m, h]`, `codes`.

    `codes` is int32 `[G, M]`: the same at every run.
    """
    g = _Graph()
    stages = sorted({of for of, _, _ in stage.neighbours})
    looked_up = []
    for index, of in enumerate(stages):
        g.number(f"embedding.{index}", stage.embeddings[index], np.uint8)
        columns = [i for i, (s, _, _) in enumerate(stage.neighbours) if s == of]
        if columns != list(range(columns[0], columns[0] + len(columns))):
            raise ValueError("neighbours of one stage must stand together")
        g.number(f"columns.{index}", columns, np.int64)
        g.add("Gather", ["neighbours", f"columns.{index}"], f"seen.{index}", axis=1)
        g.add("Gather", [f"embedding.{index}", f"seen.{index}"], f"vectors.{index}", axis=0)
        g.number(f"flat.{index}", [0, len(columns) * stage.embeddings[index].shape[1]], np.int64)
        looked_up.append(g.add("Reshape", [f"vectors.{index}", f"flat.{index}"], f"row.{index}"))
    around = g.add("Concat", looked_up, "around", axis=1) if len(looked_up) > 1 else looked_up[0]
    sums = g.sums(around, stage.context.weight, stage.context.bias, "context")
    context = g.activations(sums, stage.context.shift, "context")
    sums = g.sums(context, stage.hidden.weight, stage.hidden.bias, "hidden")
    state = g.activations(sums, stage.hidden.shift, "hidden")
    sums = g.sums(state, stage.groups.weight, stage.groups.bias, "groups")
    made = g.frequencies(sums, stage.groups.shift, stage.frequencies, "groups")
    g.add("Identity", [made], "frequencies")
    g.add("Identity", [state], "state")
    g.number("members_of_groups", stage.codes)
    g.add("Identity", ["members_of_groups"], "codes")
    groups, members = stage.codes.shape
    return g.written(
        [_port("neighbours", TensorProto.INT32, ["m", len(stage.neighbours)])],
        [
            _port("frequencies", TensorProto.INT32, ["m", groups]),
            _port("state", TensorProto.UINT8, ["m", stage.hidden.weight.shape[1]]),
            _port("codes", TensorProto.INT32, [groups, members]),
        ],
        "groups",
    )


def members_graph(stage: IntegerStage) -> bytes:
    """`state` uint8 `[m, h]` and `groups` int32 `[m]` → `frequencies` int32 `[m, M]`."""
    g = _Graph()
    g.number("inside.weight", stage.inside.weight, np.int8)
    g.add("MatMulInteger", ["state", "inside.weight"], "inside.products")
    g.number("inside.bias", stage.inside.bias)
    g.add("Gather", ["inside.bias", "groups"], "inside.bias_of_group", axis=0)
    g.add("Add", ["inside.products", "inside.bias_of_group"], "inside.sums")
    inside = g.activations("inside.sums", stage.inside.shift, "inside")
    sums = g.sums(inside, stage.narrow.weight, stage.narrow.bias, "narrow")
    narrow = g.activations(sums, stage.narrow.shift, "narrow")
    g.number("members.weight", stage.members.weight, np.int8)
    g.add("Gather", ["members.weight", "groups"], "members.of_group", axis=0)
    g.number("middle_axis", [1], np.int64)
    g.add("Unsqueeze", [narrow, "middle_axis"], "members.left")
    g.add("MatMulInteger", ["members.left", "members.of_group"], "members.deep")
    g.add("Squeeze", ["members.deep", "middle_axis"], "members.products")
    g.number("members.bias", stage.members.bias)
    g.add("Gather", ["members.bias", "groups"], "members.bias_of_group", axis=0)
    g.add("Add", ["members.products", "members.bias_of_group"], "members.sums")
    made = g.frequencies("members.sums", stage.members.shift, stage.frequencies, "members")
    # A member that isn't there is never the likeliest, and a mask gives it frequency 0.
    there = stage.codes >= 0
    if there.all():
        g.add("Identity", [made], "frequencies")
    else:
        g.number("there", there)
        g.add("Gather", ["there", "groups"], "there_of_group", axis=0)
        g.add("Mul", [made, "there_of_group"], "frequencies")
    members = stage.codes.shape[1]
    return g.written(
        [
            _port("state", TensorProto.UINT8, ["m", stage.hidden.weight.shape[1]]),
            _port("groups", TensorProto.INT32, ["m"]),
        ],
        [_port("frequencies", TensorProto.INT32, ["m", members])],
        "members",
    )


def _port(name: str, kind: int, shape: list[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)
