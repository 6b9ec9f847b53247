"""`python -m training.compare_embedders CHECKPOINT --data DIR --labelled DIR`: which embedder?

Every candidate is fitted to the same photographs without labels and judged by the
recognition probe and by finding edited copies among the photographs. Prints one
Markdown table. `training.embedder.fit_embedder` is what won (docs/log.md).
"""

from __future__ import annotations

import argparse
import io
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console

from training.checkpoint import CheckpointError
from training.codec import CheckpointCodec, Codes, encode_images, tokenizer_of
from training.contexts import (
    context_vectors,
    context_words,
)
from training.data import DataError, Pixels, find_images, read_image
from training.descriptions import (
    BagOfCodes,
    Concatenated,
    DecoderFeatures,
    NeighbourCovariances,
    PooledVectors,
    patch_words,
)
from training.embedder import (
    Embedder,
    Whitening,
    apply_to_grids,
    embedder_of_grids,
    fit_projection,
)
from training.evaluation import evenly
from training.model import Tokenizer
from training.probe import Labelled, ProbeResult, probe, read_labelled


def _jpeg(image: Pixels) -> Pixels:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=30)
    with Image.open(buffer) as again:
        return np.asarray(again)


def _resized(image: Pixels) -> Pixels:
    size = (max(1, round(image.shape[1] * 0.7)), max(1, round(image.shape[0] * 0.7)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


def _cropped(image: Pixels) -> Pixels:
    height, width = (max(1, round(side * 0.8)) for side in image.shape[:2])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def _brighter(image: Pixels) -> Pixels:
    pixels: Pixels = np.clip(image * 1.2, 0, 255).round().astype(np.uint8)
    return pixels


def _mirrored(image: Pixels) -> Pixels:
    return image[:, ::-1]


# What happens to pictures that are passed on: each uint8 `[h, w, 3]` → the same kind.
EDITS: dict[str, Callable[[Pixels], Pixels]] = {
    "JPEG q30": _jpeg,
    "resized 70 %": _resized,
    "cropped 80 %": _cropped,
    "brighter 20 %": _brighter,
    "mirrored": _mirrored,
}


@dataclass(frozen=True)
class Material:
    """Everything candidates are judged on, encoded once.

    Attributes:
        model: the tokenizer.
        fitting: codes of the photographs to fit to; none of the queries is among them.
        photographs: codes of all photographs, the ones to search among.
        originals: indices into `photographs` of those that were edited.
        edited: for each edit, codes of the edited copies, in the order of `originals`.
        labelled: images with classes.
        train, test: codes of them.
    """

    model: Tokenizer
    fitting: list[Codes]
    photographs: list[Codes]
    originals: NDArray[np.int64]
    edited: dict[str, list[Codes]]
    labelled: Labelled
    train: list[Codes]
    test: list[Codes]


@dataclass(frozen=True)
class Comparison:
    """A candidate's figures.

    Attributes:
        probe: recognition accuracies.
        copies: for each edit, how often the nearest photograph is the one that was edited.
        seconds: to fit it, encoding aside.
    """

    probe: ProbeResult
    copies: dict[str, float]
    seconds: float


def prepare(
    model: Tokenizer, photographs: Sequence[Pixels], labelled: Labelled, queries: int
) -> Material:
    """Encodes everything.

    Args:
        model: the tokenizer.
        photographs: uint8 `[h, w, 3]`, to fit to and to search among.
        labelled: images with classes, for the probe.
        queries: how many photographs, evenly chosen, are edited and searched for.

    Raises:
        DataError: too few photographs to leave some for fitting.
    """
    if len(photographs) < queries + 2:
        raise DataError(f"{queries} edited photographs need more than {len(photographs)} to find")
    codec = CheckpointCodec(model)
    chosen = evenly(len(photographs), queries)
    grids = encode_images(codec, photographs)
    others = sorted(set(range(len(photographs))) - set(chosen))
    return Material(
        model,
        [grids[i] for i in others],
        grids,
        np.array(chosen, dtype=np.int64),
        {
            name: encode_images(codec, [edit(photographs[i]) for i in chosen])
            for name, edit in EDITS.items()
        },
        labelled,
        encode_images(codec, labelled.train),
        encode_images(codec, labelled.test),
    )


def candidates(material: Material) -> dict[str, Callable[[], Embedder]]:
    """Every candidate's name, and how it is fitted."""
    model, grids = material.model, material.fitting
    codebook = model.quantizer.normalized_codebook().detach()
    size = len(codebook)
    contexts = context_vectors(grids, size, width=64)
    words = context_words(contexts, 128)
    partly, plain, fully = Whitening(256), Whitening(256, 0.0), Whitening(256, 1.0)

    def rarity() -> torch.Tensor:
        found = sum(torch.bincount(torch.from_numpy(np.unique(g)), minlength=size) for g in grids)
        return (len(grids) / (1 + torch.as_tensor(found))).log().clamp_min(0)

    def mirrored_words() -> PooledVectors:
        return PooledVectors(words, mirrored=True, root=True)

    def fitted(
        make: Callable[[], torch.nn.Module], whitening: Whitening = partly
    ) -> Callable[[], Embedder]:
        return lambda: fit_projection(make(), grids, whitening)

    return {
        "bag of codes, idf": fitted(lambda: BagOfCodes(rarity())),
        "code vectors, mean + deviation": fitted(lambda: PooledVectors(codebook, (1,), (1,))),
        "code vectors, mean + deviation, 4×4; PCA": fitted(
            lambda: PooledVectors(codebook, (4,), (4,)), plain
        ),
        "code vectors, mean + deviation, 4×4": fitted(lambda: PooledVectors(codebook, (4,), (4,))),
        "neighbour covariances": fitted(lambda: NeighbourCovariances(codebook)),
        "decoder, first 2 blocks, 1 + 2×2": fitted(lambda: DecoderFeatures(model, 4)),
        "words of 3×3 codes, 1 + 2×2": fitted(lambda: patch_words(codebook, grids, 512)),
        "context vectors, 1 + 2×2 + 4×4": fitted(lambda: PooledVectors(contexts)),
        "context vectors, mirrored": fitted(lambda: PooledVectors(contexts, mirrored=True)),
        "context words, 1 + 2×2 + 4×4": fitted(lambda: PooledVectors(words, root=True)),
        "context words, mirrored (exported)": lambda: embedder_of_grids(model, grids),
        "context words, mirrored; PCA": fitted(mirrored_words, plain),
        "context words, mirrored; whitened": fitted(mirrored_words, fully),
        "context words, mirrored; 512 wide": fitted(mirrored_words, Whitening(512)),
        "context words and code vectors, mirrored": fitted(
            lambda: Concatenated(
                mirrored_words(), PooledVectors(codebook, (4,), (4,), mirrored=True)
            )
        ),
    }


def compare(name: str, fit: Callable[[], Embedder], material: Material) -> Comparison:
    """Fits a candidate and measures it."""
    started = time.monotonic()
    embedder = fit()
    seconds = time.monotonic() - started
    found = apply_to_grids(embedder, material.photographs)
    copies = {}
    for edit, grids in material.edited.items():
        nearest = (apply_to_grids(embedder, grids) @ found.T).argmax(dim=1).numpy()
        copies[edit] = float((nearest == material.originals).mean())
    result = probe(
        name,
        apply_to_grids(embedder, material.train).numpy(),
        material.labelled.train_labels,
        apply_to_grids(embedder, material.test).numpy(),
        material.labelled.test_labels,
    )
    return Comparison(result, copies, seconds)


def table_head() -> str:
    """The first two lines of the Markdown table."""
    names = ["embedder", "numbers", "linear", "5-NN", *EDITS, "fit, s"]
    return f"| {' | '.join(names)} |\n|{'---|' * len(names)}"


def table_row(row: Comparison) -> str:
    """A candidate's line of the Markdown table."""
    p = row.probe
    cells = [p.representation, str(p.size), f"{p.linear:.3f}", f"{p.nearest:.3f}"]
    cells += [f"{share:.3f}" for share in row.copies.values()]
    return f"| {' | '.join([*cells, f'{row.seconds:.0f}'])} |"


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line; see `--help`."""
    parser = argparse.ArgumentParser(
        prog="python -m training.compare_embedders",
        description="Fits every candidate embedder to photographs and judges it by the "
        "recognition probe and by finding edited copies; prints a Markdown table.",
    )
    parser.add_argument("checkpoint", type=Path, help="such as runs/NAME/last.pt")
    parser.add_argument(
        "--data", type=Path, action="append", required=True, metavar="DIR",
        help="training photographs; may be given repeatedly",
    )  # fmt: skip
    parser.add_argument(
        "--labelled", type=Path, required=True, metavar="DIR",
        help="a folder with train/CLASS/ and test/CLASS/",
    )  # fmt: skip
    parser.add_argument(
        "--photographs", type=int, default=2000, metavar="N",
        help="of --data, evenly chosen, to fit to and to search among (default: 2000)",
    )  # fmt: skip
    parser.add_argument(
        "--queries", type=int, default=250, metavar="N",
        help="of them that are edited and searched for; nothing is fitted to these (default: 250)",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the table here too")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="processor threads")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Parses the command line and compares; 0 if that went well, 2 if it can't be."""
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    if options.threads > 0:
        torch.set_num_threads(options.threads)
    console = Console(stderr=True)
    try:
        model = tokenizer_of(options.checkpoint)
        paths = find_images(options.data).paths
        photographs = _readable([paths[i] for i in evenly(len(paths), options.photographs)])
        labelled = read_labelled(options.labelled)
        console.print(f"encoding {len(photographs)} photographs and the labelled images")
        material = prepare(model, photographs, labelled, options.queries)
    except (CheckpointError, DataError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    lines = [table_head()]
    print(lines[0], flush=True)
    for name, fit in candidates(material).items():
        lines.append(table_row(compare(name, fit, material)))
        print(lines[-1], flush=True)
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0


def _readable(paths: Sequence[Path]) -> list[Pixels]:
    images = []
    for path in paths:
        try:
            images.append(read_image(path))
        except OSError as error:
            print(f"unreadable, passed over: {path} ({error})", file=sys.stderr)
    return images


if __name__ == "__main__":
    raise SystemExit(main())
