"""Measures a model on whole folders of images.

Whole images at their own size, padded as the service pads them and cropped back;
codes counted over the whole set; classical codecs at equal bytes beside it; and,
with labelled images, the recognition probe.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from training.data.dataset import DataError, Pixels, decoded, evenly, find_images, read_image
from training.data.metrics import CodeCounter, CodeUsage, ms_ssim, psnr, ssim
from training.embedding.embedder import fit_embedder
from training.evaluation.baselines import PeerCodec, decode_file, encode_within, peer_codecs
from training.evaluation.linear_probe import (
    ProbeResult,
    probe_baselines,
    probe_codec,
    read_labelled,
)
from training.onnx_export.codec import CheckpointCodec, Codec

# Five scales of an 11-pixel window: below this MS-SSIM isn't defined.
_MS_SSIM_SIDE = 176
_SSIM_SIDE = 11


@dataclass(frozen=True)
class Quality:
    """How near a picture, or the mean of several, comes to the original.

    Attributes:
        psnr: dB.
        ssim: 0…1; None where every image has a side below 11 pixels.
        ms_ssim: 0…1; None where every image has a side below 176 pixels.
        lpips: 0…1, less is better; None where no network was given.
    """

    psnr: float
    ssim: float | None
    ms_ssim: float | None
    lpips: float | None


@dataclass(frozen=True)
class ImageResult:
    """One image through the model.

    Attributes:
        path: of the file, relative to the folder given.
        width, height: pixels.
        bytes: its codes take, packed at ⌈log2 K⌉ bits each, without any header.
        quality: of the reconstruction.
    """

    path: str
    width: int
    height: int
    bytes: int
    quality: Quality


@dataclass(frozen=True)
class PeerResult:
    """A classical codec given as many bytes an image as the model takes.

    Attributes:
        codec: its name.
        images: it was tried on.
        fitting: of these, how many files could be made as small as the model's codes;
            the others count with the codec's smallest file.
        bits_per_pixel: mean over the images.
        smallest_bits_per_pixel: the mean size of its smallest files.
        quality: means.
        model: means of the model on the same images.
    """

    codec: str
    images: int
    fitting: int
    bits_per_pixel: float
    smallest_bits_per_pixel: float
    quality: Quality
    model: Quality


@dataclass(frozen=True)
class CurvePoint:
    """Mean rate and quality of a classical codec at one of its quality settings."""

    codec: str
    setting: int
    bits_per_pixel: float
    psnr: float


@dataclass(frozen=True)
class Evaluation:
    """Everything measured of a model on folders of images.

    Attributes:
        model: its name.
        runtime: what computed it, with the precision.
        stride, codebook_size: of the model.
        images: how many were measured.
        broken: files that look like images and can't be read, with the reason.
        without_ms_ssim: images too small for MS-SSIM, left out of its mean.
        bits_per_pixel: packed codes over true pixels, both summed over all images.
        bits_per_pixel_entropy: the same if each code took the entropy of their distribution.
        quality: means over the images.
        usage: of the codebook over the whole set.
        peers: classical codecs at equal bytes.
        curve: rate and quality of the classical codecs at several settings.
        probe: recognition accuracies, the model's embedding first; empty without labelled images.
        results: image by image.
    """

    model: str
    runtime: str
    stride: int
    codebook_size: int
    images: int
    broken: tuple[str, ...]
    without_ms_ssim: int
    bits_per_pixel: float
    bits_per_pixel_entropy: float
    quality: Quality
    usage: CodeUsage
    peers: tuple[PeerResult, ...]
    curve: tuple[CurvePoint, ...]
    probe: tuple[ProbeResult, ...]
    results: tuple[ImageResult, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, keys as the attributes."""
        return dataclasses.asdict(self)


