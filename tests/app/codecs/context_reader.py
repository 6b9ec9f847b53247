"""A second reader of coding method 1, from docs/codes-format.md and bundle/FORMAT.md alone.

It runs no graph: the numbers are taken out of the ONNX files by their names, and computed with in
plain NumPy, one place at a time. It shares nothing with `app` or `training`.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper


class NumPyPrior:
    """A bundle's prior of one stage, as bundle/FORMAT.md describes its arithmetic."""

    def __init__(self, bundle: Path) -> None:
        manifest = json.loads((bundle / "manifest.json").read_text("utf-8"))
        (stage,) = manifest["prior"]["stages"]
        self.digest = manifest["prior"]["digest"]
        self.neighbours = stage["neighbours"]
        self.size = manifest["codebook"]["size"]
        self.numbers = {}
        for graph in (stage["groups"], stage["members"]):
            model = onnx.load(bundle / manifest["graphs"][graph]["files"]["fp32"])
            for tensor in model.graph.initializer:
                values = numpy_helper.to_array(tensor)
                assert values.dtype.kind in "iub", "no floats"
                self.numbers[tensor.name] = values.astype(np.int64)
        self.codes = self.numbers["members_of_groups"]

    def computed_digest(self) -> str:
        """The digest over the numbers."""
        names = ["members_of_groups", "frequency_table", "embedding.0"]
        names += [
            f"{layer}.{part}"
            for layer in ("context", "hidden", "groups", "inside", "narrow", "members")
            for part in ("weight", "bias", "divisor")
        ]
        tensors = {f"0.{name}": self.numbers[name] for name in names}
        tensors["0.neighbours"] = np.array(self.neighbours)
        made = hashlib.sha256(b"tessera prior 1\n")
        for name, values in sorted(tensors.items()):
            made.update(struct.pack("<I", len(name)) + name.encode())
            made.update(struct.pack(f"<I{values.ndim}Q", values.ndim, *values.shape))
            made.update(values.astype("<i4").tobytes())
        return made.hexdigest()

    def of_groups(self, neighbours: list[int]) -> tuple[list[int], np.ndarray]:
        x = self.numbers["embedding.0"][neighbours].ravel()
        state = self._activations("hidden", self._activations("context", x))
        return self._frequencies(self._shifted("groups", state)), state

    def of_members(self, state: np.ndarray, group: int) -> list[int]:
        n = self.numbers
        inside = (state @ n["inside.weight"] + n["inside.bias"][group]) // n["inside.divisor"]
        y = self._activations("narrow", np.clip(inside, 0, 255))
        sums = y @ n["members.weight"][group] + n["members.bias"][group]
        made = self._frequencies(sums // n["members.divisor"])
        there = self.codes[group] >= 0
        return [f if is_there else 0 for f, is_there in zip(made, there, strict=True)]

    def _shifted(self, name: str, x: np.ndarray) -> np.ndarray:
        n = self.numbers
        return (x @ n[f"{name}.weight"] + n[f"{name}.bias"]) // n[f"{name}.divisor"]

    def _activations(self, name: str, x: np.ndarray) -> np.ndarray:
        return np.clip(self._shifted(name, x), 0, 255)

    def _frequencies(self, logits: np.ndarray) -> list[int]:
        table = self.numbers["frequency_table"]
        return table[np.minimum(logits.max() - logits, len(table) - 1)].tolist()


class Decoder:
    """The page's range decoder."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at, self.range = data + bytes(16), 8, 2**64 - 1
        self.code = int.from_bytes(self.data[:8], "big")

    def symbol(self, frequencies: list[int]) -> int:
        total = sum(frequencies)
        u = self.range // total
        x = self.code // u
        assert x < total
        i, s = 0, 0
        while not s <= x < s + frequencies[i]:
            s += frequencies[i]
            i += 1
        self.code -= u * s
        self.range = u * frequencies[i]
        if self.range < 2**32:
            word = int.from_bytes(self.data[self.at : self.at + 4], "big")
            self.code, self.range = self.code * 2**32 + word, self.range * 2**32
            self.at += 4
        return i


def decode(coded: bytes, rows: int, columns: int, prior: NumPyPrior) -> np.ndarray:
    """Codes `[rows, columns]` of what a coder wrote."""
    slant = 1
    while any(down < 0 and right >= -down * slant for _, down, right in prior.neighbours):
        slant += 1
    decoder = Decoder(coded)
    codes = np.full((rows, columns), -1)
    for step in range(columns + slant * (rows - 1)):
        places = [(r, step - slant * r) for r in range(rows) if 0 <= step - slant * r < columns]
        found = []
        for row, column in places:
            seen = []
            for _, down, right in prior.neighbours:
                r, c = row + down, column + right
                inside = 0 <= r < rows and 0 <= c < columns
                seen.append(int(codes[r, c]) if inside else prior.size)
            assert min(seen) >= 0, "a neighbour is not known yet"
            frequencies, state = prior.of_groups(seen)
            found.append((decoder.symbol(frequencies), state))
        for (row, column), (group, state) in zip(places, found, strict=True):
            member = decoder.symbol(prior.of_members(state, group))
            codes[row, column] = prior.codes[group, member]
    return codes


def read_context_tess(data: bytes, prior: NumPyPrior) -> list[dict[str, Any]]:
    """Read a valid file of coding method 1: width, height, name and codes of each image."""
    assert zlib.crc32(data[:-4]) == int.from_bytes(data[-4:], "little")
    assert data[10] == 1, "coding method"
    images, at = [], 56
    for _ in range(int.from_bytes(data[20:24], "little")):
        width, height, rows, columns, length = struct.unpack("<5I", data[at : at + 20])
        name = data[at + 21 : at + 21 + data[at + 20]].decode()
        at += 21 + data[at + 20]
        payload = data[at : at + length]
        at += length
        assert payload[:8].hex() == prior.digest[:16]
        codes = decode(payload[12:], rows, columns, prior)
        assert zlib.crc32(codes.astype("<u4").tobytes()) == int.from_bytes(payload[8:12], "little")
        images.append({"name": name, "width": width, "height": height, "codes": codes.tolist()})
    assert at == len(data) - 4
    return images
