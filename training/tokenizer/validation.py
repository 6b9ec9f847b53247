"""How well a model in training reconstructs what it isn't trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from training.data.dataset import Broken, Folder, Pixels, decoded, evenly, report_broken
from training.data.metrics import psnr
from training.tokenizer.config import MAIN_DECODER
from training.tokenizer.model import Tokenizer, to_float
from training.tokenizer.progress import StageCounters

# Validation looks at no more images than this, so that it stays a small part of the time.
_VALIDATION_IMAGES = 32
_PICTURES = 8


@torch.no_grad()
def validate(
    model: Tokenizer,
    folder: Folder,
    board: SummaryWriter,
    report: Callable[[str], object],
    step: int,
    device: torch.device,
    decoder: str = MAIN_DECODER,
    drawn: Pixels | None = None,
) -> tuple[dict[str, float], str]:
    """Held-out images, cropped to multiples of the stride, through the averaged weights.

    An even choice of them, the same at every step of a run.

    Args:
        model: with the averaged weights, in evaluation mode.
        folder: of the held-out images.
        board: takes pictures of originals beside reconstructions.
        report: is given a line for each unreadable image.
        step: of the run.
        device: of the model.
        decoder: name of the one that is trained.
        drawn: synthetic pictures that the training doesn't see, uint8 `[n, h, w, 3]`.

    Returns:
        PSNR of all stages and of each shorter prefix, use and perplexity of the codes; PSNR of
        the drawn pictures, of which each is at most 50 dB so that no flat one decides. Empty where
        no image can be read. And the use of the codes in words.
    """
    counters = StageCounters(model.config.quantizer)
    stages = len(model.config.quantizer.stages)
    found: dict[str, list[float]] = {}
    chosen = [folder.paths[i] for i in evenly(len(folder.paths), _VALIDATION_IMAGES)]
    broken: list[Broken] = []
    stride = model.config.network.stride
    for index, (_, pixels) in enumerate(decoded(chosen, broken, folder.read)):
        height, width = (side // stride * stride for side in pixels.shape[:2])
        if min(height, width) == 0:
            continue
        shown = torch.from_numpy(pixels)[None, :height, :width].to(device)
        wanted = to_float(shown, model.config.data.sample_maximum)
        codes, made = [], []
        for kept, quantized, picture in _prefixes(model, wanted, decoder):
            codes.append(quantized)
            made.append(picture)
            name = "psnr" if kept == stages else f"psnr_stage{kept}"
            value = psnr((picture + 1) / 2, (wanted + 1) / 2)
            found.setdefault(f"validation/{name}", []).append(float(value))
        counters.add(codes[0])
        if index < _PICTURES:
            pictures = torch.cat([wanted, *made], dim=3)[0]
            if len(pictures) not in (1, 3):  # which no picture can show: the first channel
                pictures = pictures[:1]
            board.add_image(f"original and reconstruction/{index}", (pictures + 1) / 2, step)
    report_broken(broken, report)
    if drawn is not None and found:
        wanted = to_float(torch.from_numpy(drawn).to(device))
        *_, (_, _, picture) = _prefixes(model, wanted, decoder)
        values = psnr((picture + 1) / 2, (wanted + 1) / 2).clamp_max(50)
        found["validation/psnr_drawn"] = [float(value) for value in values]
    figures = {name: sum(values) / len(values) for name, values in found.items()}
    return (figures | counters.figures("validation") if figures else {}), counters.words()


def _prefixes(
    model: Tokenizer, wanted: Tensor, decoder: str
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """How many stages, all codes, and the reconstruction from the first of them, clipped."""
    network = model.decoder_named(decoder)
    quantized = model.quantizer(model.encoder(wanted))
    stages = len(model.config.quantizer.stages)
    for kept in range(1, stages):
        vectors = model.quantizer.vectors_of(quantized.codes[:, :kept])
        yield kept, quantized.codes, network(vectors).clamp(-1, 1)
    yield stages, quantized.codes, network(quantized.vectors).clamp(-1, 1)
