"""Train a small classifier on codes: which folder did a picture come from?

    tessera tokenize photos/ codes/ --size 256x256     # photos/cat/1.jpg, photos/dog/2.jpg, …
    python examples/classify_codes.py codes/

A picture is seen as how often each code is in it, in the whole and in each quarter; softmax
regression on that, by plain gradient descent. No picture is decoded, no network is loaded.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

STEPS = 400
RATE = 2.0
DECAY = 1e-3


def load(folder: Path) -> tuple[np.ndarray, list[str]]:
    """Features float32 `[n, 5 K]` and the class, the first folder, of each picture."""
    manifest = json.loads((folder / "manifest.json").read_text())
    size = manifest["job"]["codebook_size"]
    if manifest["job"]["size"] is None:
        raise SystemExit("tokenize with --size, so that all pictures have one grid")
    features, classes = [], []
    for shard in sorted(folder.glob("[0-9]*.npy")):
        images = json.loads(shard.with_suffix(".json").read_text())["images"]
        codes = np.load(shard)
        # Of several stages the first is enough, as it is for a recognizer.
        codes = codes[:, 0] if codes.ndim == 4 else codes
        for image, grid in zip(images, codes, strict=True):
            rows, columns = (side // 2 for side in grid.shape)
            parts = [grid, grid[:rows, :columns], grid[:rows, columns:]]
            parts += [grid[rows:, :columns], grid[rows:, columns:]]
            counts = [np.bincount(part.ravel(), minlength=size) / part.size for part in parts]
            # Square roots: a code that is there at all says more than how often it is.
            features.append(np.sqrt(np.concatenate(counts)))
            classes.append(image["name"].partition("/")[0])
    return np.array(features, np.float32), classes


def train(features: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Weights float32 `[features, classes]` of softmax regression."""
    weights = np.zeros((features.shape[1], classes), np.float32)
    wanted = np.eye(classes, dtype=np.float32)[labels]
    for _ in range(STEPS):
        scores = features @ weights
        likely = np.exp(scores - scores.max(axis=1, keepdims=True))
        likely /= likely.sum(axis=1, keepdims=True)
        weights -= RATE * (features.T @ (likely - wanted) / len(features) + DECAY * weights)
    return weights


def main() -> None:
    """Train on four fifths, test on the rest, and say how often it is right."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("codes", type=Path, help="folder that `tessera tokenize` wrote")
    features, names = load(parser.parse_args().codes)
    classes = sorted(set(names))
    labels = np.array([classes.index(name) for name in names])
    test = np.arange(len(labels)) % 5 == 4
    weights = train(features[~test], labels[~test], len(classes))
    right = (features[test] @ weights).argmax(axis=1) == labels[test]
    often = np.bincount(labels[test]).max() / test.sum()
    print(f"{len(classes)} classes, {(~test).sum()} pictures to learn from, {test.sum()} to test")
    print(f"right: {right.mean():.1%} (always the most frequent: {often:.1%})")


if __name__ == "__main__":
    main()
