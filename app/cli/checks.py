"""What `tessera doctor` looks at: installation, device, models, parity, speed."""

from __future__ import annotations

import importlib.metadata
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnxruntime

from app.codecs.grids import first_stages
from app.runtime.device import Device, DeviceUnavailable, choose_device, usable_cpus
from app.runtime.engine import Graphs
from app.runtime.model import Model
from app.runtime.operations import DECODE, EMBED, ENCODE, Operation
from app.runtime.registry import ModelsRefused, is_stray, load_models
from app.runtime.sessions import GraphRefused, choose_precision
from bundle import BundleError, open_bundle
from imaging.decode import decode_image
from imaging.headers import inspect_image
from imaging.resize import pad_to_multiple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from app.runtime.sessions import Precision
    from app.settings import Settings
    from imaging.samples import SampleFormat

_SAMPLES = Path(__file__).parents[1] / "playground" / "static" / "samples"
_SIDE = 256
_SPEED_S = 1.5

# The manifest's figures were measured on other pictures: this much further off is chance.
_AGREEMENT_SLACK = 0.05
_PSNR_SLACK_DB = 0.1


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: what it is of.
        state: `ok`, `note` for what could be better, `bad` for what doesn't work.
        text: what was found.
        advice: what to do about it; empty where there is nothing to do.
    """

    subject: str
    state: Literal["ok", "note", "bad"]
    text: str
    advice: str = ""


def examine(settings: Settings) -> Iterator[Finding]:
    """Look at everything, one after the other; stops where nothing further can work.

    Args:
        settings: device, precision and models folder to look at.
    """
    yield _installation()
    try:
        device = choose_device(settings.device, settings.threads)
    except DeviceUnavailable as error:
        text, _, advice = str(error).partition(": ")
        yield Finding("device", "bad", text, advice or "install one of the extras `cpu` and `gpu`")
        return
    yield _device(device, settings)
    yield from _bundles(settings)
    try:
        models = load_models(
            settings.models_dir,
            settings.default_model,
            device,
            settings.precision,
            tile_pixels=settings.max_tile_pixels,
        )
    except ModelsRefused as error:
        yield Finding("models", "bad", str(error), _models_advice(settings))
        return
    photographs = _photographs()
    for model in models.by_name.values():
        pictures = [_as_samples(photograph, model.samples) for photograph in photographs]
        yield from _parity(model, device, pictures)
        yield _batches(model, pictures)
        yield from _speed(model, pictures)


def _installation() -> Finding:
    there = []
    for name in ("tessera", "onnxruntime", "onnxruntime-gpu", "numpy", "pillow"):
        try:
            there.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return Finding(
        "installation",
        "ok",
        f"Python {platform.python_version()} on {platform.system()} {platform.machine()}, "
        + ", ".join(there),
    )


def _device(device: Device, settings: Settings) -> Finding:
    if device.kind == "cuda":
        return Finding("device", "ok", f"{device} runs a convolution, and rightly")
    text = f"cpu, {device.threads} threads of {usable_cpus()} CPUs that this process may use"
    if settings.device == "auto" and "CUDAExecutionProvider" in (
        onnxruntime.get_available_providers()
    ):
        try:
            choose_device("cuda")
        except DeviceUnavailable as error:
            return Finding(
                "device",
                "note",
                f"{text}; CUDA is installed, but doesn't run: {error}",
                "mend that, or say --device cpu to be told no more of it",
            )
    if device.threads > usable_cpus():
        return Finding(
            "device", "note", text, "leave TESSERA_THREADS unset: more threads than CPUs are slower"
        )
    return Finding("device", "ok", text)


def _models_advice(settings: Settings) -> str:
    folder = settings.models_dir
    if not folder.is_dir():
        return f"there is no {folder} from here: name the folder with --models-dir"
    return "put a whole bundle there, as `python -m training.export` writes it, or take it away"


def _bundles(settings: Settings) -> Iterator[Finding]:
    if not settings.models_dir.is_dir():
        return
    for path in sorted(settings.models_dir.iterdir()):
        if path.name.startswith(".") or not path.is_dir():
            continue
        if is_stray(path):
            text = f"the folder {path.name} holds no model, and is skipped"
            yield Finding("bundle", "note", text, "take it out of the models folder")
            continue
        try:
            bundle = open_bundle(path)
        except BundleError as error:
            yield Finding("bundle", "bad", str(error), "copy it anew from where it came from")
        else:
            manifest = bundle.manifest
            size = sum(file.bytes for file in manifest.files.values())
            yield Finding(
                "bundle",
                "ok",
                f"{manifest.name} {manifest.version}: {len(manifest.files)} files, "
                f"{size / 1e6:.1f} MB, each of the size and hash that it should be",
            )


def _parity(model: Model, device: Device, pictures: list[NDArray[Any]]) -> Iterator[Finding]:
    """Each precision against fp32 here, and that against the manifest's own comparison."""
    padded = [pad_to_multiple(picture, model.manifest.stride)[None] for picture in pictures]
    try:
        exact = _graphs(model, device, "fp32")
        wanted = [exact.encode(pixels) for pixels in padded]
    except (GraphRefused, BundleError) as error:
        yield Finding(f"{model.name} fp32", "bad", str(error), "export the model anew")
        return
    white = model.samples.maximum
    quality = _psnr(exact, wanted, padded, white)
    yield Finding(
        f"{model.name} fp32",
        "ok",
        f"all graphs run; {quality:.2f} dB on {len(pictures)} photographs that come with Tessera",
    )
    for precision in ("fp16", "int8"):
        subject = f"{model.name} {precision}"
        if precision not in model.bundle.precisions("encoder"):
            continue
        try:
            graphs = _graphs(model, device, precision)
            codes = [graphs.encode(pixels) for pixels in padded]
        except Exception as error:  # noqa: BLE001  (ONNX Runtime raises of many kinds)
            yield Finding(subject, "note", f"doesn't run here: {error}", "use another precision")
            continue
        # Of the first stage, as export has it: later ones code what another first code left.
        same = np.concatenate(
            [
                (first_stages(a, 1) == first_stages(b, 1)).ravel()
                for (a,), (b,) in zip(codes, wanted, strict=True)
            ]
        )
        agreement, loss = float(same.mean()), quality - _psnr(graphs, codes, padded, white)
        promised = model.manifest.parity.get("encoder", {}).get(precision, {})
        least = promised.get("code_agreement", 0.0) - _AGREEMENT_SLACK
        good = agreement >= least and loss <= _PSNR_SLACK_DB
        yield Finding(
            subject,
            "ok" if good else "bad",
            f"{agreement:.1%} of the codes as in fp32, {loss:+.3f} dB lost; "
            f"at export it was {promised.get('code_agreement', float('nan')):.1%}",
            "" if good else f"don't use {precision} on this machine; update onnxruntime",
        )


