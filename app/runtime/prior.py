"""A bundle's prior: how likely each code is, given the codes before it, in whole numbers.

Always on the CPU and on one thread, whatever the other graphs run on: its many small steps would
take a GPU longer, and a second thread too. What it computes doesn't depend on that, nor on the
batch, nor on the version of ONNX Runtime: its graphs hold operators on integers alone
(`bundle/FORMAT.md`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from app.runtime.device import Device
from app.runtime.sessions import GraphRefused, load_graph, one_line, require

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from bundle import Bundle
    from bundle import Prior as Entry
    from bundle.prior import Neighbour

_DEVICE = Device("cpu", 0, 1)
# So that a total fits the coder (`app.codecs.range_coder.MAX_TOTAL`).
_LARGEST_TOTAL = 1 << 24


class Prior:
    """The graphs of a prior, loaded and tried (`app.codecs.context_coder.Prior`).

    Args:
        bundle: opened, and with a prior.
        entry: of the bundle's manifest.

    Attributes:
        digest: what names it.
        neighbours: for each stage, places that it looks at: (stage, rows down, columns right).
        codes: for each stage, int32 `[groups, members]`: its codes in their groups; -1 where a
            group has fewer members.

    Raises:
        GraphRefused: a graph can't be loaded, or doesn't give what it should.
        BundleError: a file changed since the bundle was opened.
    """

    def __init__(self, bundle: Bundle, entry: Entry) -> None:
        self.digest = entry.digest
        self.neighbours: Sequence[Sequence[Neighbour]] = [s.neighbours for s in entry.stages]
        self._groups = [load_graph(bundle, s.groups, "fp32", _DEVICE) for s in entry.stages]
        self._members = [load_graph(bundle, s.members, "fp32", _DEVICE) for s in entry.stages]
        codes: list[NDArray[np.int32]] = []
        self.codes: Sequence[NDArray[np.int32]] = codes
        for stage in range(len(entry.stages)):
            try:
                codes.append(self._try(stage, bundle.manifest.codebook_sizes[stage]))
            except GraphRefused:
                raise
            except Exception as error:
                raise GraphRefused(f"its prior doesn't run: {one_line(error)}") from error

    def groups(
        self, stage: int, neighbours: NDArray[np.int32]
    ) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        """Frequencies of the groups int32 `[m, groups]`, and a state for `members`.

        Args:
            stage: of the codes.
            neighbours: int32 `[m, neighbours]`; the number of codes where there is none.
        """
        frequencies, state = self._groups[stage].run(
            ["frequencies", "state"], {"neighbours": neighbours}
        )
        return frequencies, state

    def members(
        self, stage: int, state: NDArray[np.uint8], groups: NDArray[np.int32]
    ) -> NDArray[np.int32]:
        """Frequencies of the members of groups int32 `[m]`: int32 `[m, members]`."""
        feed = {"state": state, "groups": groups}
        frequencies: NDArray[np.int32] = self._members[stage].run(["frequencies"], feed)[0]
        return frequencies

    def _try(self, stage: int, size: int) -> NDArray[np.int32]:
        """The codes of a stage in their groups, once its graphs have run."""
        neighbours = np.zeros((1, len(self.neighbours[stage])), dtype=np.int32)
        first: tuple[Any, ...] = self._groups[stage].run(None, {"neighbours": neighbours})
        frequencies, state, codes = first
        there = np.sort(codes[codes >= 0])
        require(
            codes.ndim == 2 and np.array_equal(there, np.arange(len(there))) and len(there) == size,
            "its prior doesn't hold every code once",
        )
        require(
            frequencies.shape == (1, len(codes)) and _usable(frequencies, frequencies > 0),
            "its prior doesn't give a frequency for each group",
        )
        for group in range(len(codes)):
            inside = self.members(stage, state, np.array([group], dtype=np.int32))
            right = inside.shape == (1, codes.shape[1])
            require(
                right and _usable(inside, (inside > 0) == (codes[group] >= 0)),
                "its prior doesn't give a frequency for each code",
            )
        table: NDArray[np.int32] = codes
        return table


def _usable(frequencies: NDArray[np.int32], right: NDArray[np.bool_]) -> bool:
    total = int(frequencies.sum(dtype=np.int64))
    return bool(right.all()) and frequencies.min() >= 0 and 0 < total < _LARGEST_TOTAL
