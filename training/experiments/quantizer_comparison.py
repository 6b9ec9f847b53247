"""Models with different quantizers, trained alike and measured alike.

`python -m training.compare_quantizers` is the command, docs/quantizers.md has what it found.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from training.data.dataset import Pixels, decoded, evenly, find_images
from training.data.metrics import CodeCounter
from training.embedding.embedder import fit_embedder
from training.evaluation.linear_probe import Labelled, probe_codec
from training.evaluation.quality import Measures, Quality, mean_quality, measure
from training.evaluation.without_codes import model_of, there_and_back
from training.experiments.quantizer_runs import Run
from training.onnx_export.codec import CheckpointCodec
from training.tokenizer.checkpoint import Checkpoint, load_checkpoint
from training.tokenizer.distributed import DistributedContext
from training.tokenizer.model import Tokenizer
from training.tokenizer.run import train

_FIGURES_FILE = "figures.json"
# Training images whose codes make the histogram that the test's codes are coded with.
_HISTOGRAM_IMAGES = 300
_TIMED_SIDE = 512
_COLUMNS = (
    "quantizer",
    "codes",
    "PSNR, dB",
    "MS-SSIM",
    "LPIPS",
    "used",
    "perplexity",
    "bits a position",
    "bits per pixel",
    "training, crops/s",
    "encode, ms",
    "decode, ms",
    "linear probe",
)
_REPEATS = 5


@dataclass(frozen=True)
class Figures:
    """What was measured of one model.

    Attributes:
        stride: pixels along one side of the patch that one code stands for.
        codes: number of codes of a position, over all stages; 0 without a quantizer.
        psnr: dB, mean over the test images; so are the next two.
        ms_ssim: 0…1; None where the images are too small.
        lpips: 0…1; None where there is no network.
        used: share of the codes of the first stage that the test images have.
        perplexity: of these codes.
        bits: of a position with a code for each symbol whose frequencies are those of the training
            images, each counted once more than it was seen: what a reader could have.
        images_per_second: in training, crops.
        encode_ms, decode_ms: of a picture of 512 × 512, one thread of the processor.
        probe: accuracy of a linear probe of the embedding; None where it wasn't asked for.
    """

    stride: int
    codes: int
    psnr: float
    ms_ssim: float | None
    lpips: float | None
    used: float
    perplexity: float
    bits: float
    images_per_second: float
    encode_ms: float
    decode_ms: float
    probe: float | None

    @property
    def bits_per_pixel(self) -> float:
        """At `bits` a position."""
        return self.bits / self.stride**2


@dataclass(frozen=True)
class Material:
    """What all models are trained and measured on.

    Attributes:
        data: folders of training images.
        test: images, uint8 `[h, w, 3]`.
        labelled: images with classes, for the linear probe; None leaves it out.
        measures: optional measures of quality.
    """

    data: Sequence[Path]
    test: Sequence[Pixels]
    labelled: Labelled | None
    measures: Measures


def compared(
    run: Run,
    material: Material,
    out: Path,
    context: DistributedContext,
    minutes: float | None = None,
) -> Figures:
    """Trains a model and measures it, or goes on where it was stopped.

    Args:
        run: the model.
        material: to train and to measure on.
        out: folder for all runs; what is finished there is not done again.
        context: device and process.
        minutes: after which training is interrupted.

    Raises:
        TrainingInterrupted: a signal came, or the time was over; the same call goes on.
        CheckpointError: there is a run of that name with other settings.
    """
    folder = out / run.name
    last = train(run.config, list(material.data), folder, context, minutes=minutes)
    file = folder / _FIGURES_FILE
    if file.is_file():
        return Figures(**json.loads(file.read_text(encoding="utf-8")))
    figures = measured(load_checkpoint(last), material)
    text = json.dumps(dataclasses.asdict(figures), indent=1) + "\n"
    file.write_text(text, encoding="utf-8")
    return figures


@torch.no_grad()
def measured(checkpoint: Checkpoint, material: Material) -> Figures:
    """All figures of a trained model, by its averaged weights on the processor."""
    model = model_of(checkpoint)
    sizes = model.quantizer.sizes
    qualities: list[Quality] = []
    counters = [CodeCounter(size) for size in sizes]
    for image in material.test:
        codes, made = there_and_back(model, image)
        qualities.append(measure(made, image, material.measures))
        _count(counters, codes)
    quality = mean_quality(qualities)
    usage = counters[0].usage() if counters else None
    encode_ms, decode_ms = _milliseconds(model)
    facts = checkpoint.facts
    return Figures(
        stride=checkpoint.config.network.stride,
        codes=int(np.prod(sizes)) if sizes else 0,
        psnr=quality.psnr,
        ms_ssim=quality.ms_ssim,
        lpips=quality.lpips,
        used=usage.used if usage else 0.0,
        perplexity=usage.perplexity if usage else 0.0,
        bits=_bits(model, counters, material.data),
        images_per_second=facts["images_seen"] / max(facts["seconds"], 1e-9),
        encode_ms=encode_ms,
        decode_ms=decode_ms,
        probe=_probed(model, material) if sizes else None,
    )


def _count(counters: Sequence[CodeCounter], codes: NDArray[np.int64]) -> None:
    stages = codes.reshape(max(1, len(counters)), -1)
    for counter, stage in zip(counters, stages, strict=False):
        counter.add(torch.from_numpy(stage))


def _bits(model: Tokenizer, counters: Sequence[CodeCounter], data: Sequence[Path]) -> float:
    """Mean length of a test position's codes under the training images' histogram, in bits."""
    if not counters:
        return 0.0
    paths = find_images(list(data)).paths
    known = [CodeCounter(len(counter.counts)) for counter in counters]
    chosen = [paths[i] for i in evenly(len(paths), _HISTOGRAM_IMAGES)]
    for _, image in decoded(chosen, []):
        _count(known, there_and_back(model, image)[0])
    total = 0.0
    for seen, asked in zip(known, counters, strict=True):
        frequencies = (seen.counts + 1).double()
        lengths = -(frequencies / frequencies.sum()).log2()
        total += float((asked.counts * lengths).sum() / asked.counts.sum())
    return total


def _probed(model: Tokenizer, material: Material) -> float | None:
    if material.labelled is None:
        return None
    codec = CheckpointCodec(model, fit_embedder(model, material.labelled.train))
    result = probe_codec(codec, material.labelled)
    return None if result is None else result.linear


def _milliseconds(model: Tokenizer) -> tuple[float, float]:
    """Median times of encoding and decoding a picture, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    side = _TIMED_SIDE
    picture = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1
    vectors = model.quantizer(model.encoder(picture)).vectors
    times = (
        _median(lambda: model.quantizer(model.encoder(picture))),
        _median(lambda: model.decoder(vectors)),
    )
    torch.set_num_threads(threads)
    return times


