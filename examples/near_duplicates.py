"""Find pictures that are nearly the same: resized, recompressed, lightened, slightly cropped.

    python examples/near_duplicates.py photos/ --threshold 0.8

Every picture becomes one vector of length 1; a pair whose cosine is above the threshold is shown.
With photo-f8, version 2, four pairs of 2,649 photographs at their own size are above 0.8; so are,
each with its photograph, 98 % and more of copies at JPEG quality 30, 20 % brighter or mirrored,
77 % of those resized to 70 %, half of those cropped to 80 %.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import httpx
import numpy as np

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
BATCH = 16


def embed(service: httpx.Client, paths: list[Path]) -> tuple[list[Path], np.ndarray]:
    """The pictures that can be read, and their vectors, float32 `[n, dimension]`."""
    kept, vectors = [], []
    for start in range(0, len(paths), BATCH):
        batch = paths[start : start + BATCH]
        files = [("images", (path.name, path.read_bytes())) for path in batch]
        # One size for all: the vector should tell what is seen, not how large it was stored.
        answer = service.post("/v1/embed", params={"size": "256x256"}, files=files)
        answer.raise_for_status()
        for path, item in zip(batch, answer.json()["data"], strict=True):
            if "error" in item:
                print(f"passed over {path}: {item['error']['detail']}")
            else:
                kept.append(path)
                vectors.append(item["embedding"])
    return kept, np.array(vectors, np.float32)


def main() -> None:
    """Print pairs, the most alike first."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threshold", type=float, default=0.8, help="least cosine of a pair")
    parser.add_argument("--url", default="http://localhost:8000")
    arguments = parser.parse_args()
    found = (path for path in arguments.folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    with httpx.Client(base_url=arguments.url, timeout=120) as service:
        paths, vectors = embed(service, sorted(found))
    similarity = vectors @ vectors.T
    pairs = np.argwhere(np.triu(similarity, 1) >= arguments.threshold)
    for i, j in sorted(pairs.tolist(), key=lambda pair: -similarity[*pair]):
        print(f"{similarity[i, j]:.3f}  {paths[i]}  {paths[j]}")
    print(f"{len(pairs)} pairs among {len(paths)} pictures")


if __name__ == "__main__":
    main()
