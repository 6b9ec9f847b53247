"""Find the pictures of a folder that are unlike the others: noise, drawings, damage, blank pages.

    python examples/odd_ones_out.py photos/ --most 20

`POST /v1/bits` says how many bits each code of a picture costs, coded by its context: how
surprising it was. Many bits don't make a picture odd, since a meadow takes more than a sky; being
unlike the rest of the folder does. So four figures of each picture's map of bits, their mean, their
spread, and how like its neighbours a place is across and down, are held against the folder's
middle.

With photo-f8, version 2, ten odd pictures of a kind among 65 photographs that nothing was learnt
from, AUROC (0.5 is chance): noise .95, flat or drawn backgrounds .95 (the prior learnt from some of
them), drawings of a few shapes .94. Rendered text isn't found (.45): to this model it is one more
texture. Which four figures to take was decided on these same pictures.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import httpx
import numpy as np

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
BATCH = 16


def figures(bits: np.ndarray) -> list[float]:
    """Mean, spread, and likeness of neighbours across and down, of a map `[rows, columns]`."""
    off = bits - bits.mean()
    variance = float(np.square(off).mean()) + 1e-9
    across, down = off[:, 1:] * off[:, :-1], off[1:] * off[:-1]
    return [
        float(bits.mean()),
        variance**0.5,
        float(across.sum()) / (across.size or 1) / variance,
        float(down.sum()) / (down.size or 1) / variance,
    ]


def look_at(service: httpx.Client, paths: list[Path]) -> tuple[list[Path], np.ndarray]:
    """The pictures that can be read, and the figures of each: float64 `[n, 4]`."""
    kept, rows = [], []
    for start in range(0, len(paths), BATCH):
        batch = paths[start : start + BATCH]
        files = [("images", (path.name, path.read_bytes())) for path in batch]
        # One size for all: bits depend on the scale at which things are seen.
        answer = service.post("/v1/bits", params={"size": "256x256", "map": "true"}, files=files)
        answer.raise_for_status()
        for path, item in zip(batch, answer.json()["data"], strict=True):
            if "error" in item:
                print(f"passed over {path}: {item['error']['detail']}")
            else:
                kept.append(path)
                rows.append(figures(np.array(item["map"])))
    return kept, np.array(rows).reshape(-1, 4)


def oddness(rows: np.ndarray) -> np.ndarray:
    """How far each row is from the middle of all, in units of their spread: `[n, 4]` → `[n]`."""
    middle = np.median(rows, axis=0)
    # The median of the deviations, times what makes it a standard deviation of normal numbers.
    spread = 1.4826 * np.median(np.abs(rows - middle), axis=0) + 1e-9
    return np.sqrt(np.square((rows - middle) / spread).sum(axis=1))


def main() -> None:
    """Print pictures, the oddest first."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--most", type=int, default=20, help="how many to print (default: 20)")
    parser.add_argument("--url", default="http://localhost:8000")
    arguments = parser.parse_args()
    found = (path for path in arguments.folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    with httpx.Client(base_url=arguments.url, timeout=120) as service:
        paths, rows = look_at(service, sorted(found))
    if not paths:
        raise SystemExit("no picture there could be read")
    odd = oddness(rows)
    for i in np.argsort(-odd)[: arguments.most].tolist():
        print(f"{odd[i]:6.1f}  {rows[i, 0]:5.2f} bits a code  {paths[i]}")


if __name__ == "__main__":
    main()