def _median(work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(_REPEATS):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return 1000 * statistics.median(seconds)


def table(results: Sequence[tuple[Run, Figures]]) -> Iterator[str]:
    """Markdown: a table for each group, the best PSNR first."""
    for group in dict.fromkeys(run.group for run, _ in results):
        rows = sorted((row for row in results if row[0].group == group), key=lambda r: -r[1].psnr)
        yield f"### {group}"
        yield ""
        yield f"| {' | '.join(_COLUMNS)} |"
        yield "|---|" + "---:|" * (len(_COLUMNS) - 1)
        for run, f in rows:
            cells = [
                run.member,
                f"{f.codes:,}" if f.codes else "",
                f"{f.psnr:.2f}",
                _cell(f.ms_ssim, ".4f"),
                _cell(f.lpips, ".3f"),
                f"{f.used:.1%}" if f.codes else "",
                f"{f.perplexity:,.0f}" if f.codes else "",
                f"{f.bits:.2f}" if f.codes else "",
                f"{f.bits_per_pixel:.4f}" if f.codes else "",
                f"{f.images_per_second:.0f}",
                f"{f.encode_ms:.0f}",
                f"{f.decode_ms:.0f}",
                _cell(f.probe, ".3f"),
            ]
            yield f"| {' | '.join(cells)} |"
        yield ""


def _cell(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
