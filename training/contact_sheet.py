"""`python -m training.contact_sheet --model NAME=BUNDLE --data DIR`: models side by side.

Each picture has two rows: whole, and a part of it at 3×. The columns are the original, every
decoder of every model given, and WebP and AVIF of as many bytes as the first model's codes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bundle import BundleError
from training.data.dataset import DataError, Pixels, evenly, find_images, read_image
from training.evaluation.baselines import baseline_codecs, decode_file, encode_within
from training.evaluation.figures import SheetRow, draw_sheet, enlarged, fitted, largest_window
from training.evaluation.quality import Measures, available_measures, measure
from training.evaluation.variants import DEFAULT_DECODER, Variant, variants_of
from training.onnx_export.codec import Codec, open_codec
from training.options import add_data
from training.tokenizer.checkpoint import CheckpointError

_BASELINES = ("WebP", "AVIF")


def contact_sheet(
    models: Sequence[tuple[str, Codec]], paths: Sequence[Path], measures: Measures
) -> bytes:
    """The sheet as a WebP file.

    Args:
        models: names to show and models; the first one's bytes are those of WebP and AVIF.
        paths: of the pictures.
        measures: LPIPS is shown beside PSNR where it is among them.

    Raises:
        DataError: a picture can't be read.
    """
    columns = [(name, codec, v) for name, codec in models for v in _shown(variants_of(codec))]
    baselines = [baseline for baseline in baseline_codecs() if baseline.name in _BASELINES]
    titles = ["original", *(_title(*column) for column in columns), *(p.name for p in baselines)]
    rows: list[SheetRow] = []
    for path in paths:
        try:
            image = read_image(path)
        except OSError as error:
            raise DataError(f"{path} can't be read: {error}") from error
        made = [variant.reconstruct(codec, image) for _, codec, variant in columns]
        limit = made[0][1]
        for baseline in baselines:
            file = encode_within(baseline, image, limit).data
            made.append((decode_file(file), len(file)))
        pictures = [image, *(picture for picture, _ in made)]
        captions = [path.name, *(f"{size:,} bytes" for _, size in made)]
        rows.append(SheetRow([fitted(p) for p in pictures], captions))
        area = largest_window(_detail(image))
        figures = ["a part at 3x", *(_figures(p, image, measures) for p in pictures[1:])]
        rows.append(SheetRow([enlarged(p[area]) for p in pictures], figures))
    return draw_sheet(titles, rows)


def _shown(variants: Sequence[Variant]) -> list[Variant]:
    """Each decoder with all stages, and the default one with the first stage alone."""
    most = max(variant.stages for variant in variants)
    return [
        v for v in variants if v.stages == most or (v.decoder, v.stages) == (DEFAULT_DECODER, 1)
    ]


def _title(name: str, codec: Codec, variant: Variant) -> str:
    if variant.name == codec.name:
        return name
    return f"{name}, {variant.name}"


def _figures(picture: Pixels, original: Pixels, measures: Measures) -> str:
    quality = measure(picture, original, measures)
    lpips = "" if quality.lpips is None else f"  LPIPS {quality.lpips:.3f}"
    return f"{quality.psnr:.2f} dB{lpips}"


def _detail(image: Pixels) -> NDArray[np.float64]:
    """Squared differences of neighbours `[h, w]`: the part shown is the original's most detailed.

    It depends on no model, so that none chooses where it is looked at.
    """
    grey = image.astype(np.float64).mean(axis=2)
    across = np.diff(grey, axis=1, append=grey[:, -1:])
    down = np.diff(grey, axis=0, append=grey[-1:])
    detail: NDArray[np.float64] = np.square(across) + np.square(down)
    return detail


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line; see `--help`."""
    parser = argparse.ArgumentParser(
        prog="python -m training.contact_sheet",
        description="Draws pictures through several models side by side, with WebP and AVIF of "
        "as many bytes as the first model's codes, whole and in part at 3×.",
        epilog="Example: python -m training.contact_sheet --model 'version 2=models/photo-f8' "
        "--model mine=runs/mine/last.pt --data kodak --out docs/contact-sheet.webp",
    )
    parser.add_argument(
        "--model",
        action="append",
        required=True,
        metavar="NAME=PATH",
        help="the name to show, and a bundle's folder or a checkpoint; may be given repeatedly",
    )
    add_data(parser, "images")
    parser.add_argument(
        "--pick",
        action="append",
        default=[],
        metavar="STEM",
        help="an image by its name without ending, such as kodim05; may be given repeatedly",
    )
    parser.add_argument(
        "--count",
        type=int,
        default=4,
        metavar="N",
        help="without --pick: so many images, evenly chosen (default: 4)",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="a .webp file")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Parses the command line and writes the sheet; 0 if that went well, 2 if it can't be."""
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    try:
        models = [_open(argument) for argument in options.model]
        paths = _chosen(find_images(options.data).paths, options.pick, max(1, options.count))
        sheet = contact_sheet(models, paths, available_measures(without=["ssimulacra2"]))
        options.out.write_bytes(sheet)
    except (BundleError, CheckpointError, DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{options.out}: {len(paths)} pictures, {len(sheet) / 1024:.0f} KiB")
    return 0


def _chosen(paths: Sequence[Path], picked: Sequence[str], count: int) -> list[Path]:
    """Those of the names given, or an even choice where none is."""
    missing = set(picked) - {path.stem for path in paths}
    if missing:
        raise DataError(f"no image is called {', '.join(sorted(missing))}")
    if picked:
        return [path for path in paths if path.stem in picked]
    return [paths[i] for i in evenly(len(paths), count)]


def _open(argument: str) -> tuple[str, Codec]:
    name, _, path = argument.partition("=")
    if not name or not path:
        raise DataError(f"--model takes NAME=PATH, not {argument!r}")
    return name, open_codec(Path(path))


if __name__ == "__main__":
    raise SystemExit(main())
