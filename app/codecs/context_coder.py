"""Code grids ↔ bytes by a context model: each code at the price of how likely it was there.

The model is a bundle's prior (`bundle/FORMAT.md`), which gives the frequencies of the next code
from its neighbours in whole numbers; here is what happens to them: the order of the codes
(`app.codecs.wavefront`) and their coding (`app.codecs.range_coder`), as docs/codes-format.md says.

A code is coded as two symbols, the group it belongs to and its place among the group's members,
so that 4,096 codes take two distributions of 64 and not one of 4,096.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Protocol

import numpy as np

from app.codecs.code_file import CodedGrid
from app.codecs.grids import CodeGrid
from app.codecs.range_coder import RangeDecoder, encode_symbols
from app.codecs.wavefront import Wavefront
from app.errors import MalformedRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from app.codecs.wavefront import Neighbour

# Places that the prior sees at a time where all codes are known: what it computes stays in the
# cache, and more of them take as long for each.
_TOGETHER = 512
# Hexadecimal digits of a prior's digest that go with each image.
PRIOR_DIGITS = 16


class Prior(Protocol):
    """The context model of a code space, whatever computes it.

    Attributes:
        digest: what names it.
        neighbours: for each stage, the places that it looks at.
        codes: for each stage, int32 `[groups, members]`: its codes in their groups; -1 where a
            group has fewer members.
    """

    digest: str
    neighbours: Sequence[Sequence[Neighbour]]
    codes: Sequence[NDArray[np.int32]]

    def groups(
        self, stage: int, neighbours: NDArray[np.int32]
    ) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        """Frequencies of the groups, and what `members` needs to go on.

        Args:
            stage: of the codes.
            neighbours: int32 `[m, neighbours]`; the number of codes where there is none.

        Returns:
            int32 `[m, groups]` and uint8 `[m, …]`.
        """

    def members(
        self, stage: int, state: NDArray[np.uint8], groups: NDArray[np.int32]
    ) -> NDArray[np.int32]:
        """Frequencies of the members of groups: int32 `[m, members]`.

        Args:
            stage: of the codes.
            state: as `groups` gave it.
            groups: int32 `[m]`, the group of each code.
        """


def coded_grid(prior: Prior, grid: CodeGrid, data: bytes) -> CodedGrid:
    """What a file holds of a grid that `code_grids` has coded."""
    return CodedGrid(
        data,
        prior.digest[:PRIOR_DIGITS],
        _crc(grid.codes),
        grid.shape,
        grid.width,
        grid.height,
        grid.name,
        grid.stages,
    )


def decoded_grid(grid: CodedGrid, codes: NDArray[np.int64]) -> CodeGrid:
    """The grid that a file held, its codes decoded.

    Raises:
        MalformedRequest: they are not the ones that were coded.
    """
    if _crc(codes) != grid.crc:
        raise MalformedRequest(
            "the coded codes of an image are damaged: the CRC-32 of the codes doesn't match"
        )
    return CodeGrid(codes, grid.width, grid.height, grid.name)


def _crc(codes: NDArray[np.int64]) -> int:
    return zlib.crc32(np.ascontiguousarray(codes, dtype="<u4").tobytes())


def code_grids(prior: Prior, grids: Sequence[NDArray[np.int64]]) -> list[bytes]:
    """Code grids, each on its own: int64 `[stages, rows, columns]` of any sizes → its bytes.

    All have as many stages, the first ones of the prior's.
    """
    wave = _filled(prior, grids)
    parts: list[list[NDArray[np.int64]]] = [[] for _ in grids]
    for stage in range(len(grids[0])):
        wave.begin(stage)
        intervals = wave.by_image(_intervals(prior, stage, wave))
        for part, mine, step in zip(parts, intervals, wave.by_image(wave.step), strict=True):
            # Of each step all groups and then all members, as a decoder finds them out.
            order = np.argsort(np.concatenate([2 * step, 2 * step + 1]), kind="stable")
            part.append(np.concatenate([mine[:, 0], mine[:, 1]])[order])
    return [encode_symbols(np.concatenate(part).tolist()) for part in parts]


def bits_of_grids(prior: Prior, grids: Sequence[NDArray[np.int64]]) -> list[NDArray[np.float32]]:
    """What each code costs, in bits: float32 `[stages, rows, columns]` for each grid.

    Their sum is the length of what `code_grids` writes, up to 2 bytes.
    """
    wave = _filled(prior, grids)
    maps = [np.empty(grid.shape, dtype=np.float32) for grid in grids]
    for stage in range(len(grids[0])):
        wave.begin(stage)
        intervals = _intervals(prior, stage, wave)
        costs = np.log2(intervals[:, :, 2] / intervals[:, :, 1]).sum(axis=1)
        for bits, found in zip(maps, wave.as_grids(costs), strict=True):
            bits[stage] = found
    return maps


def decode_grids(
    prior: Prior, coded: Sequence[tuple[bytes, tuple[int, int]]], stages: int = 1
) -> list[NDArray[np.int64]]:
    """Undo `code_grids`.

    Args:
        prior: the very one that they were coded with.
        coded: for each grid its bytes and `(rows, columns)`.
        stages: how many of the prior's stages were coded.

    Returns:
        int64 `[stages, rows, columns]` for each.

    Raises:
        MalformedRequest: bytes that no encoder wrote; noticed before much more has been done than
            so many bytes can ask for.
    """
    decoders = [RangeDecoder(data) for data, _ in coded]
    wave = _empty(prior, [shape for _, shape in coded])
    for stage, members in enumerate(prior.codes[:stages]):
        wave.begin(stage)
        for step in wave.steps():
            runs = wave.runs(step)
            frequencies, state = prior.groups(stage, wave.neighbours(step))
            groups = _decode(decoders, runs, frequencies)
            inside = _decode(decoders, runs, prior.members(stage, state, groups))
            wave.put(step, stage, members[groups, inside])
    for decoder in decoders:
        decoder.finish()
    return [
        np.stack([wave.grid(image, stage) for stage in range(stages)])
        for image in range(len(coded))
    ]


def _decode(
    decoders: Sequence[RangeDecoder],
    runs: Sequence[tuple[int, int]],
    frequencies: NDArray[np.int32],
) -> NDArray[np.int32]:
    """The next symbols: int32 `[m]` of frequencies `[m, symbols]`; `runs` as `Wavefront.runs`."""
    sums = np.zeros((len(frequencies), frequencies.shape[1] + 1), dtype=np.int64)
    np.cumsum(frequencies, axis=1, out=sums[:, 1:])
    rows = sums.tolist()
    symbols: list[int] = []
    for image, count in runs:
        symbols += decoders[image].decode(rows[len(symbols) : len(symbols) + count])
    return np.array(symbols, dtype=np.int32)


def _intervals(prior: Prior, stage: int, wave: Wavefront) -> NDArray[np.int64]:
    """Each code's two symbols in their distributions, in the order of coding.

    Returns:
        int64 `[places, 2, 3]`: start, frequency and total, as `encode_symbols` takes them.
    """
    members = prior.codes[stage]
    rank = np.zeros(members.max() + 1, dtype=np.int32)
    there = members.ravel() >= 0
    rank[members.ravel()[there]] = np.flatnonzero(there)
    intervals = np.empty((len(wave.image), 2, 3), dtype=np.int64)
    for first in range(0, len(wave.image), _TOGETHER):
        part = slice(first, first + _TOGETHER)
        groups, inside = np.divmod(rank[wave.codes(part, stage)], members.shape[1])
        frequencies, state = prior.groups(stage, wave.neighbours(part))
        intervals[part, 0] = _interval(frequencies, groups)
        intervals[part, 1] = _interval(prior.members(stage, state, groups), inside)
    return intervals


def _interval(frequencies: NDArray[np.int32], symbols: NDArray[np.int32]) -> NDArray[np.int64]:
    """Start, frequency and total of a symbol of each distribution: int64 `[m, 3]`."""
    at = np.arange(len(symbols))
    sums = np.cumsum(frequencies, axis=1, dtype=np.int64)
    own = frequencies[at, symbols].astype(np.int64)
    return np.stack([sums[at, symbols] - own, own, sums[:, -1]], axis=1)


def _empty(prior: Prior, shapes: Sequence[tuple[int, int]]) -> Wavefront:
    return Wavefront(shapes, prior.neighbours, [int(codes.max()) + 1 for codes in prior.codes])


def _filled(prior: Prior, grids: Sequence[NDArray[np.int64]]) -> Wavefront:
    wave = _empty(prior, [(grid.shape[1], grid.shape[2]) for grid in grids])
    for image, grid in enumerate(grids):
        for stage, codes in enumerate(grid):
            wave.set_grid(image, stage, codes)
    return wave