def _graphs(model: Model, device: Device, precision: Precision) -> Graphs:
    return Graphs(model.bundle, device, choose_precision(precision, device, model.bundle))


def _batches(model: Model, pictures: list[NDArray[Any]]) -> Finding:
    """Whether an image's codes depend on what it is batched with; they must not."""
    side = 64 // model.manifest.stride * model.manifest.stride or model.manifest.stride
    cut = [np.ascontiguousarray(picture[:side, :side]) for picture in pictures]
    together = model.run(ENCODE, cut)
    alone = [model.run(ENCODE, [pixels])[0] for pixels in cut]
    share = float(np.mean([np.mean(a == b) for a, b in zip(together, alone, strict=True)]))
    subject = f"{model.name} batches"
    if share == 1:
        return Finding(subject, "ok", "an image has the same codes alone and among others")
    if model.graphs.device.kind == "cuda":
        return Finding(
            subject,
            "note",
            f"{share:.2%} of the codes are the same alone and among others",
            "a GPU rounds otherwise for other batches; use a CPU where every code must be equal",
        )
    return Finding(
        subject, "bad", f"batching changes {1 - share:.2%} of the codes", "update onnxruntime"
    )


def _speed(model: Model, pictures: list[NDArray[Any]]) -> Iterator[Finding]:
    side = -(-_SIDE // model.manifest.stride) * model.manifest.stride
    picture = np.resize(pictures[0], (side, side, model.samples.channels))
    (codes,) = model.run(ENCODE, [picture])
    for name, operation, payload in (
        ("encode", ENCODE, picture),
        ("decode", DECODE, codes),
        ("embed", EMBED, codes),
    ):
        rate = _rate(model, operation, payload)
        yield Finding(
            f"{model.name} speed",
            "ok",
            f"{name} {rate:,.1f} images/s of {side} × {side}, "
            f"{1000 / rate:.1f} ms each, in {model.precision}",
            _faster(model) if operation == ENCODE else "",
        )


def _faster(model: Model) -> str:
    if (
        model.graphs.device.kind == "cpu"
        and model.precision == "fp32"
        and ("int8" in model.bundle.precisions("encoder"))
    ):
        return "int8 is faster on most CPUs, and moves a tenth of the codes: --precision int8"
    return ""


def _rate(model: Model, operation: Operation, payload: Any) -> float:
    model.run(operation, [payload])
    started, runs = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - started) < _SPEED_S or not runs:
        model.run(operation, [payload])
        runs += 1
    return runs / elapsed


def _psnr(graphs: Graphs, codes: list[Any], padded: list[NDArray[Any]], white: int) -> float:
    """Mean PSNR in dB of what codes decode to; `white` is the largest sample."""
    values = []
    for one, pixels in zip(codes, padded, strict=True):
        error = np.mean((graphs.decode(one).astype(np.float64) - pixels) ** 2)
        values.append(10 * np.log10(white**2 / max(float(error), 1e-6)))
    return float(np.mean(values))


def _as_samples(photograph: NDArray[np.uint8], samples: SampleFormat) -> NDArray[Any]:
    """A photograph as a model's pixels, its colours again and again for as many channels."""
    channels = photograph[:, :, np.arange(samples.channels) % 3]
    return (channels * (samples.maximum / 255)).round().astype(samples.dtype)


def _photographs() -> list[NDArray[np.uint8]]:
    """The playground's photographs, made small enough to be quick."""
    files = sorted(_SAMPLES.glob("*.webp"))[:4]
    return [
        decode_image(inspect_image(file.read_bytes(), max_pixels=2**24), (192, 144)).pixels
        for file in files
    ]