def evaluate(
    codec: Codec,
    folders: Sequence[Path],
    *,
    peer_images: int = 100,
    curve_images: int = 24,
    labelled: Path | None = None,
    lpips: nn.Module | None = None,
    console: Console | None = None,
) -> Evaluation:
    """Measures a model on every image under some folders.

    Args:
        codec: the model.
        folders: of images, searched at any depth.
        peer_images: how many images, evenly chosen, the classical codecs are tried on.
        curve_images: the same for their curves.
        labelled: folder with `train/CLASS/` and `test/CLASS/` for the recognition probe.
        lpips: maps two float batches `[n, 3, h, w]` in [−1, 1] to distances.
        console: told what is happening; nothing is said without it.

    Raises:
        DataError: no readable image, or no usable labelled images.
    """
    console = console or Console(quiet=True)
    found = find_images(folders)
    broken = list(found.broken)
    results: list[ImageResult] = []
    kept: list[Path] = []
    used = CodeCounter(codec.codebook_size)
    codes_total = 0
    files = track(found.paths, "images", console=console, disable=not console.is_terminal)
    for path, image in decoded(files, broken):
        codes = codec.encode_image(image)
        height, width = image.shape[:2]
        used.add(torch.from_numpy(codes))
        codes_total += codes.size
        quality = measure(codec.decode_image(codes, height, width), image, lpips)
        name = _relative(path, folders)
        results.append(ImageResult(name, width, height, packed_bytes(codec, codes.size), quality))
        kept.append(path)
    if not results:
        raise DataError("not one image could be decoded")

    peers: list[PeerResult] = []
    curve: list[CurvePoint] = []
    chosen = evenly(len(kept), peer_images)
    for peer in peer_codecs() if chosen else ():
        title = f"{peer.name} at equal bytes"
        quiet = not console.is_terminal
        tried = track(chosen, title, console=console, disable=quiet)
        peers.append(_at_equal_bytes(peer, [(kept[i], results[i]) for i in tried]))
        curve += _curve(peer, [kept[i] for i in evenly(len(kept), min(curve_images, peer_images))])

    rows: list[ProbeResult] = []
    if labelled is not None:
        console.print("recognition probe")
        pictures = read_labelled(labelled)
        if isinstance(codec, CheckpointCodec) and codec.embedder is None:
            # No labels go in: the same fit as the export's, on these images instead.
            codec.embedder = fit_embedder(codec.model, pictures.train)
        own = probe_codec(codec, pictures)
        rows = ([own] if own else []) + probe_baselines(pictures, codec.config)

    pixels = sum(r.width * r.height for r in results)
    usage = used.usage()
    return Evaluation(
        model=codec.name,
        runtime=codec.runtime,
        stride=codec.stride,
        codebook_size=codec.codebook_size,
        images=len(results),
        broken=tuple(f"{_relative(b.path, folders)}: {b.reason}" for b in broken),
        without_ms_ssim=sum(r.quality.ms_ssim is None for r in results),
        bits_per_pixel=codes_total * codec.bits / pixels,
        bits_per_pixel_entropy=codes_total * usage.entropy / pixels,
        quality=mean_quality([r.quality for r in results]),
        usage=usage,
        peers=tuple(peers),
        curve=tuple(curve),
        probe=tuple(rows),
        results=tuple(results),
    )


def measure(made: Pixels, wanted: Pixels, lpips: nn.Module | None = None) -> Quality:
    """Quality of one picture: both uint8 `[h, w, 3]`.

    Raises:
        ValueError: they differ in size.
    """
    if made.shape != wanted.shape:
        raise ValueError(f"pictures of shapes {made.shape} and {wanted.shape} can't be compared")
    a, b = _unit(made), _unit(wanted)
    side = min(wanted.shape[:2])
    with torch.inference_mode():
        return Quality(
            psnr=float(psnr(a, b)),
            ssim=float(ssim(a, b)) if side >= _SSIM_SIDE else None,
            ms_ssim=float(ms_ssim(a, b)) if side >= _MS_SSIM_SIDE else None,
            lpips=float(lpips(2 * a - 1, 2 * b - 1).mean()) if lpips is not None else None,
        )


def mean_quality(qualities: Sequence[Quality]) -> Quality:
    """Means of each figure over the images that have it; None where none has."""

    def mean(values: list[float | None]) -> float | None:
        present = [v for v in values if v is not None]
        return float(np.mean(present)) if present else None

    return Quality(
        float(np.mean([q.psnr for q in qualities])),
        mean([q.ssim for q in qualities]),
        mean([q.ms_ssim for q in qualities]),
        mean([q.lpips for q in qualities]),
    )


def packed_bytes(codec: Codec, codes: int) -> int:
    """Bytes of that many codes, packed without gaps and without any header."""
    return -(-codes * codec.bits // 8)


def _at_equal_bytes(peer: PeerCodec, images: list[tuple[Path, ImageResult]]) -> PeerResult:
    qualities, rates, smallest, fitting = [], [], [], 0
    for path, result in images:
        image = read_image(path)
        pixels = result.width * result.height
        file = encode_within(peer, image, result.bytes)
        fitting += file.fits
        rates.append(8 * len(file.data) / pixels)
        smallest.append(8 * file.smallest / pixels)
        qualities.append(measure(decode_file(file.data), image))
    return PeerResult(
        codec=peer.name,
        images=len(images),
        fitting=fitting,
        bits_per_pixel=float(np.mean(rates)),
        smallest_bits_per_pixel=float(np.mean(smallest)),
        quality=mean_quality(qualities),
        model=mean_quality([result.quality for _, result in images]),
    )


def _curve(peer: PeerCodec, paths: list[Path]) -> list[CurvePoint]:
    images = [read_image(path) for path in paths]
    points = []
    for setting in peer.curve:
        rates, levels = [], []
        for image in images:
            data = peer.encode(image, setting)
            rates.append(8 * len(data) / (image.shape[0] * image.shape[1]))
            levels.append(float(psnr(_unit(decode_file(data)), _unit(image))))
        points.append(CurvePoint(peer.name, setting, float(np.mean(rates)), float(np.mean(levels))))
    return points


def _unit(pixels: Pixels) -> Tensor:
    """uint8 `[h, w, 3]` → float32 `[1, 3, h, w]` in [0, 1]."""
    return torch.tensor(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].float() / 255


def _relative(path: Path, folders: Sequence[Path]) -> str:
    folder = next(f for f in folders if path.is_relative_to(f))
    return path.relative_to(folder).as_posix()
