"""Codes and pixels are those of before: an upgrade that shifts them is seen.

ONNX Runtime, Pillow and NumPy may each round otherwise in a new release, or on another processor.
The budgets say how far that may go before someone has to look; see CONTRIBUTING.md for what to do.
"""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

from app.codecs.tess import unpack_codes

golden = runpy.run_path(str(Path(__file__).with_name("golden.py")))
GOLDEN = golden["GOLDEN"]

# Share of codes that must be the golden ones. A near tie falls either way when sums are added in
# another order; int8 is integer arithmetic, but for its scales.
BUDGET = {"fp32": 0.999, "fp16": 0.995, "int8": 0.97}
PSNR_DB = 0.01  # of each photograph's reconstruction


def read(data: bytes) -> dict[str, np.ndarray]:
    grids = unpack_codes(data, max_images=64, max_pixels=10**6).grids
    return {grid.name: grid.codes for grid in grids}


def agreement(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> float:
    assert a.keys() == b.keys()
    equal = [a[name] == b[name] for name in a]
    return float(np.concatenate([part.reshape(-1) for part in equal]).mean())


@pytest.fixture(scope="module", params=golden["PRECISIONS"])
def made(request):
    """A precision, and what it makes of the photographs now."""
    return request.param, *golden["codes"](request.param)


def test_codes_are_the_golden_ones(made):
    """Within the budget of the precision, over all photographs."""
    precision, packed, _ = made
    expected = (GOLDEN / f"photo-f8.{precision}.tess").read_bytes()
    file = unpack_codes(packed, max_images=64, max_pixels=10**6)
    assert file.precision == precision
    shared = agreement(read(packed), read(expected))
    print(f"{precision}: {shared:.4%} of codes are the golden ones")
    assert shared >= BUDGET[precision]


def test_reconstructions_are_as_near_as_ever(made):
    """0.01 dB for each photograph: moved codes must be near ties, and the decoder the same."""
    precision, _, psnr = made
    expected = json.loads((GOLDEN / "psnr.json").read_text())[precision]
    assert psnr == pytest.approx(expected, abs=PSNR_DB)


def test_a_shift_would_be_seen():
    """Of int8's kind: it moves 12 % of codes, several times what the budgets allow."""
    files = {p: read((GOLDEN / f"photo-f8.{p}.tess").read_bytes()) for p in BUDGET}
    assert agreement(files["fp32"], files["int8"]) < 0.9 < min(BUDGET.values())


def test_the_code_space_is_the_golden_one():
    """Codes that anyone has stored can still be decoded."""
    manifest = json.loads((golden["ROOT"] / "models" / "photo-f8" / "manifest.json").read_text())
    for precision in golden["PRECISIONS"]:
        data = (GOLDEN / f"photo-f8.{precision}.tess").read_bytes()
        file = unpack_codes(data, max_images=64, max_pixels=10**6)
        assert file.code_space == manifest["code_space"]


def test_pixels_are_the_golden_ones():
    """Decoders and the resizer may round a sample in a hundred by one, and none by more."""
    expected = np.load(GOLDEN / "pixels.npz")
    present = golden["pixels"]()
    assert set(present) == set(expected.files)
    for name, pixels in present.items():
        assert pixels.shape == expected[name].shape, name
        apart = np.abs(pixels.astype(int) - expected[name])
        assert apart.max() <= 1, name
        assert (apart != 0).mean() <= 0.01, name
