"""From a trained prior to a bundle: whole numbers, graphs proven equal to them, the manifest."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle import Bundle, Graph, Prior, PriorStage, open_bundle, write_bundle
from bundle import Tensor as Port
from training.onnx_export.graphs import session_of
from training.onnx_export.model_card import model_card
from training.onnx_export.parity import ParityError
from training.onnx_export.replace_graph import MODEL_CARD_FILE, graph_file
from training.prior.context import Grid, Margins
from training.prior.graph import groups_graph, members_graph
from training.prior.integers import IntegerStage, digest

# Places that are computed at a time.
_TOGETHER = 4096


@dataclass(frozen=True)
class StageGraphs:
    """The two graphs of a stage as ONNX files, and what the manifest calls them."""

    stage: IntegerStage
    groups: bytes
    members: bytes
    names: tuple[str, str]


def stage_graphs(stage: IntegerStage, index: int) -> StageGraphs:
    """The graphs of a stage: `prior` and `prior-members`, or with a number from stage 1 on."""
    name = "prior" if index == 0 else f"prior-{index}"
    return StageGraphs(stage, groups_graph(stage), members_graph(stage), (name, f"{name}-members"))


def places(
    grids: Sequence[Grid], stage: int, neighbours: Sequence[tuple[int, int, int]],
    sizes: Sequence[int],
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:  # fmt: skip
    """Neighbours int32 `[m, C]` and codes `[m]` of every place of some grids, grid after grid."""
    margins = Margins.of(neighbours)
    framed = [margins.around(grid, sizes)[None] for grid in grids]
    around = [margins.contexts(one, neighbours).reshape(-1, len(neighbours)) for one in framed]
    codes = np.concatenate([grid[stage].ravel() for grid in grids])
    return np.concatenate(around).astype(np.int32), codes.astype(np.int64)


def measure(stages: Sequence[IntegerStage], grids: Sequence[Grid], sizes: Sequence[int]) -> float:
    """Bits a code of all stages together, by the whole-number frequencies that coding uses."""
    total = 0.0
    for index, stage in enumerate(stages):
        neighbours, codes = places(grids, index, stage.neighbours, sizes)
        for first in range(0, len(codes), _TOGETHER):
            part = slice(first, first + _TOGETHER)
            total += float(stage.bits(neighbours[part], codes[part]).sum())
    return total / sum(grid.size for grid in grids)


def prove(graphs: StageGraphs, neighbours: NDArray[np.int32], codes: NDArray[np.int64]) -> int:
    """Holds ONNX Runtime's results to the whole numbers', on one place, on few and on many.

    Args:
        graphs: of a stage.
        neighbours: int32 `[m, C]`.
        codes: int64 `[m]`.

    Returns:
        How many places were compared.

    Raises:
        ParityError: a frequency differs.
    """
    stage = graphs.stage
    groups, members = session_of(graphs.groups), session_of(graphs.members)
    rank = np.zeros(stage.codes.max() + 1, dtype=np.int32)
    rank[stage.codes[stage.codes >= 0]] = np.flatnonzero(stage.codes.ravel() >= 0)
    compared = 0
    for together in (1, 3, 64, _TOGETHER):
        seen = neighbours[compared : compared + together]
        of = rank[codes[compared : compared + together]] // stage.codes.shape[1]
        wanted, state = stage.group_frequencies(seen)
        frequencies, given, table = groups.run(None, {"neighbours": seen})
        (inside,) = members.run(None, {"state": given, "groups": of})
        if not (
            np.array_equal(frequencies, wanted)
            and np.array_equal(given, state)
            and np.array_equal(table, stage.codes)
            and np.array_equal(inside, stage.member_frequencies(state, of))
        ):
            raise ParityError("the prior's graphs don't give the frequencies of its whole numbers")
        compared += len(seen)
    return compared


def write(
    path: Path,
    graphs: Sequence[StageGraphs],
    metrics: Mapping[str, Any],
    facts: Mapping[str, Any],
    compared: int,
) -> Bundle:
    """Puts a prior into a bundle, in the place of the one before; nothing else in it changes.

    Args:
        path: of the bundle's folder.
        graphs: of every stage, proven.
        metrics: bits a code, by name of what they were measured on.
        facts: how it was trained, for the manifest.
        compared: places that `prove` looked at.

    Raises:
        BundleError: the folder is not a sound bundle; nothing was written.
    """
    bundle = open_bundle(path)
    old = bundle.manifest
    gone = (
        {name for stage in old.prior.stages for name in (stage.groups, stage.members)}
        if (old.prior)
        else set()
    )
    kept = {name: graph for name, graph in old.graphs.items() if name not in gone}
    dropped = {file for name in gone for file in old.graphs[name].files.values()}
    files = {file: bundle.read(file) for file in old.files if file not in dropped}
    stages = []
    for made in graphs:
        for name, content, graph in zip(
            made.names, (made.groups, made.members), _described(made.stage), strict=True
        ):
            file = graph_file(name, "fp32")
            files[file] = content
            kept[name] = dataclasses.replace(graph, files={"fp32": file})
        stages.append(PriorStage(*made.names, tuple(made.stage.neighbours)))
    proof = {"fp32": {"places": compared, "different_frequencies": 0}}
    new = dataclasses.replace(
        old,
        graphs=kept,
        prior=Prior(digest([made.stage for made in graphs]), tuple(stages), dict(metrics)),
        training={**old.training, "prior": dict(facts)},
        parity={
            **{name: value for name, value in old.parity.items() if name not in gone},
            **{name: proof for made in graphs for name in made.names},
        },
    )
    files[MODEL_CARD_FILE] = model_card(new).encode()
    return write_bundle(path, new, files)


def _described(stage: IntegerStage) -> tuple[Graph, Graph]:
    """Inputs and outputs of the two graphs (`bundle/FORMAT.md`)."""
    groups, members = stage.codes.shape
    state = Port("state", "uint8", ("m", stage.hidden.weight.shape[1]))
    return (
        Graph(
            (Port("neighbours", "int32", ("m", len(stage.neighbours))),),
            (
                Port("frequencies", "int32", ("m", groups)),
                state,
                Port("codes", "int32", (groups, members)),
            ),
            {},
        ),
        Graph(
            (state, Port("groups", "int32", ("m",))),
            (Port("frequencies", "int32", ("m", members)),),
            {},
        ),
    )
