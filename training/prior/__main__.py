"""`python -m training.prior BUNDLE --data DIR`: a context model of a bundle's codes.

Learnt from the codes of photographs; with it they are stored in a third less space
(docs/codes-format.md). The tokenizer and its codes stay as they are.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from bundle import Bundle, BundleError, BundleExists, open_bundle
from training.data.dataset import DataError, find_images
from training.onnx_export.codec import BundleCodec, code_vectors
from training.onnx_export.parity import ParityError
from training.options import add_data, add_seed, add_threads
from training.prior.bundle import StageGraphs, measure, places, prove, stage_graphs, write
from training.prior.context import Grid, causal_neighbours, earlier_neighbours, group_codes
from training.prior.dataset import Photographs, encode_view, find_photographs, read_sources
from training.prior.integers import TooLarge, integers_of
from training.prior.network import Layout, StageNetwork
from training.prior.trainer import Progress, Recipe, train
from training.tokenizer.config import require_at_least
from training.tokenizer.progress import bar

# Columns of the rows above that a place looks at, the nearest row first; and to its left.
_LEFT, _ABOVE = 3, [(-3, 2), (-2, 3), (-1, 1)]


def encode(
    bundle: Bundle, photographs: Photographs, views: int, cache: Path | None, console: Console
) -> tuple[list[Grid], list[Grid]]:
    """Code grids to learn from, all views together, and those held out, as served in fp32."""
    exact = BundleCodec(bundle)
    fast = BundleCodec(bundle, "int8") if "int8" in bundle.precisions("encoder") else exact
    grids: list[Grid] = []
    for view in range(views):
        title = f"encoding, view {view + 1} of {views}"
        with bar(console, title, len(photographs.training)) as tell:
            grids += encode_view(fast, photographs.training, view, cache=cache, tell=tell)
    with bar(console, "encoding, held out", len(photographs.held_out)) as tell:
        held_out = encode_view(exact, photographs.held_out, 0, cache=cache, tell=tell)
    return grids, held_out


def learn(
    bundle: Bundle,
    grids: list[Grid],
    held_out: list[Grid],
    layout: Layout,
    recipe: Recipe,
    state: Path | None,
    console: Console,
) -> tuple[list[StageGraphs], list[Progress]]:
    """Trains the prior of every stage, and makes its graphs.

    Raises:
        DataError: the grids are too few or too small.
        TooLarge: the network is too wide for whole numbers that are exact everywhere.
    """
    vectors = codebooks(bundle)
    sizes = [len(table) for table in vectors]
    made, runs = [], []
    for index, table in enumerate(vectors):
        neighbours = [n for of in range(index) for n in earlier_neighbours(of)]
        neighbours += causal_neighbours(_LEFT, _ABOVE, index)
        torch.manual_seed(recipe.seed)
        network = StageNetwork(sizes, neighbours, group_codes(table), layout)
        file = state / f"stage-{index}.pt" if state else None
        with bar(console, f"training, stage {index}", recipe.steps) as progress:

            def tell(step: int, loss: float, measured: float | None) -> None:
                progress(step)
                if measured is not None:
                    console.print(
                        f"step {step}  training {loss:.3f}  held out {measured:.3f} bits a code",
                        highlight=False,
                    )

            runs.append(
                train(network, index, sizes, grids, held_out, recipe, state=file, tell=tell)
            )
        made.append(stage_graphs(integers_of(network), index))
    return made, runs


def codebooks(bundle: Bundle) -> list[np.ndarray[Any, np.dtype[np.float32]]]:
    """The code vectors of each stage, float32 `[K, d]`."""
    return [code_vectors(bundle)]


def test_sets(arguments: list[str]) -> dict[str, tuple[Path, ...]]:
    """Images to measure on, by name, of arguments `NAME=DIR`.

    Raises:
        DataError: an argument isn't of that form, or its folder holds no image.
    """
    sets = {}
    for argument in arguments:
        name, _, folder = argument.partition("=")
        if not name or not folder:
            raise DataError(f"--test is NAME=DIR, such as kodak=data/kodak; not {argument!r}")
        sets[name] = find_images([Path(folder)]).paths
    return sets


def run(options: argparse.Namespace, console: Console) -> None:
    """What the command does; see `parse_arguments` for the options.

    Raises:
        BundleError, DataError, ParityError, TooLarge: nothing was written into the bundle.
    """
    require_at_least(1, steps=options.steps, views=options.views, hidden=options.hidden)
    recipe = Recipe(
        steps=options.steps,
        seed=options.seed,
        check_every=max(1, min(Recipe.check_every, options.steps // 4)),
    )
    bundle = open_bundle(options.bundle)
    if bundle.manifest.prior is not None and not options.replace:
        raise BundleExists(
            f"{options.bundle} has a prior already, and codes that were coded with it can't be "
            "decoded without it; give --replace to train another in its place"
        )
    layout = Layout.of_width(options.hidden)
    tests = test_sets(options.test)
    photographs = find_photographs(options.data, read_sources(options.sources), options.held_out)
    console.print(
        f"{len(photographs.training)} images to learn from, {len(photographs.held_out)} held out"
    )
    cache = options.state / "codes"
    grids, held_out = encode(bundle, photographs, options.views, cache, console)
    made, runs = learn(bundle, grids, held_out, layout, recipe, options.state, console)
    stages = [graphs.stage for graphs in made]
    sizes = [int(stage.codes.max()) + 1 for stage in stages]
    compared = 0
    for index, graphs in enumerate(made):
        compared += prove(graphs, *places(held_out, index, graphs.stage.neighbours, sizes))
    exact = BundleCodec(bundle)
    figures: dict[str, Any] = {"bits_per_code_held_out": round(measure(stages, held_out, sizes), 4)}
    for name, paths in tests.items():
        shown = encode_view(exact, paths, 0, cache=cache)
        figures[f"bits_per_code_{name}"] = round(measure(stages, shown, sizes), 4)
    facts = {
        "recipe": dataclasses.asdict(recipe),
        "layout": dataclasses.asdict(layout),
        "images": len(photographs.training),
        "images_held_out": len(photographs.held_out),
        "views": options.views,
        "codes": sum(grid.size for grid in grids),
        "steps": [done.step for done in runs],
        "seconds": round(sum(done.seconds for done in runs), 1),
        "torch": torch.__version__,
    }
    written = write(options.bundle, made, figures, facts, compared)
    for name, value in figures.items():
        share = 1 - value / written.manifest.bits
        print(f"{name} {value:.3f} of {written.manifest.bits}: {share:.1%} less")
    size = sum(len(graphs.groups) + len(graphs.members) for graphs in made) / 2**20
    print(f"{options.bundle}: prior of {size:.2f} MiB, equal frequencies at {compared} places")


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line; see `--help`."""
    parser = argparse.ArgumentParser(
        prog="python -m training.prior",
        description="Learns how likely each code is given the codes around it, and puts that "
        "into a bundle: codes can then be stored in about a third less space. The bundle's codes "
        "and its version stay as they are. Started again with the same options, it goes on where "
        "it was stopped.",
    )
    parser.add_argument("bundle", type=Path, help="such as models/NAME")
    parser.add_argument(
        "--replace", action="store_true",
        help="replace the bundle's prior: codes that were coded with it can no longer be decoded",
    )  # fmt: skip
    add_data(parser, "photographs")
    parser.add_argument(
        "--sources", type=Path, metavar="CSV",
        help="says which files show the same image, in the columns file and source, so that none "
        "is learnt from and held out at once; without it, files of one name without its ending do",
    )  # fmt: skip
    parser.add_argument(
        "--held-out", type=float, default=0.05, metavar="SHARE",
        help="share of the images that is not learnt from (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--test", action="append", default=[], metavar="NAME=DIR",
        help="images to measure on, such as kodak=data/kodak; may be given repeatedly",
    )  # fmt: skip
    default = Recipe()
    parser.add_argument(
        "--views", type=int, default=3, metavar="N",
        help="encodings of each image, the first as it is, the others edited (default: 3)",
    )  # fmt: skip
    parser.add_argument("--steps", type=int, default=default.steps, help="(default: %(default)s)")
    add_seed(parser, default.seed)
    parser.add_argument(
        "--hidden", type=int, default=Layout().hidden, metavar="N",
        help="width of the network (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--state", type=Path, default=Path("runs/prior"), metavar="DIR",
        help="keeps codes and the state of the training (default: runs/prior)",
    )  # fmt: skip
    add_threads(parser)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Parses the command line and learns; 0 if the bundle has its prior, else 1 or 2."""
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    if options.threads > 0:
        torch.set_num_threads(options.threads)
    try:
        run(options, Console(stderr=True))
    except (BundleError, ParityError, TooLarge, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1 if isinstance(error, ParityError | TooLarge) else 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
